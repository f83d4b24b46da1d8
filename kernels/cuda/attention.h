// SPDX-License-Identifier: Apache-2.0
// The kernels of attention, in two families. The exact ones (attention.cu) multiply in f32 and take any sizes; the flash
// ones (flash_forward.cu, flash_backward.cu) multiply in bf16 and take heads up to 128 wide. attention.cc chooses.
//
// Scratch, in bytes, each array rounded up to 256; W is 32, 64, 96 or 128, whichever holds D:
//   forward,  exact   splits > 1: 4·B·Tq·Hq·splits·(D+2), at most 4·(1024+B·Tq·Hq·⌈D/128⌉)·(D+2); otherwise nothing
//   forward,  flash   2·W·(B·Tq·Hq + 2·B·Tk·Hkv)
//   backward, exact   4·B·T·Hq
//   backward, flash   4·B·T·Hq + 2·W·(2·B·T·Hq + 2·B·T·Hkv)
#pragma once
#include "kernel.h"

namespace tacotune::cuda {

struct Fault;

namespace attention {

constexpr int THREADS = 128;  // of every block here: four warps
constexpr int WARPS = THREADS / 32;

// Exact kernels: a block makes COLUMNS columns of one row; wider heads take several blocks, which compute scores anew.
constexpr int COLUMNS = 128;
// Blocks of them that a multiprocessor is to hold: they wait for memory, so warps count for more than registers.
constexpr int EXACT_BLOCKS = 5;
// Few queries over many keys part the keys so that this many blocks fill any GPU, but not into less than SPLIT_KEYS.
constexpr Int FILLING_BLOCKS = 1024;
constexpr Int SPLIT_KEYS = 256;

// Flash kernels: a block owns TILE queries (or keys) of one head, a warp 16 of them.
constexpr int TILE = 16 * WARPS;
constexpr int WIDEST = 128;
// Below this many queries a tile would be mostly empty and rounding the cache would cost more than the products.
constexpr Int LEAST_QUERIES = 16;
/// Blocks that a multiprocessor is to hold at once: as many as leave each thread the registers it needs without spilling.
template <int W>
constexpr int RESIDENT_BLOCKS = W <= 32 ? 4 : W <= 64 ? 3 : 2;
/// Queries that the backward kernel of keys takes at once: what registers leave beside two accumulators (16,W) a warp.
constexpr int QUERY_STEP = 32;

}  // namespace attention

#define TACOTUNE_FLASH_FORWARD_PARAMETERS                                                                                       \
  (float* out, float* lse, const uint16_t* q, const uint16_t* k, const uint16_t* v, const int32_t* starts, Fault* fault, int32_t op, \
   Int B, Int Tq, Int Tk, Int Hq, Int Hkv, Int D, float scale)
#define TACOTUNE_FLASH_BACKWARD_QUERIES_PARAMETERS                                                                                  \
  (float* dq, const uint16_t* dout, const uint16_t* q, const uint16_t* k, const uint16_t* v, const float* delta, const float* lse,     \
   const int32_t* starts, Fault* fault, int32_t op, Int B, Int T, Int Hq, Int Hkv, Int D, float scale)
#define TACOTUNE_FLASH_BACKWARD_KEYS_PARAMETERS                                                                                     \
  (float* dk, float* dv, const uint16_t* dout, const uint16_t* q, const uint16_t* k, const uint16_t* v, const float* delta,            \
   const float* lse, const int32_t* starts, Fault* fault, int32_t op, Int B, Int T, Int Hq, Int Hkv, Int D, float scale)

// In the exact kernels `partial` is (B·Tq·Hq, splits, D+2): a sum over keys, its largest score and its sum of exponentials.
// delta (B,Hq,T) is Σ dout·out. What is rounded stands in rows of W columns, zero beyond D.
#define TACOTUNE_ATTENTION_KERNELS(KERNEL)                                                                                         \
  KERNEL(attention_forward_kernel, (float* out, float* lse, float* partial, const float* q, const float* k, const float* v,         \
                                    const int32_t* starts, Fault* fault, int32_t op, Int Tq, Int Tk, Int Hq, Int Hkv, Int D,         \
                                    Int split_keys, float scale))                                                                  \
  KERNEL(attention_combine_kernel, (float* out, float* lse, const float* partial, Int Tq, Int Hq, Int D, Int splits))                \
  KERNEL(attention_delta_kernel, (float* delta, uint16_t* dout_rounded, const float* dout, const float* out, Int T, Int Hq, Int D,    \
                                  Int W, Int rows))                                                                                \
  KERNEL(attention_backward_queries_kernel, (float* dq, const float* dout, const float* q, const float* k, const float* v,          \
                                             const float* delta, const float* lse, const int32_t* starts, Fault* fault, int32_t op, \
                                             Int T, Int Hq, Int Hkv, Int D, float scale))                                          \
  KERNEL(attention_backward_keys_kernel, (float* dk, float* dv, const float* dout, const float* q, const float* k, const float* v,   \
                                          const float* delta, const float* lse, const int32_t* starts, Fault* fault, int32_t op,   \
                                          Int T, Int Hq, Int Hkv, Int D, float scale))                                             \
  KERNEL(attention_round_kernel, (uint16_t* q_rounded, uint16_t* k_rounded, uint16_t* v_rounded, const float* q, const float* k,     \
                                  const float* v, Int q_rows, Int k_rows, Int D, Int W))                                            \
  KERNEL(flash_forward_32_kernel, TACOTUNE_FLASH_FORWARD_PARAMETERS)                                                               \
  KERNEL(flash_forward_64_kernel, TACOTUNE_FLASH_FORWARD_PARAMETERS)                                                               \
  KERNEL(flash_forward_96_kernel, TACOTUNE_FLASH_FORWARD_PARAMETERS)                                                               \
  KERNEL(flash_forward_128_kernel, TACOTUNE_FLASH_FORWARD_PARAMETERS)                                                              \
  KERNEL(flash_backward_queries_32_kernel, TACOTUNE_FLASH_BACKWARD_QUERIES_PARAMETERS)                                             \
  KERNEL(flash_backward_queries_64_kernel, TACOTUNE_FLASH_BACKWARD_QUERIES_PARAMETERS)                                             \
  KERNEL(flash_backward_queries_96_kernel, TACOTUNE_FLASH_BACKWARD_QUERIES_PARAMETERS)                                             \
  KERNEL(flash_backward_queries_128_kernel, TACOTUNE_FLASH_BACKWARD_QUERIES_PARAMETERS)                                            \
  KERNEL(flash_backward_keys_32_kernel, TACOTUNE_FLASH_BACKWARD_KEYS_PARAMETERS)                                                   \
  KERNEL(flash_backward_keys_64_kernel, TACOTUNE_FLASH_BACKWARD_KEYS_PARAMETERS)                                                   \
  KERNEL(flash_backward_keys_96_kernel, TACOTUNE_FLASH_BACKWARD_KEYS_PARAMETERS)                                                   \
  KERNEL(flash_backward_keys_128_kernel, TACOTUNE_FLASH_BACKWARD_KEYS_PARAMETERS)

}  // namespace tacotune::cuda

TACOTUNE_DECLARE_KERNELS(TACOTUNE_ATTENTION_KERNELS)
