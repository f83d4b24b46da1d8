// SPDX-License-Identifier: Apache-2.0
// cp.async of 16 bytes from an address that is a multiple of 4.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void copy_misaligned(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(float, s, [64][4]);
  copy_async_16(s[threadIdx.x], inp + (bug ? 1 : 0));  // BUG: multiples of 16 bytes
  copy_async_commit();
  copy_async_wait<0>();
  out[global_index()] = s[threadIdx.x][0];
}
PLANTED(copy_misaligned)

}  // namespace tacotune::cuda
