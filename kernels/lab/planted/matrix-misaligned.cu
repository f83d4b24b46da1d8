// SPDX-License-Identifier: Apache-2.0
// ldmatrix wants rows at multiples of 16 bytes.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void matrix_misaligned(float* out, const float* inp, [[maybe_unused]] float* host) {
  SHARED(uint16_t, s, [64][16]);
  for (int i = 0; i < 16; i++) s[threadIdx.x][i] = 0;
  __syncthreads();
  uint32_t r[4];
  ldmatrix_x4(r, &s[threadIdx.x][bug ? 1 : 0]);  // BUG: not at a multiple of 16 bytes
  out[global_index()] = static_cast<float>(r[0]) + inp[global_index()];
}
PLANTED(matrix_misaligned)

}  // namespace tacotune::cuda
