// SPDX-License-Identifier: Apache-2.0
// The mask of a shuffle lacks lanes that call it.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void mask_lacks_lane(float* out, const float* inp, [[maybe_unused]] float* host) {
  const unsigned mask = bug ? 0x0000ffffu : ALL_LANES;
  out[global_index()] = __shfl_sync(mask, inp[global_index()], 0);  // BUG: collective whose mask
}
PLANTED(mask_lacks_lane)

}  // namespace tacotune::cuda
