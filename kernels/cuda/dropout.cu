// SPDX-License-Identifier: Apache-2.0
// Dropout: element i is kept where philox(seed, i) is at least p, and scaled by 1/(1-p). The generator gives four words for
// a counter of i/4: exactly what a thread's four elements need, so each block of words is drawn once.
#include "dropout.h"

#include "elements.cuh"

namespace tacotune::cuda {
namespace {

/// Philox4x32-10 (Salmon et al. 2011); the counter and key of ops.h.
__device__ __forceinline__ void philox(uint32_t (&words)[4], Int counter, Int seed) {
  uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32), c2 = 0, c3 = 0;
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const uint64_t a = 0xD2511F53ull * c0, b = 0xCD9E8D57ull * c2;
    c0 = static_cast<uint32_t>(b >> 32) ^ c1 ^ key0;
    c1 = static_cast<uint32_t>(b);
    c2 = static_cast<uint32_t>(a >> 32) ^ c3 ^ key1;
    c3 = static_cast<uint32_t>(a);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
}

/// The elements first … first+3, dropped or scaled. The 24 bits of the uniform number fit an f32: the comparison is exact.
__device__ __forceinline__ Four dropped(const Four& x, Int first, float p, float scale, Int seed) {
  uint32_t words[4];
  philox(words, first / 4, seed);
  Four y;
#pragma unroll
  for (int j = 0; j < 4; j++) y.at[j] = static_cast<float>(words[j] >> 8) * 0x1p-24f >= p ? x.at[j] * scale : 0.0f;
  return y;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS)
    dropout_forward_kernel(float* out, const float* inp, Int n, float p, float scale, Int seed) {
  const Int i = first_element();
  if (i >= n) return;
  const bool wide = aligned_to(16, out, inp);
  store_four(out + i, dropped(load_four(inp + i, n - i, wide), i, p, scale, seed), n - i, wide);
}
EXPORT_KERNEL(dropout_forward_kernel);

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS)
    dropout_backward_kernel(float* dinp, const float* dout, Int n, float p, float scale, Int seed, int accumulate) {
  const Int i = first_element();
  if (i >= n) return;
  const bool wide = aligned_to(16, dinp, dout);
  Four d = dropped(load_four(dout + i, n - i, wide), i, p, scale, seed);
  if (accumulate) {
    const Four before = load_four(dinp + i, n - i, wide);
#pragma unroll
    for (int j = 0; j < 4; j++) d.at[j] += before.at[j];
  }
  store_four(dinp + i, d, n - i, wide);
}
EXPORT_KERNEL(dropout_backward_kernel);

}  // namespace tacotune::cuda
