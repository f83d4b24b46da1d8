// SPDX-License-Identifier: Apache-2.0
// Launches the optimizers; the rates are worked out as in cpu/optimizer.inc.
#include "optimizer.h"

#include <cmath>

#include "launch.h"
#include "ops.h"

namespace tacotune::cuda {

void adamw(F32Out param, F32In grad, F32Out m, F32Out v, Int n, double learning_rate, double beta1, double beta2, double eps,
           double weight_decay, Int step, double grad_scale) {
  const double correction1 = 1.0 - std::pow(beta1, static_cast<double>(step)), correction2 = 1.0 - std::pow(beta2, static_cast<double>(step));
  AdamwRates rates;
  rates.beta1 = static_cast<float>(beta1), rates.rest1 = static_cast<float>(1.0 - beta1);
  rates.beta2 = static_cast<float>(beta2), rates.rest2 = static_cast<float>(1.0 - beta2);
  rates.grad_scale = static_cast<float>(grad_scale), rates.decay = static_cast<float>(1.0 - learning_rate * weight_decay);
  rates.step_size = static_cast<float>(learning_rate / correction1), rates.root = static_cast<float>(1.0 / std::sqrt(correction2));
  rates.eps = static_cast<float>(eps);
  launch<adamw_kernel>(grid_for(n, ELEMENTS_PER_BLOCK), ELEMENT_THREADS, 0, param.data, grad.data, m.data, v.data, n, rates);
}

void adamw_8bit(F32Out param, F32In grad, U8Out m, U8Out v, F32Out m_absmax, F32Out v_absmax, Int n, double learning_rate,
                double beta1, double beta2, double eps, double weight_decay, Int step, double grad_scale) {
  const double correction1 = 1.0 - std::pow(beta1, static_cast<double>(step));
  const double correction2 = std::sqrt(1.0 - std::pow(beta2, static_cast<double>(step)));
  Adamw8BitRates rates;
  rates.beta1 = static_cast<float>(beta1), rates.rest1 = 1.0f - static_cast<float>(beta1);
  rates.beta2 = static_cast<float>(beta2), rates.rest2 = 1.0f - static_cast<float>(beta2);
  rates.grad_scale = grad_scale;
  rates.step_size = static_cast<float>(learning_rate * correction2 / correction1), rates.eps = static_cast<float>(correction2 * eps);
  rates.decay = static_cast<float>(1.0 - learning_rate * weight_decay);
  launch<adamw_8bit_kernel>(grid_for(n, ELEMENT_WARPS * STATE_BLOCK), ELEMENT_THREADS, 0, param.data, grad.data, m.data, v.data, m_absmax.data,
                            v_absmax.data, n, rates);
}

}  // namespace tacotune::cuda
