// SPDX-License-Identifier: Apache-2.0
// More shared memory than a block can have.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void shared_too_large(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(float, small, [64]);
  small[threadIdx.x] = inp[global_index()];
  if (bug) {
    SHARED(float, large, [65536]);  // BUG: bytes of shared memory
    large[threadIdx.x] = small[threadIdx.x];
  }
  out[global_index()] = small[threadIdx.x];
}
PLANTED(shared_too_large)

}  // namespace tacotune::cuda
