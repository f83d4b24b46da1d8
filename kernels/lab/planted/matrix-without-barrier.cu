// SPDX-License-Identifier: Apache-2.0
// ldmatrix reads rows that other lanes have just written.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void matrix_without_barrier(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(uint16_t, s, [64][8]);
  for (int i = 0; i < 8; i++) s[threadIdx.x][i] = static_cast<uint16_t>(i);
  if (!bug) __syncwarp();
  uint32_t r[4];
  ldmatrix_x4(r, s[threadIdx.x]);  // BUG: race
  out[global_index()] = static_cast<float>(r[0]) + inp[global_index()];
}
PLANTED(matrix_without_barrier)

}  // namespace tacotune::cuda
