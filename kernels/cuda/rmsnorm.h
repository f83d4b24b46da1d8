// SPDX-License-Identifier: Apache-2.0
// Kernels of rmsnorm. The gradient of the weight sums over rows in two passes: each part of the rows, cut by M alone, leaves
// a row of sums (parts,C); then these are added to dweight in order.
#pragma once
#include "elements.h"
#include "kernel.h"

#define TACOTUNE_RMSNORM_KERNELS(KERNEL)                                                                                   \
  KERNEL(rmsnorm_forward_kernel, (float* out, float* rstd, const float* inp, const float* weight, Int C, float eps))       \
  KERNEL(rmsnorm_backward_kernel,                                                                                          \
         (float* dinp, const float* dout, const float* inp, const float* rstd, const float* weight, Int C, int accumulate)) \
  KERNEL(rmsnorm_dweight_parts_kernel, (float* parts, const float* dout, const float* inp, const float* rstd, Int M, Int C, Int rows)) \
  KERNEL(rmsnorm_dweight_kernel, (float* dweight, const float* parts, int count, Int C))
TACOTUNE_DECLARE_KERNELS(TACOTUNE_RMSNORM_KERNELS)

namespace tacotune::cuda {

constexpr int DWEIGHT_THREADS = 128;
constexpr Int DWEIGHT_COLUMNS = 4 * DWEIGHT_THREADS;  // of a block
constexpr Int DWEIGHT_PARTS = 64;                     // at most: beside the columns' blocks they fill a GPU

}  // namespace tacotune::cuda
