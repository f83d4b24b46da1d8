// SPDX-License-Identifier: Apache-2.0
// Kernels of the optimizers. What depends on the step alone is worked out on the host, once a call, in double.
#pragma once
#include "elements.h"
#include "kernel.h"

namespace tacotune::cuda {

struct AdamwRates {
  float beta1, rest1, beta2, rest2;  // rest: 1 - beta
  float grad_scale, decay;           // decay: 1 - learning_rate·weight_decay
  float step_size, root, eps;        // step_size: learning_rate/(1-beta1^step); root: 1/sqrt(1-beta2^step)
};

struct Adamw8BitRates {
  double beta1, rest1, beta2, rest2, grad_scale;  // the betas and rests are f32 values
  float step_size, eps, decay;                    // with the bias corrections
};

constexpr Int STATE_BLOCK = 256;  // elements that share an absmax; a warp has one block

}  // namespace tacotune::cuda

#define TACOTUNE_OPTIMIZER_KERNELS(KERNEL)                                                              \
  KERNEL(adamw_kernel, (float* param, const float* grad, float* m, float* v, Int n, AdamwRates rates))  \
  KERNEL(adamw_8bit_kernel,                                                                             \
         (float* param, const float* grad, uint8_t* m, uint8_t* v, float* m_absmax, float* v_absmax, Int n, Adamw8BitRates rates))
TACOTUNE_DECLARE_KERNELS(TACOTUNE_OPTIMIZER_KERNELS)
