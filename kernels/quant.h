// SPDX-License-Identifier: Apache-2.0
// The 4-bit weight format (NF4: Dettmers et al. 2023) and the 8-bit maps, byte for byte those of bitsandbytes. Every layout
// fact and table stands here once, for the reference, the SIMD kernels and whoever reads or writes files. Data only: the
// text may be included anywhere, and nothing in it depends on the instruction set it is compiled for.
//
// A weight (N,K) is one row of N·K elements, element i = n·K + k. Two neighbours share a byte:
//
//     element      0    1    2    3           62   63
//     byte         0         1         …      31
//     half        high low  high low         high low        code of element i: i even → byte[i/2] >> 4, odd → & 15
//
// Blocks of 64 consecutive elements (32 bytes) share one scale, the largest size in the block, `absmax`. Blocks know
// nothing of rows: where K % 64 ≠ 0 a block straddles two rows. The last block may be short; with an odd number of
// elements the low half of the last byte is unused.
//
//     weight[i] = NF4_VALUES[code(i)] · absmax[i / 64]
//
// Double quantisation replaces absmax by a byte a block and one f32 (the nested absmax) for 256 blocks:
//
//     absmax[b] = SIGNED_DYNAMIC_MAP.values[absmax_codes[b]] · nested[b / 256] + offset       offset = mean of absmax
//
// Each product and sum above is rounded to f32 by itself: a fused multiply-add gives other bits than bitsandbytes.
#pragma once
#include <cstdint>

namespace tacotune {

inline constexpr int64_t NF4_BLOCK = 64;      // elements that share an absmax
inline constexpr int64_t NESTED_BLOCK = 256;  // absmax values that share a nested absmax

struct Nf4Block {
  uint8_t pairs[NF4_BLOCK / 2];
};
static_assert(sizeof(Nf4Block) == 32, "64 codes of 4 bits");

constexpr uint8_t nf4_pair(int first, int second) { return static_cast<uint8_t>(first << 4 | second); }
constexpr int nf4_code_at(const Nf4Block& block, int i) { return i % 2 ? block.pairs[i / 2] & 15 : block.pairs[i / 2] >> 4; }
static_assert(nf4_code_at({{nf4_pair(3, 12)}}, 0) == 3 && nf4_code_at({{nf4_pair(3, 12)}}, 1) == 12, "the first of two neighbours is the high half");

// Quantiles of the normal distribution, scaled to [-1,1], with an exact zero at code 7.
inline constexpr float NF4_VALUES[16] = {
    -1.0f,               -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f,
    -0.09105003625154495f, 0.0f,               0.07958029955625534f, 0.16093020141124725f,  0.24611230194568634f,  0.33791524171829224f,
    0.44070982933044434f,  0.5626170039176941f, 0.7229568362236023f, 1.0f};
static_assert(NF4_VALUES[7] == 0.0f, "an all-zero block is stored as code 7");

// A scaled value takes code c where it lies above exactly c of these midpoints; on a midpoint, the lower code.
struct Nf4Thresholds {
  float values[15];
  constexpr Nf4Thresholds() : values() {
    for (int i = 0; i < 15; i++) values[i] = (NF4_VALUES[i] + NF4_VALUES[i + 1]) / 2.0f;
  }
};
inline constexpr Nf4Thresholds NF4_THRESHOLDS;

// The dynamic 8-bit maps (Dettmers et al. 2022): seven decades 10^-6 … 10^0; decade d holds 2^d magnitudes (2^(d+1) in the
// unsigned map), the midpoints of as many equal parts of [0.1,1]; and 0 and 1. Ascending, so a code orders like its value.
struct DynamicMap {
  float values[256];

  constexpr explicit DynamicMap(bool is_signed) : values() {
    constexpr float decades[7] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
    int next = is_signed ? 128 : 1;  // 127 negative codes and zero come first, or zero alone
    for (int d = 0; d < 7; d++) {
      const int parts = 1 << (is_signed ? d : d + 1);
      for (int i = 0; i < parts; i++, next++) {
        values[next] = decades[d] * ((boundary(i, parts) + boundary(i + 1, parts)) / 2.0f);
        if (is_signed) values[254 - next] = -values[next];
      }
    }
    values[255] = 1.0f;
  }

  // torch.linspace(0.1, 1, parts + 1): steps of one f32 size, counted from the nearer end, rounded once. In double both
  // product and sum are exact, so the cast is that one rounding.
  static constexpr float boundary(int i, int parts) {
    const float step = (1.0f - 0.1f) / static_cast<float>(parts);
    return i < (parts + 1) / 2 ? static_cast<float>(static_cast<double>(0.1f) + static_cast<double>(step) * i)
                               : static_cast<float>(1.0 - static_cast<double>(step) * (parts - i));
  }
};
inline constexpr DynamicMap SIGNED_DYNAMIC_MAP(true);
inline constexpr DynamicMap UNSIGNED_DYNAMIC_MAP(false);
static_assert(SIGNED_DYNAMIC_MAP.values[127] == 0.0f && UNSIGNED_DYNAMIC_MAP.values[0] == 0.0f, "an exact zero");

}  // namespace tacotune
