// SPDX-License-Identifier: Apache-2.0
// An index runs past the end of a shared array.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void beyond_shared(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(float, s, [64]);
  float* const p = s;
  p[threadIdx.x] = 0.0f;
  __syncthreads();
  if (threadIdx.x == 63) p[threadIdx.x + (bug ? 1 : 0)] = inp[global_index()];  // BUG: out of bounds
  out[global_index()] = p[threadIdx.x];
}
PLANTED(beyond_shared)

}  // namespace tacotune::cuda
