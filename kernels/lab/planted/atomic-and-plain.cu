// SPDX-License-Identifier: Apache-2.0
// One thread reads with a plain load what the others are still updating.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void atomic_and_plain(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(unsigned, s, [1]);
  if (threadIdx.x == 0) s[0] = 0;
  __syncthreads();
  atomicAdd(&s[0], 1u);
  if (!bug) __syncthreads();
  if (threadIdx.x == 0) out[global_index()] = static_cast<float>(s[0]);  // BUG: race
}
PLANTED(atomic_and_plain)

}  // namespace tacotune::cuda
