// SPDX-License-Identifier: Apache-2.0
// Does this device place the elements of matrix fragments where the kernels believe? Asked by tacotune doctor of a real
// GPU, and by the tests of the emulator and the PTX interpreter: what those agree on is checked here once more.
#pragma once
#include "kernel.h"

#define TACOTUNE_PROBE_KERNELS(KERNEL)                                         \
  KERNEL(mma_probe_kernel, (float* out))           /* (256,128,32,4) */        \
  KERNEL(ldmatrix_probe_kernel, (uint32_t* out))   /* (32,2,4) */              \
  KERNEL(copy_async_probe_kernel, (uint32_t* out, const uint32_t* inp)) /* (32,4), (32,4) */
TACOTUNE_DECLARE_KERNELS(TACOTUNE_PROBE_KERNELS)

namespace tacotune::cuda {

constexpr int MMA_A_ELEMENTS = 256, MMA_B_ELEMENTS = 128, MMA_OUTPUTS = 128;  // of one m16n8k16 product

struct ProbeResult {
  const char* name;
  int64_t compared, mismatches;
};

/// Runs the three probes on the current GPU. results[0 … 2]: mma, ldmatrix, cp.async.
void probe(ProbeResult (&results)[3]);

}  // namespace tacotune::cuda
