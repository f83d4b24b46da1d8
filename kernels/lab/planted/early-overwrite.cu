// SPDX-License-Identifier: Apache-2.0
// The second round overwrites what other warps may still be reading.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void early_overwrite(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(float, s, [64]);
  float sum = 0.0f;
  for (int round = 0; round < 2; round++) {
    s[threadIdx.x] = inp[global_index()] + static_cast<float>(round);  // BUG: race
    __syncthreads();
    sum += s[63 - threadIdx.x];
    if (!bug) __syncthreads();
  }
  out[global_index()] = sum;
}
PLANTED(early_overwrite)

}  // namespace tacotune::cuda
