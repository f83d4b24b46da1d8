// SPDX-License-Identifier: Apache-2.0
// Threads exit while their copies are under way.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void copy_never_awaited(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(float, s, [64][4]);
  copy_async_16(s[threadIdx.x], inp + threadIdx.x / 4 * 4);  // BUG: cp.async never waited for
  copy_async_commit();
  if (!bug) copy_async_wait<0>();
  out[global_index()] = inp[global_index()];
}
PLANTED(copy_never_awaited)

}  // namespace tacotune::cuda
