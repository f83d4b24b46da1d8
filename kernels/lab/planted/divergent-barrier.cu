// SPDX-License-Identifier: Apache-2.0
// Half of the block returns before a barrier.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void divergent_barrier(float* out, const float* inp, [[maybe_unused]] float* host) {
  out[global_index()] = inp[global_index()];
  if (bug && threadIdx.x >= 32) return;
  __syncthreads();  // BUG: a barrier that only part of the block reaches
  out[global_index()] += 1.0f;
}
PLANTED(divergent_barrier)

}  // namespace tacotune::cuda
