// SPDX-License-Identifier: Apache-2.0
// NF4 on the processor, for the TensorFlow op. A block's sixteen possible values are multiplied out first, so an element costs a
// look-up; each product and sum is rounded to f32 by itself (the build forbids their contraction).
#include "nf4.h"

#include <algorithm>
#include <cstring>

#include "kernels/quant.h"

namespace tacotune::tensorflow {
namespace {

float scale_of(const Nf4Weight& w, int64_t block) {
  if (!w.absmax_codes) return w.absmax[block];
  return SIGNED_DYNAMIC_MAP.values[w.absmax_codes[block]] * w.absmax[block / NESTED_BLOCK] + *w.offset;
}

void decode_block(float* values, const Nf4Weight& w, int64_t block) {
  const float scale = scale_of(w, block);
  float scaled[16];
  for (int code = 0; code < 16; code++) scaled[code] = NF4_VALUES[code] * scale;
  const uint8_t* pairs = w.codes + block * (NF4_BLOCK / 2);
  for (int i = 0; i < NF4_BLOCK / 2; i++) {
    values[2 * i] = scaled[pairs[i] >> 4];
    values[2 * i + 1] = scaled[pairs[i] & 15];
  }
}

constexpr int LANES = 16;

/// Σ a·b in lanes, so that the compiler has vectors to work with.
float dot(const float* a, const float* b, int64_t n) {
  float sums[LANES] = {};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int lane = 0; lane < LANES; lane++) sums[lane] += a[i + lane] * b[i + lane];
  float sum = 0;
  for (; i < n; i++) sum += a[i] * b[i];
  for (const float lane : sums) sum += lane;
  return sum;
}

}  // namespace

void nf4_decode(float* weight, const Nf4Weight& packed) {
  const int64_t n = packed.N * packed.K;
  const int64_t whole = n / NF4_BLOCK;
  for (int64_t block = 0; block < whole; block++) decode_block(weight + block * NF4_BLOCK, packed, block);
  if (n % NF4_BLOCK == 0) return;
  float last[NF4_BLOCK];
  decode_block(last, packed, whole);
  std::memcpy(weight + whole * NF4_BLOCK, last, sizeof(float) * static_cast<size_t>(n % NF4_BLOCK));
}

void nf4_product(float* out, const float* inp, const Nf4Weight& packed, int64_t M) {
  const int64_t N = packed.N, K = packed.K;
  std::fill(out, out + M * N, 0.0f);
  float values[NF4_BLOCK];
  for (int64_t start = 0; start < N * K; start += NF4_BLOCK) {
    decode_block(values, packed, start / NF4_BLOCK);
    // A block may reach over the ends of rows.
    const int64_t end = std::min(start + NF4_BLOCK, N * K);
    for (int64_t at = start; at < end;) {
      const int64_t n = at / K, k = at % K, count = std::min(end - at, K - k);
      for (int64_t m = 0; m < M; m++) out[m * N + n] += dot(inp + m * K + k, values + (at - start), count);
      at += count;
    }
  }
}

}  // namespace tacotune::tensorflow
