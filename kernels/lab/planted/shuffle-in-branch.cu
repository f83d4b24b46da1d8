// SPDX-License-Identifier: Apache-2.0
// A shuffle of the whole warp stands where only half of it comes by.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void shuffle_in_branch(float* out, const float* inp, [[maybe_unused]] float* host) {
  float value = inp[global_index()];
  if (!bug || threadIdx.x % 32 < 16) value += __shfl_xor_sync(ALL_LANES, value, 1);  // BUG: collective
  out[global_index()] = value;
}
PLANTED(shuffle_in_branch)

}  // namespace tacotune::cuda
