// SPDX-License-Identifier: Apache-2.0
// The wait leaves the very group in flight that is read next.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void copy_wrong_group(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(float, s, [2][64][4]);
  for (int stage = 0; stage < 2; stage++) {
    copy_async_16(s[stage][threadIdx.x], inp + threadIdx.x / 4 * 4);
    copy_async_commit();
  }
  copy_async_wait<1>();
  out[global_index()] = s[bug ? 1 : 0][threadIdx.x][0];  // BUG: cp.async in flight
  copy_async_wait<0>();
}
PLANTED(copy_wrong_group)

}  // namespace tacotune::cuda
