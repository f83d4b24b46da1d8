// SPDX-License-Identifier: Apache-2.0
// The first thread writes one element before the allocation.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void write_before_global(float* out, const float* inp, [[maybe_unused]] float* host) {
  out[static_cast<Int>(global_index()) - (bug ? 1 : 0)] = inp[global_index()];  // BUG: out of bounds
}
PLANTED(write_before_global)

}  // namespace tacotune::cuda
