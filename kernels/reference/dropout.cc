// SPDX-License-Identifier: Apache-2.0
// Dropout: element i is kept where the uniform number philox(seed, i) is at least p, and scaled by 1/(1-p). The gradient passes
// where the element passed: nothing is stored, the numbers are drawn again.
#include "reference.h"

namespace tacotune::reference {
namespace {

// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
double uniform(Int seed, Int i) {
  const uint64_t counter = static_cast<uint64_t>(i) / 4;
  uint32_t c[4] = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0};
  uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; round++) {
    const uint64_t a = 0xD2511F53ull * c[0], b = 0xCD9E8D57ull * c[2];
    const uint32_t next[4] = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ key[0], static_cast<uint32_t>(b),
                              static_cast<uint32_t>(a >> 32) ^ c[3] ^ key[1], static_cast<uint32_t>(a)};
    for (int word = 0; word < 4; word++) c[word] = next[word];
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return static_cast<double>(c[i % 4] >> 8) * 0x1p-24;
}

double dropped(float x, Int i, float p, Int seed) { return uniform(seed, i) >= p ? x / (1.0 - p) : 0.0; }

}  // namespace

void dropout_forward(F32Out out, F32In inp, Int n, float p, Int seed) {
  for (Int i = 0; i < n; i++) out.data[i] = static_cast<float>(dropped(inp.data[i], i, p, seed));
}

void dropout_backward(F32Out dinp, F32In dout, Int n, float p, Int seed, Int accumulate) {
  for (Int i = 0; i < n; i++) {
    const double d = dropped(dout.data[i], i, p, seed);
    dinp.data[i] = static_cast<float>(accumulate ? dinp.data[i] + d : d);
  }
}

}  // namespace tacotune::reference
