// SPDX-License-Identifier: Apache-2.0
// Decoding of NF4 weights for the TensorFlow op: what its kernels are given, and the two that do it. Layout: kernels/quant.h.
#pragma once
#include <cstddef>
#include <cstdint>

namespace tacotune::tensorflow {

/// A weight (N,K) in the memory of the kernel's device.
struct Nf4Weight {
  const uint8_t* codes;         // (⌈N·K/64⌉·32) or more
  const uint8_t* absmax_codes;  // (⌈N·K/64⌉) or more; null where the absmax is not quantised
  const float* absmax;          // (⌈N·K/64⌉), or with absmax_codes one for 256 of them
  const float* offset;          // (1)
  int64_t N, K;
};

/// weight (N,K)
void nf4_decode(float* weight, const Nf4Weight& packed);

/// out (M,N) = inp (M,K)·weightᵀ for few rows: each block of 64 is decoded once and never written to memory.
void nf4_product(float* out, const float* inp, const Nf4Weight& packed, int64_t M);

#ifdef TACOTUNE_TFJS_CUDA
/// nf4_decode on the current GPU. Waits for all work of the GPU before and after: see nf4_cuda.cu. Returns an error or null.
const char* nf4_decode_cuda(float* weight, const Nf4Weight& packed);
#endif

}  // namespace tacotune::tensorflow
