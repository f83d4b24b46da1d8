// SPDX-License-Identifier: Apache-2.0
// Kernels of add, copy, fill, sum and sum_of_squares. A sum is taken in two passes: a fixed number of blocks, by n alone,
// each leaves one double; then one block adds these in order. The first pass also serves the mean of nf4_double_quantize.
#pragma once
#include "elements.h"
#include "kernel.h"

#define TACOTUNE_ARITHMETIC_KERNELS(KERNEL)                                            \
  KERNEL(add_kernel, (float* out, const float* inp, Int n))                            \
  KERNEL(copy_kernel, (float* out, const float* inp, Int n))                           \
  KERNEL(fill_kernel, (float* out, float value, Int n))                                \
  KERNEL(sum_parts_kernel, (double* parts, const float* inp, Int n))                   \
  KERNEL(sum_of_squares_parts_kernel, (double* parts, const float* inp, Int n))        \
  KERNEL(sum_total_kernel, (float* out, const double* parts, int count, int accumulate))
TACOTUNE_DECLARE_KERNELS(TACOTUNE_ARITHMETIC_KERNELS)

namespace tacotune::cuda {

/// How many parts a sum over n elements is cut into: enough to fill a GPU, few enough for one block to add.
constexpr Int sum_parts(Int n) {
  constexpr Int most = 1024, least_elements = 4 * ELEMENTS_PER_BLOCK;
  const Int parts = (n + least_elements - 1) / least_elements;
  return parts < most ? parts : most;
}

}  // namespace tacotune::cuda
