// SPDX-License-Identifier: Apache-2.0
// A shift by as many bits as there are: one thing on a GPU, another on a processor.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void wide_shift(float* out, const float* inp, [[maybe_unused]] float* host) {
  const unsigned bits = threadIdx.x % 32 + (bug ? 1 : 0);
  out[global_index()] = static_cast<float>(1u << bits) + inp[global_index()];  // BUG: shift
}
PLANTED(wide_shift)

}  // namespace tacotune::cuda
