// SPDX-License-Identifier: Apache-2.0
// Each half of the block waits at a barrier of its own: the counts agree, and no GPU promises that this works.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void two_barriers(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(float, s, [64]);
  if (threadIdx.x < 32) {
    s[threadIdx.x] = inp[global_index()];
    if (bug) __syncthreads();
  } else {
    if (bug) __syncthreads();  // BUG: different barriers
    s[threadIdx.x] = inp[global_index()];
  }
  __syncthreads();
  out[global_index()] = s[threadIdx.x];
}
PLANTED(two_barriers)

}  // namespace tacotune::cuda
