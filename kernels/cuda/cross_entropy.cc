// SPDX-License-Identifier: Apache-2.0
// The head and its loss, fused: logits of a few rows at a time, so that (M,V) never exists. For the rows of a chunk
//
//     logits  = inp·weightᵀ        loss, dlogits: cross_entropy.cu, dlogits written over the logits
//     dinp    = scale·dlogits·weight        dweight += scale·dlogitsᵀ·inp
//
// Scratch beside the products', in bytes, `up` rounding to a multiple of 8 and rows = min(M, max(16, 16·⌊2^20/up(V)⌋)):
//
//     4·M + 4   and   4·rows·up(V)   and   rows·C·4 in f32 or rows·up(C)·2 in bf16   and, for gradients, rows·C·4
//
// The products of a chunk are those of linear.h with M = rows, on operands that are ready but for a weight of f32.
#include "cross_entropy.h"

#include <algorithm>

#include "launch.h"
#include "linear.h"
#include "ops.h"

namespace tacotune::cuda {
namespace {

Int logits_rows(Int M, Int pitch) {
  return std::min(M, std::max(LEAST_LOGITS_ROWS, LOGITS_BYTES / (4 * std::max<Int>(pitch, 1)) / LEAST_LOGITS_ROWS * LEAST_LOGITS_ROWS));
}

/// What the backward pass makes; null where only losses are asked for.
struct Gradients {
  F32Out dinp, dweight;
  float scale;
};

void cross_entropy(F32Out loss, const Gradients* gradients, F32In inp, BytesIn weight_bytes, Int weight_type, I32In labels, Int M, Int V, Int C, Int compute) {
  if (M == 0) return;
  const bool bf16 = compute == COMPUTE_BF16;
  const Int pitch = padded(V), chunk = logits_rows(M, pitch), x_pitch = bf16 ? padded(C) : C;
  int32_t* const rows = scratch_of<int32_t>(M + 1);
  int32_t* const count = rows + M;
  float* const logits = scratch_of<float>(chunk * pitch);
  float* const dx = gradients ? scratch_of<float>(chunk * C) : nullptr;
  const Matrix x = bf16 ? Matrix{scratch_of<uint16_t>(chunk * x_pitch), STORE_BF16, chunk, C, x_pitch} : dense_matrix(scratch_of<float>(chunk * C), STORE_F32, chunk, C);
  // dlogits take the place of the logits, which have been read by then.
  const Matrix dlogits = bf16 ? Matrix{logits, STORE_BF16, chunk, V, 2 * pitch} : Matrix{logits, STORE_F32, chunk, V, pitch};
  const Matrix dense = dense_matrix(weight_bytes.data, weight_type, V, C), weight = bf16 ? tensor_matrix(dense) : dense;
  Workspace workspace;

  launch<find_targets_kernel>({1}, HEAD_THREADS, 0, rows, count, loss.data, labels.data, M, V, fault_slot(), current_op());
  if (gradients) launch<clear_rows_kernel>({M}, HEAD_THREADS, 0, gradients->dinp.data, labels.data, V, C);
  for (Int first = 0; first < M; first += chunk) {
    const Rows present = {count, first};
    const Grid grid = {chunk};
    if (bf16) launch<gather_rows_bf16_kernel>(grid, HEAD_THREADS, 0, static_cast<uint16_t*>(const_cast<void*>(x.data)), x_pitch, inp.data, rows, count, first, C);
    else launch<gather_rows_f32_kernel>(grid, HEAD_THREADS, 0, static_cast<float*>(const_cast<void*>(x.data)), inp.data, rows, count, first, C);
    product(Pattern::FORWARD, logits, pitch, x, weight, 1.0f, 0, compute, workspace, present);
    if (!gradients) {
      launch<head_loss_kernel>(grid, HEAD_THREADS, 0, loss.data, logits, pitch, labels.data, rows, count, first, V);
      continue;
    }
    if (bf16) launch<head_gradient_bf16_kernel>(grid, HEAD_THREADS, 0, loss.data, logits, pitch, labels.data, rows, count, first, V);
    else launch<head_gradient_f32_kernel>(grid, HEAD_THREADS, 0, loss.data, logits, pitch, labels.data, rows, count, first, V);
    if (gradients->dweight.count) product(Pattern::WEIGHT, gradients->dweight.data, C, dlogits, x, gradients->scale, 1, compute, workspace, present);
    product(Pattern::BACKWARD, dx, C, dlogits, weight, gradients->scale, 0, compute, workspace, present);
    launch<scatter_rows_kernel>(grid, HEAD_THREADS, 0, gradients->dinp.data, dx, rows, count, first, C);
  }
}

}  // namespace

void cross_entropy_forward(F32Out loss, F32In inp, BytesIn weight, Int weight_type, I32In labels, Int M, Int V, Int C, Int compute) {
  cross_entropy(loss, nullptr, inp, weight, weight_type, labels, M, V, C, compute);
}

void cross_entropy_forward_backward(F32Out loss, F32Out dinp, F32Out dweight, F32In inp, BytesIn weight, Int weight_type, I32In labels, float scale, Int M, Int V, Int C,
                                    Int compute) {
  const Gradients gradients = {dinp, dweight, scale};
  cross_entropy(loss, &gradients, inp, weight, weight_type, labels, M, V, C, compute);
}

}  // namespace tacotune::cuda
