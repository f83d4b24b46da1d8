// SPDX-License-Identifier: Apache-2.0
// Launches dropout.
#include "dropout.h"

#include "launch.h"
#include "ops.h"

namespace tacotune::cuda {
namespace {

float scale_of(float p) { return static_cast<float>(1.0 / (1.0 - p)); }

}  // namespace

void dropout_forward(F32Out out, F32In inp, Int n, float p, Int seed) {
  launch<dropout_forward_kernel>(grid_for(n, ELEMENTS_PER_BLOCK), ELEMENT_THREADS, 0, out.data, inp.data, n, p, scale_of(p), seed);
}

void dropout_backward(F32Out dinp, F32In dout, Int n, float p, Int seed, Int accumulate) {
  launch<dropout_backward_kernel>(grid_for(n, ELEMENTS_PER_BLOCK), ELEMENT_THREADS, 0, dinp.data, dout.data, n, p, scale_of(p), seed, accumulate != 0);
}

}  // namespace tacotune::cuda
