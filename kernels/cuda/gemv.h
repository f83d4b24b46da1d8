// SPDX-License-Identifier: Apache-2.0
// Forward products of very few rows, as in generation: out (M,N) = alpha·inp·weightᵀ with M ≤ GEMV_ROWS. Memory is the bound,
// so each weight is read once and decoded in registers.
//
// Lines of the weight and of inp begin at multiples of 16 bytes; those of NF4 are whole blocks of 64.
#pragma once
#include "kernel.h"

namespace tacotune::cuda {

constexpr Int GEMV_ROWS = 8;      // the columns of an mma.sync fragment
constexpr int GEMV_COLUMNS = 32;  // of out, by a block
constexpr int GEMV_WARPS = 8;
constexpr int GEMV_THREADS = GEMV_WARPS * 32;

struct Gemv {
  float* out;        // (M,N)
  const float* inp;  // (M,K)
  const void* weight;  // (N,K)
  const uint8_t* absmax_codes;  // of an NF4 weight, or null
  const float* absmax;
  float absmax_offset;
  float alpha;
  Int accumulate;
  Int M, N, K;
};

}  // namespace tacotune::cuda

#define TACOTUNE_GEMV_KERNELS(KERNEL) \
  KERNEL(gemv_f32_kernel, (Gemv p))   \
  KERNEL(gemv_bf16_kernel, (Gemv p))  \
  KERNEL(gemv_f16_kernel, (Gemv p))   \
  KERNEL(gemv_nf4_kernel, (Gemv p))
TACOTUNE_DECLARE_KERNELS(TACOTUNE_GEMV_KERNELS)
