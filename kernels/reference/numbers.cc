// SPDX-License-Identifier: Apache-2.0
// Number formats in their plainest form: what numbers.h promises.
#include "numbers.h"

#include <cmath>
#include <cstring>

namespace tacotune::reference {

float f32_from_bf16(uint16_t bits) {
  const uint32_t word = static_cast<uint32_t>(bits) << 16;
  float x;
  std::memcpy(&x, &word, 4);
  return x;
}

uint16_t bf16_from_f32(float x) {
  uint32_t word;
  std::memcpy(&word, &x, 4);
  if (std::isnan(x)) return static_cast<uint16_t>(word >> 16 | 0x40);  // quiet: truncation could make it an infinity
  return static_cast<uint16_t>((word + 0x7fff + (word >> 16 & 1)) >> 16);
}

float f32_from_f16(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float sign = bits >> 15 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction ? std::nanf("") : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  return sign * std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
}

uint16_t f16_from_f32(float x) {
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  if (std::isnan(x)) return sign | 0x7e00;
  const float size = std::fabs(x);
  if (size >= 65520.0f) return sign | 0x7c00;  // halfway between the largest f16 and the next power of two
  const int exponent = size < 0x1p-14f ? -14 : std::ilogb(size);
  // In units of the last place; nearbyint rounds to even. A carry runs into the exponent, as it should; the count starts
  // at 1024 for normal numbers, which is the exponent's own unit.
  const int units = static_cast<int>(std::nearbyint(std::ldexp(size, 10 - exponent)));
  return static_cast<uint16_t>(sign | (((exponent + 14) << 10) + units));
}

float rounded(float x, Int compute) { return compute == COMPUTE_BF16 ? f32_from_bf16(bf16_from_f32(x)) : x; }

std::vector<float> dense_values(BytesIn bytes, Int type, Int n, Int compute) {
  std::vector<float> values(n);
  for (Int i = 0; i < n; i++) {
    float x;
    if (type == STORE_F32) {
      std::memcpy(&x, static_cast<const char*>(bytes.data) + 4 * i, 4);
    } else {
      uint16_t bits;
      std::memcpy(&bits, static_cast<const char*>(bytes.data) + 2 * i, 2);
      x = type == STORE_BF16 ? f32_from_bf16(bits) : f32_from_f16(bits);
    }
    values[i] = rounded(x, compute);
  }
  return values;
}

std::vector<float> nf4_values(U8In codes, U8In absmax_codes, F32In absmax, float absmax_offset, Int n, Int compute) {
  std::vector<float> values(n);
  for (Int i = 0; i < n; i++) {
    const Int block = i / NF4_BLOCK;
    const float scale = absmax_codes.count
                            ? SIGNED_DYNAMIC_MAP.values[absmax_codes.data[block]] * absmax.data[block / NESTED_BLOCK] + absmax_offset
                            : absmax.data[block];
    const uint8_t pair = codes.data[i / 2];
    const uint8_t code = i % 2 ? pair & 15 : pair >> 4;  // the first of two neighbours is in the high half
    values[i] = rounded(NF4_VALUES[code] * scale, compute);
  }
  return values;
}

uint8_t nearest_code(const DynamicMap& map, float x) {
  int best = 0;
  for (int code = 1; code < 256; code++)
    if (std::fabs(map.values[code] - x) < std::fabs(map.values[best] - x)) best = code;
  return static_cast<uint8_t>(best);
}

uint8_t nf4_code(float x) {
  int code = 0;
  // A value on the boundary between two codes takes the lower one, as in bitsandbytes.
  while (code < 15 && x > NF4_THRESHOLDS.values[code]) code++;
  return static_cast<uint8_t>(code);
}

}  // namespace tacotune::reference
