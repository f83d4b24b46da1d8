// SPDX-License-Identifier: Apache-2.0
// Kernels of swiglu.
#pragma once
#include "elements.h"
#include "kernel.h"

#define TACOTUNE_SWIGLU_KERNELS(KERNEL)                                                      \
  KERNEL(swiglu_forward_kernel, (float* out, const float* gate, const float* up, Int n))     \
  KERNEL(swiglu_backward_kernel, (float* dgate, float* dup, const float* dout, const float* gate, const float* up, Int n))
TACOTUNE_DECLARE_KERNELS(TACOTUNE_SWIGLU_KERNELS)
