// SPDX-License-Identifier: Apache-2.0
// SwiGLU: out = silu(gate)·up with silu(g) = g·σ(g), σ(g) = 1/(1+exp(-g)); silu'(g) = σ(g)·(1 + g·(1-σ(g)))
#include <cmath>

#include "reference.h"

namespace tacotune::reference {

void swiglu_forward(F32Out out, F32In gate, F32In up, Int n) {
  for (Int i = 0; i < n; i++) {
    const double g = gate.data[i], sigmoid = 1.0 / (1.0 + std::exp(-g));
    out.data[i] = static_cast<float>(g * sigmoid * up.data[i]);
  }
}

void swiglu_backward(F32Out dgate, F32Out dup, F32In dout, F32In gate, F32In up, Int n) {
  for (Int i = 0; i < n; i++) {
    const double g = gate.data[i], u = up.data[i], dy = dout.data[i], sigmoid = 1.0 / (1.0 + std::exp(-g));
    dgate.data[i] = static_cast<float>(dy * u * sigmoid * (1.0 + g * (1.0 - sigmoid)));
    dup.data[i] = static_cast<float>(dy * g * sigmoid);
  }
}

}  // namespace tacotune::reference
