// SPDX-License-Identifier: Apache-2.0
// Half of an array is never written, and read.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void uninitialised_shared(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(float, s, [64]);
  if (!bug || threadIdx.x < 32) s[threadIdx.x] = inp[global_index()];
  __syncthreads();
  out[global_index()] = s[63 - threadIdx.x];  // BUG: uninitialised
}
PLANTED(uninitialised_shared)

}  // namespace tacotune::cuda
