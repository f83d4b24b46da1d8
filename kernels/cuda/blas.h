// SPDX-License-Identifier: Apache-2.0
// Large products by NVIDIA's cuBLASLt, where the library is found and where a run asks for it: weights are decoded to bf16 in
// scratch memory, then the library multiplies. Never by default: its bits depend on its version and on the GPU.
//
// Which products go there depends on their sizes alone, never on a clock, so a run has the same bits each time. The first of
// each shape is computed by our kernels too; where the two differ, the library is not used again in this process.
#pragma once
#include <string>

#include "linear.h"

namespace tacotune::cuda {

struct BlasState {
  std::string library;  // its name, as it was opened; empty where there is none
  Int version = 0;      // 130100 for 13.1.0
  std::string trouble;  // why it is not used, in words
  Int products = 0;     // computed by it so far
};

/// From now on products whose M, N and D are all at least `least` go to the library. 0: none, as in the beginning.
void use_blas(Int least);

/// Opens the library at the first call: libcublasLt.so.13, or what TACOTUNE_CUBLASLT names ('off': none).
BlasState blas_state();

}  // namespace tacotune::cuda
