// SPDX-License-Identifier: Apache-2.0
// An output is added to that nobody has set.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void uninitialised_global(float* out, const float* inp, [[maybe_unused]] float* host) {
  out[global_index()] = (bug ? out[global_index()] : 0.0f) + inp[global_index()];  // BUG: uninitialised
}
PLANTED(uninitialised_global)

}  // namespace tacotune::cuda
