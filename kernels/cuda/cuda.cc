// SPDX-License-Identifier: Apache-2.0
// The table of the CUDA ops.
#include "ops.h"

namespace tacotune::cuda {

const Kernels& cuda_kernels() {
  static const Kernels kernels = {
      "cuda",
#define TACOTUNE_POINTER(op, arguments) cuda::op,
      TACOTUNE_OPS(TACOTUNE_POINTER)
#undef TACOTUNE_POINTER
  };
  return kernels;
}

}  // namespace tacotune::cuda
