// SPDX-License-Identifier: Apache-2.0
// An index leaves its row and stays within the array: no check of addresses could see it.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void beyond_row(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(float, s, [8][8]);
  const unsigned row = threadIdx.x / 8, column = threadIdx.x % 8;
  s[row][column] = inp[global_index()];
  out[global_index()] = s[row][bug && threadIdx.x == 7 ? column + 1 : column];  // BUG: index out of range
}
PLANTED(beyond_row)

}  // namespace tacotune::cuda
