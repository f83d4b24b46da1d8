// SPDX-License-Identifier: Apache-2.0
// Which implementations this processor can run.
#pragma once
#include "../ops.h"

namespace tacotune {

/// The i-th implementation this processor can run, best first, the scalar "reference" last; null past the end.
const Kernels* available_kernels(Int i);

/// Tables, one per compiled instruction set; null where this build has none (another architecture).
const Kernels* reference_kernels();
const Kernels* baseline_kernels();    // SSE2 on x86-64, NEON on arm64: what every such processor has
const Kernels* avx2_kernels();        // AVX2 and FMA
const Kernels* avx512_kernels();      // AVX-512 F, BW, VL, DQ
const Kernels* avx512bf16_kernels();  // and AVX512-BF16

}  // namespace tacotune
