// SPDX-License-Identifier: Apache-2.0
#include "numbers.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace tacotune::reference {
namespace {

// The quantiles of a normal distribution that NF4 names (Dettmers et al. 2023, appendix E).
constexpr float NF4[16] = {-1.0f,
                           -0.6961928009986877f,
                           -0.5250730514526367f,
                           -0.39491748809814453f,
                           -0.28444138169288635f,
                           -0.18477343022823334f,
                           -0.09105003625154495f,
                           0.0f,
                           0.07958029955625534f,
                           0.16093020141124725f,
                           0.24611230194568634f,
                           0.33791524171829224f,
                           0.44070982933044434f,
                           0.5626170039176941f,
                           0.7229568362236023f,
                           1.0f};

// Seven decades 10^-6 … 10^0; decade i holds 2^i values (2^(i+1) in the unsigned map), the midpoints of as many equal
// parts of [0.1, 1]; then 0 and 1. The roundings are those of torch.linspace, so that the tables equal bitsandbytes'.
Codebook dynamic_map(bool is_signed) {
  std::vector<float> values = {0.0f, 1.0f};
  for (int decade = 0; decade < 7; decade++) {
    const int parts = 1 << (is_signed ? decade : decade + 1);
    const float step = (1.0f - 0.1f) / static_cast<float>(parts);
    const auto boundary = [&](int i) {
      return i < (parts + 1) / 2 ? std::fma(step, static_cast<float>(i), 0.1f) : std::fma(-step, static_cast<float>(parts - i), 1.0f);
    };
    const float scale = static_cast<float>(std::pow(10.0, decade - 6));
    for (int i = 0; i < parts; i++) {
      const float value = scale * ((boundary(i) + boundary(i + 1)) / 2.0f);
      values.push_back(value);
      if (is_signed) values.push_back(-value);
    }
  }
  std::sort(values.begin(), values.end());
  Codebook map;
  std::copy(values.begin(), values.end(), map.begin());
  return map;
}

}  // namespace

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
    const Int block = i / 64;
    const float scale = absmax_codes.count
                            ? signed_dynamic_map()[absmax_codes.data[block]] * absmax.data[block / 256] + absmax_offset
                            : absmax.data[block];
    const uint8_t pair = codes.data[i / 2];
    const uint8_t code = i % 2 ? pair & 15 : pair >> 4;  // the first of two neighbours is in the high half
    values[i] = rounded(NF4[code] * scale, compute);
  }
  return values;
}

const Codebook& signed_dynamic_map() {
  static const Codebook map = dynamic_map(true);
  return map;
}

const Codebook& unsigned_dynamic_map() {
  static const Codebook map = dynamic_map(false);
  return map;
}

uint8_t nearest_code(const Codebook& map, float x) {
  int best = 0;
  for (int code = 1; code < 256; code++)
    if (std::fabs(map[code] - x) < std::fabs(map[best] - x)) best = code;
  return static_cast<uint8_t>(best);
}

uint8_t nf4_code(float x) {
  int code = 0;
  // A value on the boundary between two codes takes the lower one, as in bitsandbytes.
  while (code < 15 && x > (NF4[code] + NF4[code + 1]) / 2.0f) code++;
  return static_cast<uint8_t>(code);
}

}  // namespace tacotune::reference
