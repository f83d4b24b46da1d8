// SPDX-License-Identifier: Apache-2.0
// The last thread reads one element past the allocation.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void read_beyond_global(float* out, const float* inp, [[maybe_unused]] float* host) {
  out[global_index()] = inp[global_index() + (bug ? 1 : 0)];  // BUG: out of bounds
}
PLANTED(read_beyond_global)

}  // namespace tacotune::cuda
