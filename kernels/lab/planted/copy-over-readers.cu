// SPDX-License-Identifier: Apache-2.0
// The next tile is copied into the buffer that other warps are still reading.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void copy_over_readers(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(float, s, [64][4]);
  float sum = 0.0f;
  for (int tile = 0; tile < 2; tile++) {
    copy_async_16(s[threadIdx.x], inp + 64 * tile + threadIdx.x / 4 * 4);  // BUG: race
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    sum += s[63 - threadIdx.x][0];
    if (!bug) __syncthreads();
  }
  out[global_index()] = sum;
}
PLANTED(copy_over_readers)

}  // namespace tacotune::cuda
