// SPDX-License-Identifier: Apache-2.0
// NF4 with single and double quantisation, byte for byte as bitsandbytes has it; 16-bit storage types.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "numbers.h"
#include "reference.h"

namespace tacotune::reference {
namespace {

float largest_size(const float* x, Int n) {
  float largest = 0;
  for (Int i = 0; i < n; i++) largest = std::max(largest, std::fabs(x[i]));
  return largest;
}

}  // namespace

void nf4_quantize(U8Out codes, F32Out absmax, F32In inp, Int n) {
  for (Int i = 0; i < codes.count; i++) codes.data[i] = 0;
  for (Int i = 0; i < n; i++) {
    const Int block = i / 64;
    if (i % 64 == 0) absmax.data[block] = largest_size(inp.data + i, std::min<Int>(64, n - i));
    const float scale = absmax.data[block] > 0 ? 1.0f / absmax.data[block] : 0.0f;
    const uint8_t code = nf4_code(inp.data[i] * scale);
    codes.data[i / 2] |= static_cast<uint8_t>(i % 2 ? code : code << 4);
  }
}

void nf4_double_quantize(U8Out absmax_codes, F32Out nested, F32Out offset, F32In absmax, Int blocks) {
  double sum = 0;
  for (Int i = 0; i < blocks; i++) sum += absmax.data[i];
  const float mean = blocks ? static_cast<float>(sum / static_cast<double>(blocks)) : 0.0f;
  offset.data[0] = mean;
  for (Int start = 0; start < blocks; start += 256) {
    const Int size = std::min<Int>(256, blocks - start);
    float centred[256];
    for (Int i = 0; i < size; i++) centred[i] = absmax.data[start + i] - mean;
    const float largest = largest_size(centred, size);
    const float scale = largest > 0 ? 1.0f / largest : 0.0f;
    nested.data[start / 256] = largest;
    for (Int i = 0; i < size; i++) absmax_codes.data[start + i] = nearest_code(SIGNED_DYNAMIC_MAP, centred[i] * scale);
  }
}

void nf4_dequantize(F32Out out, U8In codes, U8In absmax_codes, F32In absmax, float absmax_offset, Int n) {
  const std::vector<float> values = nf4_values(codes, absmax_codes, absmax, absmax_offset, n, COMPUTE_F32);
  std::copy(values.begin(), values.end(), out.data);
}

void to_f32(F32Out out, BytesIn inp, Int type, Int n) {
  const std::vector<float> values = dense_values(inp, type, n, COMPUTE_F32);
  std::copy(values.begin(), values.end(), out.data);
}

void from_f32(BytesOut out, F32In inp, Int type, Int n) {
  for (Int i = 0; i < n; i++) {
    if (type == STORE_F32) {
      std::memcpy(static_cast<char*>(out.data) + 4 * i, inp.data + i, 4);
    } else {
      const uint16_t bits = type == STORE_BF16 ? bf16_from_f32(inp.data[i]) : f16_from_f32(inp.data[i]);
      std::memcpy(static_cast<char*>(out.data) + 2 * i, &bits, 2);
    }
  }
}

}  // namespace tacotune::reference
