// SPDX-License-Identifier: Apache-2.0
// A planted bug: one kernel that has it and a twin that does not. The line of the bug carries `// BUG: kind`, where `kind` is
// the word that the finding must begin with; test/cuda/checker.test.ts reads it from the source.
// Every kernel gets two blocks of 64 threads, 1024 bytes of dynamic shared memory, and arrays of 128 floats.
#pragma once
#include "kernels/cuda/device.cuh"

#define PLANTED(name)                                                                                               \
  extern "C" __global__ void name##_bug_kernel(float* out, const float* inp, float* host) { name<true>(out, inp, host); }     \
  EXPORT_KERNEL(name##_bug_kernel);                                                                                 \
  extern "C" __global__ void name##_clean_kernel(float* out, const float* inp, float* host) { name<false>(out, inp, host); } \
  EXPORT_KERNEL(name##_clean_kernel);

namespace tacotune::cuda {

/// The thread's place in the arrays.
__device__ __forceinline__ unsigned global_index() { return blockIdx.x * blockDim.x + threadIdx.x; }

}  // namespace tacotune::cuda
