// SPDX-License-Identifier: Apache-2.0
// Forward products of very few rows: what gemv.h promises.
//
// The weight takes the place of A in mma.sync, 16 of its rows at a time, and the inputs that of B: up to eight of them cost no
// more than one. A sum does not mind the order of its depths, so a lane takes neighbours, which it can load at once, for the
// depths that the fragments give it:
//
//     lane                  4g + c
//     weight rows           g, g + 8
//     depths                SPAN neighbours from (4·step + c)·SPAN, four of them to an mma
//     row of inp            g (the column of B)
//
// The warps of a block share the steps of the same rows; their sums are added in the order of the warps.
#include "gemv.h"

#include "storage.cuh"

namespace tacotune::cuda {
namespace {

constexpr int FRAGMENTS = GEMV_COLUMNS / 16;

/// SPAN neighbours of a row of the weight, as they are stored; eight(i) is the i-th eight of them, in bf16.
template <Storage storage>
struct Span {  // bf16 and f16
  static constexpr int SPAN = 8, BYTES = 16;
  uint4 bits;

  __device__ __forceinline__ void load(const char* from, int, const Scales&) { bits = *reinterpret_cast<const uint4*>(from); }
  __device__ __forceinline__ void ready(const Nf4Tables&, const Scales&) {}
  __device__ __forceinline__ uint4 eight(int, const Nf4Tables&) const {
    return storage == Storage::BF16 ? bits : make_uint4(bf16_of_f16(bits.x), bf16_of_f16(bits.y), bf16_of_f16(bits.z), bf16_of_f16(bits.w));
  }
};

template <>
struct Span<Storage::F32> {
  static constexpr int SPAN = 8, BYTES = 32;
  float4 low, high;

  __device__ __forceinline__ void load(const char* from, int, const Scales&) {
    low = reinterpret_cast<const float4*>(from)[0], high = reinterpret_cast<const float4*>(from)[1];
  }
  __device__ __forceinline__ void ready(const Nf4Tables&, const Scales&) {}
  __device__ __forceinline__ uint4 eight(int, const Nf4Tables&) const {
    return make_uint4(pack_bf16(low.x, low.y), pack_bf16(low.z, low.w), pack_bf16(high.x, high.y), pack_bf16(high.z, high.w));
  }
};

template <>
struct Span<Storage::NF4> {
  static constexpr int SPAN = 32, BYTES = 16;
  uint4 codes;
  StoredScale stored;
  float scale;

  __device__ __forceinline__ void load(const char* from, int block, const Scales& scales) {
    codes = *reinterpret_cast<const uint4*>(from);
    stored = scales.fetch(block, true);
  }
  __device__ __forceinline__ void ready(const Nf4Tables& tables, const Scales& scales) { scale = scales.decode(tables.map, stored); }
  __device__ __forceinline__ uint4 eight(int i, const Nf4Tables& tables) const {
    const uint32_t words[] = {codes.x, codes.y, codes.z, codes.w};
    return decode_word(tables, words[i], scale);
  }
};

template <Storage storage>
__device__ __forceinline__ void gemv(const Gemv& p) {
  using S = Span<storage>;
  constexpr int STEP = 4 * S::SPAN, STRIDE = GEMV_WARPS * STEP;  // depths of a warp, and of the block
  Nf4Tables& tables = nf4_tables();
  SHARED(float, parts, [GEMV_WARPS][GEMV_ROWS][GEMV_COLUMNS + 4]);  // apart, so that c = 0 … 3 meet in no bank

  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, c = lane % 4;
  const Int column = static_cast<Int>(blockIdx.x) * GEMV_COLUMNS;
  const Scales scales = {p.absmax_codes, p.absmax, p.absmax_offset};
  const int first = warp * STEP + c * S::SPAN;
  const float* const inp = p.inp + g * p.K;

  S now[FRAGMENTS][2], next[FRAGMENTS][2];
  const char* from[FRAGMENTS][2];
  int block[FRAGMENTS][2];
  float sums[FRAGMENTS][4] = {};
#pragma unroll
  for (int f = 0; f < FRAGMENTS; f++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      // Rows beyond the last are computed from the last, and dropped.
      const Int n = min(column + f * 16 + half * 8 + g, p.N - 1);
      next[f][half] = {};
      from[f][half] = static_cast<const char*>(p.weight) + (n * p.K + first) / S::SPAN * S::BYTES;
      block[f][half] = static_cast<int>((n * p.K + first) / NF4_BLOCK);
      if (first < p.K) next[f][half].load(from[f][half], block[f][half], scales);
    }
  if (storage == Storage::NF4) fill(tables);
  __syncthreads();

  for (Int step = warp * STEP; step < p.K; step += STRIDE) {
    const Int depth = step + c * S::SPAN;
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        now[f][half] = next[f][half];
        now[f][half].ready(tables, scales);
        from[f][half] += STRIDE / S::SPAN * S::BYTES, block[f][half] += STRIDE / static_cast<int>(NF4_BLOCK);
        // On its way while this step is multiplied.
        if (depth + STRIDE < p.K) next[f][half].load(from[f][half], block[f][half], scales);
      }
    const bool has_input = g < p.M && depth < p.K;  // what stands for the weight beyond K is multiplied by zeros
#pragma unroll
    for (int eight = 0; eight < S::SPAN / 8; eight++) {
      float4 x[2] = {};
      if (has_input) {
        const float4* const four = reinterpret_cast<const float4*>(inp + depth) + 2 * eight;
        x[0] = four[0], x[1] = four[1];
      }
      const uint32_t b[2][2] = {{pack_bf16(x[0].x, x[0].y), pack_bf16(x[0].z, x[0].w)}, {pack_bf16(x[1].x, x[1].y), pack_bf16(x[1].z, x[1].w)}};
#pragma unroll
      for (int f = 0; f < FRAGMENTS; f++) {
        const uint4 upper = now[f][0].eight(eight, tables), lower = now[f][1].eight(eight, tables);
        const uint32_t near[4] = {upper.x, lower.x, upper.y, lower.y}, far[4] = {upper.z, lower.z, upper.w, lower.w};
        mma_bf16(sums[f], near, b[0], sums[f]);
        mma_bf16(sums[f], far, b[1], sums[f]);
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
