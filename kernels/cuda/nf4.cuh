// SPDX-License-Identifier: Apache-2.0
// Decoding of NF4 inside the matrix products, to the bits that quant.h defines: each product and sum is rounded to f32 by
// itself, and the value then to bf16.
//
// The 16 values are looked up in shared memory, where each lane has a copy of them in a bank of its own: no lookup waits for
// another lane's.
#pragma once
#include "gemm.h"
#include "quant.cuh"

namespace tacotune::cuda {
namespace {

/// What a block looks up, in its shared memory.
struct Nf4Tables {
  float values[16][32];  // once for each bank
  float map[256];        // the signed dynamic map
};

/// The block's tables. A static array: its address is part of the instructions that look up, and costs none of its own.
__device__ __forceinline__ Nf4Tables& nf4_tables() {
  SHARED(Nf4Tables, tables, );
  return tables;
}

/// By all threads of a block; a barrier must follow.
__device__ __forceinline__ void fill(Nf4Tables& tables) {
  for (int i = threadIdx.x; i < 16 * 32; i += blockDim.x) tables.values[i / 32][i % 32] = nf4_table.values[i / 32];
  for (int i = threadIdx.x; i < 256; i += blockDim.x) tables.map[i] = signed_dynamic_map.values[i];
}

/// A block's scale as it is stored: fetched early, decoded when it is needed.
struct StoredScale {
  float absmax;
  int code;
};

struct Scales {
  const uint8_t* codes;  // null: absmax holds the scales themselves
  const float* absmax;
  float offset;

  __device__ __forceinline__ StoredScale fetch(Int block, bool valid) const {
    if (!valid) return {0.0f, -1};
    if (codes == nullptr) return {absmax[block], -1};
    return {absmax[block / NESTED_BLOCK], codes[block]};
  }
  /// `map`: the signed dynamic map, wherever it is kept.
  __device__ __forceinline__ float decode(const float* map, StoredScale stored) const {
    return stored.code < 0 ? stored.absmax : nested_scale(map[stored.code], stored.absmax, offset);
  }
};

/// One of the eight codes of a word, counted by bits from the lowest: its value from the lane's own bank. The offset in the
/// table is cut out of the word whole, a code's row being 128 bytes long: two instructions and the lookup.
template <int bit>
__device__ __forceinline__ float look_up(const Nf4Tables& tables, uint32_t lane_bytes, uint32_t word) {
  static_assert(sizeof(tables.values[0]) == 128, "a row fills the banks once");
  const uint32_t row = (bit < 7 ? word << (7 - bit) : word >> (bit - 7)) & 15u << 7;
  return *reinterpret_cast<const float*>(reinterpret_cast<const char*>(tables.values) + (row | lane_bytes));
}

/// Two neighbours, as bf16: byte `i` of a word of eight codes (the first of a pair stands in the high half of its byte).
template <int i>
__device__ __forceinline__ uint32_t decode_pair(const Nf4Tables& tables, uint32_t lane_bytes, uint32_t word, float scale) {
  const float first = look_up<8 * i + 4>(tables, lane_bytes, word), second = look_up<8 * i>(tables, lane_bytes, word);
  return pack_bf16(__fmul_rn(first, scale), __fmul_rn(second, scale));
}

/// Eight neighbours.
__device__ __forceinline__ uint4 decode_word(const Nf4Tables& tables, uint32_t word, float scale) {
  const uint32_t lane_bytes = threadIdx.x % 32 * 4;
  return make_uint4(decode_pair<0>(tables, lane_bytes, word, scale), decode_pair<1>(tables, lane_bytes, word, scale),
                    decode_pair<2>(tables, lane_bytes, word, scale), decode_pair<3>(tables, lane_bytes, word, scale));
}

/// The value of one element, for whoever takes them singly.
__device__ __forceinline__ float decode_element(const uint8_t* codes, const Scales& scales, Int i) {
  const int pair = codes[i / 2];
  const float value = nf4_table.values[i % 2 ? pair & 15 : pair >> 4];
  return __fmul_rn(value, scales.decode(signed_dynamic_map.values, scales.fetch(i / NF4_BLOCK, true)));
}

}  // namespace
}  // namespace tacotune::cuda
