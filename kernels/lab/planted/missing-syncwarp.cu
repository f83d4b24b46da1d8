// SPDX-License-Identifier: Apache-2.0
// Lanes of a warp exchange values through shared memory as if they ran in step.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void missing_syncwarp(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(float, s, [64]);
  s[threadIdx.x] = inp[global_index()];
  if (!bug) __syncwarp();
  out[global_index()] = s[threadIdx.x ^ 1];  // BUG: race
}
PLANTED(missing_syncwarp)

}  // namespace tacotune::cuda
