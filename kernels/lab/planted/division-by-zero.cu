// SPDX-License-Identifier: Apache-2.0
// An integer division by zero, which a GPU answers with garbage.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void division_by_zero(float* out, const float* inp, [[maybe_unused]] float* host) {
  const int divisor = static_cast<int>(threadIdx.x) + (bug ? 0 : 1);
  out[global_index()] = static_cast<float>(100 / divisor) + inp[global_index()];  // BUG: divides by zero
}
PLANTED(division_by_zero)

}  // namespace tacotune::cuda
