// SPDX-License-Identifier: Apache-2.0
// Kernels of embedding. `weight` holds values of the storage type that is the kernel's name's.
#pragma once
#include "elements.h"
#include "fault.h"
#include "kernel.h"

#define TACOTUNE_EMBEDDING_FORWARD_PARAMETERS (float* out, const int32_t* ids, const void* weight, Int V, Int C, Fault* fault, int32_t op)
#define TACOTUNE_EMBEDDING_KERNELS(KERNEL)                                                   \
  KERNEL(embedding_forward_f32_kernel, TACOTUNE_EMBEDDING_FORWARD_PARAMETERS)                \
  KERNEL(embedding_forward_bf16_kernel, TACOTUNE_EMBEDDING_FORWARD_PARAMETERS)               \
  KERNEL(embedding_forward_f16_kernel, TACOTUNE_EMBEDDING_FORWARD_PARAMETERS)                \
  KERNEL(embedding_backward_kernel, (float* dweight, const float* dout, const int32_t* ids, Int M, Int V, Int C, Fault* fault, int32_t op))
TACOTUNE_DECLARE_KERNELS(TACOTUNE_EMBEDDING_KERNELS)
