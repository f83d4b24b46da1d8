// SPDX-License-Identifier: Apache-2.0
// The CPU kernels for what every processor of the architecture has: SSE2 on x86-64, NEON on arm64.
#include "isa.h"

#define ISA baseline
#define ISA_NAME "baseline"
#define VECTOR_BYTES 16
#include "kernels.inc"

namespace tacotune {
const Kernels* baseline_kernels() { return &baseline::table(); }
}  // namespace tacotune
