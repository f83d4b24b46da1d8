// SPDX-License-Identifier: Apache-2.0
// The CPU kernels compiled for AVX2 and FMA.
#include "isa.h"

#if defined(__x86_64__)
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define ISA avx2
#define ISA_NAME "avx2"
#define VECTOR_BYTES 32
#include "kernels.inc"
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace tacotune {
const Kernels* avx2_kernels() { return &avx2::table(); }
}  // namespace tacotune
#else
namespace tacotune {
const Kernels* avx2_kernels() { return nullptr; }
}  // namespace tacotune
#endif
