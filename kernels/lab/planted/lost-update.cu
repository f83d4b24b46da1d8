// SPDX-License-Identifier: Apache-2.0
// Threads add to one place without an atomic; run one at a time, they even give the right sum.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void lost_update(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(float, s, [1]);
  if (threadIdx.x == 0) s[0] = 0.0f;
  __syncthreads();
  if (bug) s[0] += 1.0f;  // BUG: race
  else atomicAdd(&s[0], 1.0f);
  __syncthreads();
  if (threadIdx.x == 0) out[global_index()] = s[0];
}
PLANTED(lost_update)

}  // namespace tacotune::cuda
