// SPDX-License-Identifier: Apache-2.0
// The oracle: every op of ops.h as plain loops, read beside its formula. It is the judge of the SIMD kernels and of the
// gradients, so it is never optimised: sums run in double, in the order of the indices, on one thread; results are
// rounded to f32 once. Forward and backward of an op share a file.
#pragma once
#include "kernels/ops.h"

namespace tacotune::reference {

#define TACOTUNE_DECLARE(op, arguments) op##_t op;
TACOTUNE_OPS(TACOTUNE_DECLARE)
#undef TACOTUNE_DECLARE

}  // namespace tacotune::reference
