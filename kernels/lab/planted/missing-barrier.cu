// SPDX-License-Identifier: Apache-2.0
// A value that another warp wrote is read without a barrier between.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void missing_barrier(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(float, s, [64]);
  s[threadIdx.x] = inp[global_index()];
  if (!bug) __syncthreads();
  out[global_index()] = s[63 - threadIdx.x];  // BUG: race
}
PLANTED(missing_barrier)

}  // namespace tacotune::cuda
