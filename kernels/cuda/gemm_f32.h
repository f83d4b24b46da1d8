// SPDX-License-Identifier: Apache-2.0
// The matrix product in f32, for any operands: the patterns and the Product of gemm.h without its demands. Plain multiply-adds
// of 64×64 tiles, made to be right and not to be the fastest: the compute type of training is bf16.
#pragma once
#include "gemm.h"

namespace tacotune::cuda {

constexpr int F32_TILE = 64;       // rows and columns of a block's tile
constexpr int F32_THREADS = 256;

}  // namespace tacotune::cuda

#define TACOTUNE_GEMM_F32_KERNELS(KERNEL)           \
  KERNEL(gemm_f32_forward_f32_kernel, (Product p))  \
  KERNEL(gemm_f32_forward_bf16_kernel, (Product p)) \
  KERNEL(gemm_f32_forward_f16_kernel, (Product p))  \
  KERNEL(gemm_f32_forward_nf4_kernel, (Product p))  \
  KERNEL(gemm_f32_backward_f32_kernel, (Product p)) \
  KERNEL(gemm_f32_backward_bf16_kernel, (Product p)) \
  KERNEL(gemm_f32_backward_f16_kernel, (Product p)) \
  KERNEL(gemm_f32_backward_nf4_kernel, (Product p)) \
  KERNEL(gemm_f32_weight_kernel, (Product p))
TACOTUNE_DECLARE_KERNELS(TACOTUNE_GEMM_F32_KERNELS)
