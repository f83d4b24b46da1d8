// SPDX-License-Identifier: Apache-2.0
// Two blocks write one place: nothing orders blocks of a launch.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void between_blocks(float* out, const float* inp, [[maybe_unused]] float* host) {
  if (threadIdx.x == 0) out[bug ? 0 : blockIdx.x] = inp[blockIdx.x];  // BUG: race
}
PLANTED(between_blocks)

}  // namespace tacotune::cuda
