// SPDX-License-Identifier: Apache-2.0
// A thread waits for its own copies and reads those of others without a barrier.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void copy_unshared(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(float, s, [64][4]);
  copy_async_16(s[threadIdx.x], inp + threadIdx.x / 4 * 4);
  copy_async_commit();
  copy_async_wait<0>();
  if (!bug) __syncthreads();
  out[global_index()] = s[63 - threadIdx.x][0];  // BUG: race|cp.async in flight
}
PLANTED(copy_unshared)

}  // namespace tacotune::cuda
