// SPDX-License-Identifier: Apache-2.0
// Four floats in one load, from an address that is a multiple of 4.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void misaligned_vector(float* out, const float* inp, [[maybe_unused]] float* host) {
  const float4 value = *reinterpret_cast<const float4*>(inp + (bug ? 1 : 0));  // BUG: misaligned
  out[global_index()] = value.x;
}
PLANTED(misaligned_vector)

}  // namespace tacotune::cuda
