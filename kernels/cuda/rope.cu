// SPDX-License-Identifier: Apache-2.0
// Rotary positions: (x[d], x[d+D/2]) → (x[d]·cos - x[d+D/2]·sin, x[d+D/2]·cos + x[d]·sin). Neighbouring threads take
// neighbouring d, so both halves are read whole; a position out of range is reported and its row left as it is.
#include "rope.h"

namespace tacotune::cuda {

extern "C" __global__ void __launch_bounds__(ROPE_THREADS) rope_kernel(float* x, const float* table, const int32_t* positions, Int pairs, Int H, Int D, Int P, float direction,
                                                                       Fault* fault, int32_t op) {
  const Int pair = static_cast<Int>(blockIdx.x) * ROPE_THREADS + threadIdx.x;
  if (pair >= pairs) return;
  const Int half = D / 2, head = pair / half, d = pair % half, m = head / H;
  const int32_t position = positions[m];
  if (position < 0 || position >= P) {
    report_fault(fault, op, m, position);
    return;
  }
  const float* const turn = table + static_cast<Int>(position) * D;
  const float cosine = turn[d], sine = direction * turn[half + d];
  float* const at = x + head * D + d;
  const float a = at[0], b = at[half];
  at[0] = a * cosine - b * sine;
  at[half] = b * cosine + a * sine;
}
EXPORT_KERNEL(rope_kernel);

}  // namespace tacotune::cuda
