// SPDX-License-Identifier: Apache-2.0
// The kernel of rope.
#pragma once
#include "kernel.h"

namespace tacotune::cuda {

struct Fault;
constexpr int ROPE_THREADS = 256;

}  // namespace tacotune::cuda

// A thread turns one pair (x[d], x[d+D/2]) of one head of one row. `direction` 1 turns forward, -1 back.
#define TACOTUNE_ROPE_KERNELS(KERNEL) \
  KERNEL(rope_kernel, (float* x, const float* table, const int32_t* positions, Int pairs, Int H, Int D, Int P, float direction, Fault* fault, int32_t op))
TACOTUNE_DECLARE_KERNELS(TACOTUNE_ROPE_KERNELS)
