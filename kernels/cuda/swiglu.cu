// SPDX-License-Identifier: Apache-2.0
// SwiGLU: out = silu(gate)·up with silu(g) = g·σ(g); silu'(g) = σ(g)·(1 + g·(1-σ(g))). Outputs may stand in the place of
// inputs, so a thread reads its elements of every array before it writes, and no pointer is __restrict__.
#include "swiglu.h"

#include "elements.cuh"

namespace tacotune::cuda {
namespace {

struct Sigmoid {
  float value;  // σ(g)
  float rest;   // 1-σ(g), without the cancellation of that difference
};

/// The exponential is taken of -|g| alone: it cannot overflow, and both results keep their precision in both tails.
__device__ __forceinline__ Sigmoid sigmoid(float g) {
  const float e = expf(-fabsf(g)), large = 1.0f / (1.0f + e), small = e * large;
  return g < 0 ? Sigmoid{small, large} : Sigmoid{large, small};
}

}  // namespace

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS) swiglu_forward_kernel(float* out, const float* gate, const float* up, Int n) {
  const Int i = first_element();
  if (i >= n) return;
  const bool wide = aligned_to(16, out, gate, up);
  const Four g = load_four(gate + i, n - i, wide), u = load_four(up + i, n - i, wide);
  Four y;
#pragma unroll
  for (int j = 0; j < 4; j++) y.at[j] = g.at[j] * sigmoid(g.at[j]).value * u.at[j];
  store_four(out + i, y, n - i, wide);
}
EXPORT_KERNEL(swiglu_forward_kernel);

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS)
    swiglu_backward_kernel(float* dgate, float* dup, const float* dout, const float* gate, const float* up, Int n) {
  const Int i = first_element();
  if (i >= n) return;
  const bool wide = aligned_to(16, dgate, dup, dout, gate, up);
  const Four dy = load_four(dout + i, n - i, wide), g = load_four(gate + i, n - i, wide), u = load_four(up + i, n - i, wide);
  Four dg, du;
#pragma unroll
  for (int j = 0; j < 4; j++) {
    const Sigmoid s = sigmoid(g.at[j]);
    dg.at[j] = dy.at[j] * u.at[j] * s.value * (1.0f + g.at[j] * s.rest);
    du.at[j] = dy.at[j] * g.at[j] * s.value;
  }
  store_four(dgate + i, dg, n - i, wide);
  store_four(dup + i, du, n - i, wide);
}
EXPORT_KERNEL(swiglu_backward_kernel);

}  // namespace tacotune::cuda
