// SPDX-License-Identifier: Apache-2.0
// Kernels of the number formats. 16-bit values travel as their bits.
#pragma once
#include "elements.h"
#include "kernel.h"

#define TACOTUNE_FORMATS_KERNELS(KERNEL)                                                                                  \
  KERNEL(nf4_quantize_kernel, (uint8_t* codes, float* absmax, const float* inp, Int n))                                   \
  KERNEL(nf4_offset_kernel, (float* offset, const double* parts, int count, Int blocks))                                  \
  KERNEL(nf4_double_quantize_kernel, (uint8_t* absmax_codes, float* nested, const float* offset, const float* absmax, Int blocks)) \
  KERNEL(nf4_dequantize_kernel,                                                                                           \
         (float* out, const uint8_t* codes, const uint8_t* absmax_codes, const float* absmax, float absmax_offset, Int n)) \
  KERNEL(f32_from_bf16_kernel, (float* out, const uint16_t* inp, Int n))                                                  \
  KERNEL(f32_from_f16_kernel, (float* out, const uint16_t* inp, Int n))                                                   \
  KERNEL(bf16_from_f32_kernel, (uint16_t* out, const float* inp, Int n))                                                  \
  KERNEL(f16_from_f32_kernel, (uint16_t* out, const float* inp, Int n))
TACOTUNE_DECLARE_KERNELS(TACOTUNE_FORMATS_KERNELS)

namespace tacotune::cuda {

constexpr int DEQUANTIZE_ROUNDS = 4;  // a block's tables in shared memory serve so many elements of a thread, times 4

}  // namespace tacotune::cuda
