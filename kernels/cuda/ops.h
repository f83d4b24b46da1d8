// SPDX-License-Identifier: Apache-2.0
// The CUDA implementation of kernels/ops.h: the same signatures over device addresses. Each op lives in three files:
// NAME.h (its kernels' signatures and tile sizes), NAME.cu (device code), NAME.cc (grid, block, launch).
#pragma once
#include "kernels/ops.h"

namespace tacotune::cuda {

#define TACOTUNE_DECLARE(op, arguments) op##_t op;
TACOTUNE_OPS(TACOTUNE_DECLARE)
#undef TACOTUNE_DECLARE

/// The table of all of them.
const Kernels& cuda_kernels();

}  // namespace tacotune::cuda
