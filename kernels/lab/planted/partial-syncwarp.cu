// SPDX-License-Identifier: Apache-2.0
// Half of the warp synchronises, and reads what the other half wrote.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void partial_syncwarp(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(float, s, [64]);
  s[threadIdx.x] = inp[global_index()];
  const unsigned lower = 0x0000ffffu;
  if (threadIdx.x % 32 < 16) {
    __syncwarp(lower);
    out[global_index()] = s[threadIdx.x ^ (bug ? 16 : 8)];  // BUG: race
  }
}
PLANTED(partial_syncwarp)

}  // namespace tacotune::cuda
