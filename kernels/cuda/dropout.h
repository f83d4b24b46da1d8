// SPDX-License-Identifier: Apache-2.0
// Kernels of dropout. `scale` is 1/(1-p), rounded once on the host.
#pragma once
#include "elements.h"
#include "kernel.h"

#define TACOTUNE_DROPOUT_KERNELS(KERNEL)                                                                      \
  KERNEL(dropout_forward_kernel, (float* out, const float* inp, Int n, float p, float scale, Int seed))       \
  KERNEL(dropout_backward_kernel, (float* dinp, const float* dout, Int n, float p, float scale, Int seed, int accumulate))
TACOTUNE_DECLARE_KERNELS(TACOTUNE_DROPOUT_KERNELS)
