// SPDX-License-Identifier: Apache-2.0
// The CPU kernels compiled for AVX-512 with bf16 dot products.
#include "isa.h"

#if defined(__x86_64__)
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,prefer-vector-width=512")
#endif
#define ISA avx512bf16
#define ISA_NAME "avx512bf16"
#define VECTOR_BYTES 64
#define BF16_DOT
#include "kernels.inc"
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace tacotune {
const Kernels* avx512bf16_kernels() { return &avx512bf16::table(); }
}  // namespace tacotune
#else
namespace tacotune {
const Kernels* avx512bf16_kernels() { return nullptr; }
}  // namespace tacotune
#endif
