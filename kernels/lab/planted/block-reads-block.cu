// SPDX-License-Identifier: Apache-2.0
// A block reads what the other one of the launch writes.
#include "planted.h"

namespace tacotune::cuda {

template <bool bug>
__device__ __forceinline__ void block_reads_block(float* out, const float* inp, [[maybe_unused]] float* host) {
  out[global_index()] = inp[global_index()];
  const unsigned from = bug ? (global_index() + 64) % 128 : global_index();
  const float value = blockIdx.x == 1 ? out[from] : 0.0f;  // BUG: race
  if (blockIdx.x == 1) out[global_index()] = value + 1.0f;
}
PLANTED(block_reads_block)

}  // namespace tacotune::cuda
