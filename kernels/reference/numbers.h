// SPDX-License-Identifier: Apache-2.0
// Number formats in their plainest form: bf16 and f16 by arithmetic on values, NF4 and dynamic 8-bit codes by search in
// their tables. Knows no op. The SIMD kernels have their own conversions; that the two agree is tested.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/quant.h"
#include "kernels/types.h"

namespace tacotune::reference {

float f32_from_bf16(uint16_t bits);
float f32_from_f16(uint16_t bits);
/// To nearest, ties to even; what is too large becomes infinity.
uint16_t bf16_from_f32(float x);
uint16_t f16_from_f32(float x);

/// The value of bf16 or f32 compute: x, or x rounded to bf16.
float rounded(float x, Int compute);

/// All values of a dense tensor of a storage type, rounded to the compute type.
std::vector<float> dense_values(BytesIn bytes, Int type, Int n, Int compute);

/// All values of an NF4 tensor, rounded to the compute type (empty absmax_codes: absmax is one per block of 64).
std::vector<float> nf4_values(U8In codes, U8In absmax_codes, F32In absmax, float absmax_offset, Int n, Int compute);

/// The code whose value is nearest to x, the lower one of two equally near.
uint8_t nearest_code(const DynamicMap& map, float x);
/// The NF4 code of a value in [-1,1].
uint8_t nf4_code(float x);

}  // namespace tacotune::reference
