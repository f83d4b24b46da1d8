// SPDX-License-Identifier: Apache-2.0
// A pointer into the memory of the host was passed to a kernel.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void host_pointer(float* out, const float* inp, [[maybe_unused]] float* host) {
  const float* const p = bug ? host : inp;
  out[global_index()] = p[global_index()];  // BUG: host pointer
}
PLANTED(host_pointer)

}  // namespace tacotune::cuda
