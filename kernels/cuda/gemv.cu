// SPDX-License-Identifier: Apache-2.0
// Forward products of very few rows: what gemv.h promises.
//
// The weight takes the place of A in mma.sync, 16 of its rows at a time, and the inputs that of B: up to eight of them cost no
// more than one. A sum does not mind the order of its depths, so a lane takes neighbours, which it can load at once, for the
// depths that the fragments give it:
//
//     lane                  4g + c
//     weight rows           g, g + 8
//     depths                SPAN neighbours from (4·step + c)·SPAN; mma number j takes four of them, 4j … 4j + 3
//     row of inp            g (the column of B)
//
// The warps of a block share the steps of the same rows; their sums are added in the order of the warps.
#include "gemv.h"

#include "storage.cuh"

namespace tacotune::cuda {
namespace {

constexpr int FRAGMENTS = GEMV_COLUMNS / 16;

/// SPAN neighbours of a row of the weight, as they are stored, and as fragments: pair(i) is elements 2i and 2i + 1 in bf16.
template <Storage storage>
struct Span {  // bf16 and f16
  static constexpr int SPAN = 8;
  uint4 bits;

  __device__ __forceinline__ void load(const Gemv& p, Int i, bool valid) {
    bits = valid ? *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(p.weight) + i) : make_uint4(0, 0, 0, 0);
  }
  __device__ __forceinline__ void ready(const Nf4Tables&, const Scales&) {}
  __device__ __forceinline__ uint32_t pair(const Nf4Tables&, int i) const {
    const uint32_t words[] = {bits.x, bits.y, bits.z, bits.w};
    return storage == Storage::F16 ? bf16_of_f16(words[i]) : words[i];
  }
};

template <>
struct Span<Storage::F32> {
  static constexpr int SPAN = 8;
  float4 low, high;

  __device__ __forceinline__ void load(const Gemv& p, Int i, bool valid) {
    const float4* const from = reinterpret_cast<const float4*>(static_cast<const float*>(p.weight) + i);
    low = valid ? from[0] : make_float4(0, 0, 0, 0), high = valid ? from[1] : make_float4(0, 0, 0, 0);
  }
  __device__ __forceinline__ void ready(const Nf4Tables&, const Scales&) {}
  __device__ __forceinline__ uint32_t pair(const Nf4Tables&, int i) const {
    const float4 four = i < 2 ? low : high;
    return i % 2 ? pack_bf16(four.z, four.w) : pack_bf16(four.x, four.y);
  }
};

template <>
struct Span<Storage::NF4> {
  static constexpr int SPAN = 32;
  uint4 codes;
  StoredScale stored;
  float scale;

  __device__ __forceinline__ void load(const Gemv& p, Int i, bool valid) {
    codes = valid ? *reinterpret_cast<const uint4*>(static_cast<const uint8_t*>(p.weight) + i / 2) : make_uint4(0, 0, 0, 0);
    stored = Scales{p.absmax_codes, p.absmax, p.absmax_offset}.fetch(i / NF4_BLOCK, valid);
  }
  __device__ __forceinline__ void ready(const Nf4Tables& tables, const Scales& scales) { scale = scales.decode(tables.map, stored); }
  __device__ __forceinline__ uint32_t pair(const Nf4Tables& tables, int i) const {
    const uint32_t words[] = {codes.x, codes.y, codes.z, codes.w};
    return decode_pair(tables, static_cast<int>(threadIdx.x) % 32, words[i / 4], i % 4, scale);
  }
};

template <Storage storage>
__device__ __forceinline__ void gemv(const Gemv& p) {
  using S = Span<storage>;
  constexpr int SPAN = S::SPAN, STEP = 4 * SPAN;
  SHARED(Nf4Tables, tables, );
  SHARED(float, parts, [GEMV_WARPS][GEMV_ROWS][GEMV_COLUMNS + 4]);  // apart, so that c = 0 … 3 meet in no bank

  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, c = lane % 4;
  const Int column = static_cast<Int>(blockIdx.x) * GEMV_COLUMNS;
  const Scales scales = {p.absmax_codes, p.absmax, p.absmax_offset};
  const float* const inp = p.inp + g * p.K;
  const bool in_fours = p.K % 4 == 0 && reinterpret_cast<uintptr_t>(p.inp) % 16 == 0;

  S now[FRAGMENTS][2], next[FRAGMENTS][2];
  float sums[FRAGMENTS][4] = {};
  const auto load = [&](Int depth) {
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const Int n = column + f * 16 + half * 8 + g;
        next[f][half].load(p, n * p.K + depth, n < p.N && depth < p.K);
      }
  };

  load(warp * STEP + c * SPAN);
  if (storage == Storage::NF4) fill(tables);
  __syncthreads();
  for (Int step = warp * STEP; step < p.K; step += GEMV_WARPS * STEP) {
    const Int depth = step + c * SPAN;
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        now[f][half] = next[f][half];
        now[f][half].ready(tables, scales);
      }
    load(depth + GEMV_WARPS * STEP);  // on its way while this step is multiplied
#pragma unroll
    for (int j = 0; j < SPAN / 4; j++) {
      float4 x = make_float4(0, 0, 0, 0);
      if (g < p.M && depth < p.K) {
        const float* const from = inp + depth + 4 * j;
        x = in_fours ? *reinterpret_cast<const float4*>(from) : make_float4(from[0], from[1], from[2], from[3]);
      }
      const uint32_t b[2] = {pack_bf16(x.x, x.y), pack_bf16(x.z, x.w)};
#pragma unroll
      for (int f = 0; f < FRAGMENTS; f++) {
        const uint32_t a[4] = {now[f][0].pair(tables, 2 * j), now[f][1].pair(tables, 2 * j), now[f][0].pair(tables, 2 * j + 1), now[f][1].pair(tables, 2 * j + 1)};
        mma_bf16(sums[f], a, b, sums[f]);
      }
    }
  }

#pragma unroll
  for (int f = 0; f < FRAGMENTS; f++)
#pragma unroll
    for (int i = 0; i < 4; i++) parts[warp][c * 2 + i % 2][f * 16 + i / 2 * 8 + g] = sums[f][i];
  __syncthreads();
  const Int m = warp, n = column + lane;  // as many warps as rows, as many lanes as columns
  if (m >= p.M || n >= p.N) return;
  float sum = 0.0f;
  for (int part = 0; part < GEMV_WARPS; part++) sum += parts[part][m][lane];
  float& to = p.out[m * p.N + n];
  to = p.alpha * sum + (p.accumulate ? to : 0.0f);
}
static_assert(GEMV_WARPS == GEMV_ROWS && GEMV_COLUMNS == 32, "a thread for each element of the result");

}  // namespace

#define GEMV(name, storage)                                              \
  extern "C" __global__ void __launch_bounds__(GEMV_THREADS) name(Gemv p) { gemv<Storage::storage>(p); } \
  EXPORT_KERNEL(name)

GEMV(gemv_f32_kernel, F32);
GEMV(gemv_bf16_kernel, BF16);
GEMV(gemv_f16_kernel, F16);
GEMV(gemv_nf4_kernel, NF4);

}  // namespace tacotune::cuda
