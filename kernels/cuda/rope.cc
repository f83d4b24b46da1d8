// SPDX-License-Identifier: Apache-2.0
// Launches rope.
#include "rope.h"

#include "launch.h"
#include "ops.h"

namespace tacotune::cuda {
namespace {

void turn(F32Out x, F32In table, I32In positions, Int M, Int H, Int D, Int P, float direction) {
  const Int pairs = M * H * (D / 2);
  launch<rope_kernel>(grid_for(pairs, ROPE_THREADS), ROPE_THREADS, 0, x.data, table.data, positions.data, pairs, H, D, P, direction, fault_slot(), current_op());
}

}  // namespace

void rope_forward(F32Out x, F32In table, I32In positions, Int M, Int H, Int D, Int P) { turn(x, table, positions, M, H, D, P, 1.0f); }
void rope_backward(F32Out x, F32In table, I32In positions, Int M, Int H, Int D, Int P) { turn(x, table, positions, M, H, D, P, -1.0f); }

}  // namespace tacotune::cuda
