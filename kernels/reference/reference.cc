// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/dispatch.h"
namespace tacotune {
const Kernels* reference_kernels() { static const Kernels table = {"reference"}; return &table; }
const Kernels* baseline_kernels() { return nullptr; }
const Kernels* avx2_kernels() { return nullptr; }
const Kernels* avx512_kernels() { return nullptr; }
const Kernels* avx512bf16_kernels() { return nullptr; }
}
