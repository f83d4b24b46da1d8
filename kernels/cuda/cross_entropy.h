// SPDX-License-Identifier: Apache-2.0
// Kernels of the fused head. Rows that have a target are brought together first, on the device, since labels are known only
// there: `rows` lists them in order, *count says how many. A chunk is those from number `first` on; blocks beyond the count
// leave at once, so rows without a target cost nothing but that.
//
// Scratch of the op in bytes, `up` rounding to a multiple of 8 and rows = min(M, max(16, 16·⌊2^20/up(V)⌋)):
//
//     list of rows 4·(M + 1) · logits 4·rows·up(V) · inputs 4·rows·C in f32, 2·rows·up(C) in bf16 · for gradients 4·rows·C
//     a weight that is not ready for bf16 (linear.h) 2·V·up(C)
//     partial results (linear.h): splits(rows, V, C) and, for gradients, splits(rows, C, V) and splits(V, C, rows); what one
//     takes the next ones use, so at most their sum
#pragma once
#include "kernel.h"

namespace tacotune::cuda {

struct Fault;

/// The rows that have a target, from number `first` on: rows[first], …, rows[*count - 1].
struct Chunk {
  const int32_t* rows;
  const int32_t* count;
  Int first;
};

constexpr int HEAD_THREADS = 256;
constexpr int HEAD_WARPS = HEAD_THREADS / 32;
constexpr Int LOGITS_BYTES = Int{64} << 20;  // a chunk of logits: as many rows as fit, but at least LEAST_LOGITS_ROWS
constexpr Int LEAST_LOGITS_ROWS = 16;

}  // namespace tacotune::cuda

// find_targets: fills `rows` (M) and `count` (1), writes loss 0 where there is no target, reports labels out of range (which
//   then count as no target). One block.
// clear_rows: dinp (M,C) = 0 where there is no target.
// gather_rows: out (chunk,pitch) = the chunk's rows of inp (M,C); bf16 is padded with zeros. scatter_rows brings dinp back.
// head_loss: loss of the chunk's rows from logits (chunk,pitch). head_gradient: besides, logits become softmax - onehot(label),
//   as f32, or as bf16 with zeros behind V: row i then begins where the logits of row i began, at twice the pitch.
#define TACOTUNE_CROSS_ENTROPY_KERNELS(KERNEL)                                                                       \
  KERNEL(find_targets_kernel, (int32_t* rows, int32_t* count, float* loss, const int32_t* labels, Int M, Int V,      \
                               Fault* fault, int32_t op))                                                            \
  KERNEL(clear_rows_kernel, (float* dinp, const int32_t* labels, Int V, Int C))                                      \
  KERNEL(gather_rows_f32_kernel, (float* out, const float* inp, Chunk chunk, Int C))                                 \
  KERNEL(gather_rows_bf16_kernel, (uint16_t* out, Int pitch, const float* inp, Chunk chunk, Int C))                  \
  KERNEL(scatter_rows_kernel, (float* out, const float* inp, Chunk chunk, Int C))                                    \
  KERNEL(head_loss_kernel, (float* loss, const float* logits, Int pitch, const int32_t* labels, Chunk chunk, Int V)) \
  KERNEL(head_gradient_f32_kernel, (float* loss, float* logits, Int pitch, const int32_t* labels, Chunk chunk, Int V)) \
  KERNEL(head_gradient_bf16_kernel, (float* loss, float* logits, Int pitch, const int32_t* labels, Chunk chunk, Int V))
TACOTUNE_DECLARE_KERNELS(TACOTUNE_CROSS_ENTROPY_KERNELS)
