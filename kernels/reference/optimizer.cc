// SPDX-License-Identifier: Apache-2.0
// Adam with decoupled weight decay (Loshchilov & Hutter 2019), with 32-bit states as torch computes it, and with block-wise
// 8-bit states (Dettmers et al. 2022) as the GPU kernel of bitsandbytes computes it.
#include <algorithm>
#include <cmath>

#include "numbers.h"
#include "reference.h"

namespace tacotune::reference {

void adamw(F32Out param, F32In grad, F32Out m, F32Out v, Int n, double learning_rate, double beta1, double beta2, double eps,
           double weight_decay, Int step, double grad_scale) {
  const double correction1 = 1.0 - std::pow(beta1, static_cast<double>(step));
  const double correction2 = 1.0 - std::pow(beta2, static_cast<double>(step));
  for (Int i = 0; i < n; i++) {
    const double g = grad.data[i] * grad_scale;
    m.data[i] = static_cast<float>(beta1 * m.data[i] + (1.0 - beta1) * g);
    v.data[i] = static_cast<float>(beta2 * v.data[i] + (1.0 - beta2) * g * g);
    const double decayed = param.data[i] * (1.0 - learning_rate * weight_decay);
    const double update = (m.data[i] / correction1) / (std::sqrt(v.data[i] / correction2) + eps);
    param.data[i] = static_cast<float>(decayed - learning_rate * update);
  }
}

void adamw_8bit(F32Out param, F32In grad, U8Out m, U8Out v, F32Out m_absmax, F32Out v_absmax, Int n, double learning_rate,
                double beta1, double beta2, double eps, double weight_decay, Int step, double grad_scale) {
  const DynamicMap &m_map = SIGNED_DYNAMIC_MAP, &v_map = UNSIGNED_DYNAMIC_MAP;
  // The kernel holds its rates in f32: 1 - 0.999 is 1.3e-5 larger there, and v with it.
  const float b1 = static_cast<float>(beta1), b2 = static_cast<float>(beta2);
  const double correction1 = 1.0 - std::pow(beta1, static_cast<double>(step));
  const double correction2 = std::sqrt(1.0 - std::pow(beta2, static_cast<double>(step)));
  const double step_size = learning_rate * correction2 / correction1;
  for (Int start = 0; start < n; start += 256) {
    const Int block = start / 256, size = std::min<Int>(256, n - start);
    float new_m[256], new_v[256], largest_m = 0, largest_v = 0;
    for (Int j = 0; j < size; j++) {
      const Int i = start + j;
      const double g = grad.data[i] * grad_scale;
      const double old_m = m_map.values[m.data[i]] * m_absmax.data[block], old_v = v_map.values[v.data[i]] * v_absmax.data[block];
      new_m[j] = static_cast<float>(b1 * old_m + (1.0f - b1) * g);
      new_v[j] = static_cast<float>(b2 * old_v + (1.0f - b2) * g * g);
      largest_m = std::max(largest_m, std::fabs(new_m[j]));
      largest_v = std::max(largest_v, new_v[j]);
      const double updated = param.data[i] - step_size * (new_m[j] / (std::sqrt(static_cast<double>(new_v[j])) + correction2 * eps));
      param.data[i] = static_cast<float>(updated * (1.0 - learning_rate * weight_decay));
    }
    for (Int j = 0; j < size; j++) {
      // A block without any gradient so far: 0 of 0 is code 0's value times 0 whatever the code; take the code of 0.
      uint8_t m_code = nearest_code(m_map, largest_m > 0 ? new_m[j] / largest_m : 0.0f);
      const uint8_t v_code = nearest_code(v_map, largest_v > 0 ? new_v[j] / largest_v : 0.0f);
      // The direction of a step must survive the rounding.
      if (new_m[j] != 0 && std::signbit(m_map.values[m_code]) != std::signbit(new_m[j])) m_code = static_cast<uint8_t>(new_m[j] > 0 ? m_code + 1 : m_code - 1);
      m.data[start + j] = m_code;
      v.data[start + j] = v_code;
    }
    m_absmax.data[block] = largest_m;
    v_absmax.data[block] = largest_v;
  }
}

}  // namespace tacotune::reference
