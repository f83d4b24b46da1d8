// SPDX-License-Identifier: Apache-2.0
// The target of a cp.async is read before the wait.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void copy_read_early(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(float, s, [64][4]);
  copy_async_16(s[threadIdx.x], inp + threadIdx.x / 4 * 4);
  copy_async_commit();
  if (!bug) copy_async_wait<0>();
  out[global_index()] = s[threadIdx.x][0];  // BUG: cp.async in flight
  copy_async_wait<0>();
}
PLANTED(copy_read_early)

}  // namespace tacotune::cuda
