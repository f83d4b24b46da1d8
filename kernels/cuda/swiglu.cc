// SPDX-License-Identifier: Apache-2.0
// Launches swiglu.
#include "swiglu.h"

#include "launch.h"
#include "ops.h"

namespace tacotune::cuda {

void swiglu_forward(F32Out out, F32In gate, F32In up, Int n) {
  launch<swiglu_forward_kernel>(grid_for(n, ELEMENTS_PER_BLOCK), ELEMENT_THREADS, 0, out.data, gate.data, up.data, n);
}

void swiglu_backward(F32Out dgate, F32Out dup, F32In dout, F32In gate, F32In up, Int n) {
  launch<swiglu_backward_kernel>(grid_for(n, ELEMENTS_PER_BLOCK), ELEMENT_THREADS, 0, dgate.data, dup.data, dout.data, gate.data, up.data, n);
}

}  // namespace tacotune::cuda
