// SPDX-License-Identifier: Apache-2.0
// The pieces of flash attention (Dao et al. 2022): tiles of bf16 in shared memory and the two products that every pass is
// made of. A warp owns 16 rows of the left factor. Sums stay in the fragments of mma.m16n8k16: of each 8 columns a lane
// holds [0],[1] of row lane/4 at columns 2·(lane%4), +1, and [2],[3] of the row 8 below. Those of a sum are where the
// left factor of the next product needs them, so probabilities never pass through shared memory.
//
// Masked keys have probability 0, but 0·NaN is NaN: a value that is not finite spoils the rows of its whole tile. (A key
// that is not finite does not, in the forward pass: masked scores are replaced, not multiplied.)
#pragma once
#include "attention.h"

namespace tacotune::cuda {
namespace {
namespace flash {

using namespace attention;

constexpr float LOG2E = 1.44269504088896f;
constexpr float LN2 = 0.69314718055995f;

// A tile has rows of W values. Chunks of 8 values (16 bytes) are permuted within a row so that the 8 rows that ldmatrix reads
// at once lie in different banks; no padding, so that two blocks of every kernel fit an sm_89. The permutation repeats
// every 8 rows.
template <int W>
__device__ __forceinline__ int permutation(int row) {
  return W % 64 == 0 ? row & 7 : row >> 1 & 3;
}

/// Where a lane reads matrices: its row, and which of two neighbouring chunks.
template <int W>
struct Corner {
  int row_start, permuted;
  __device__ __forceinline__ Corner(int row, int second) : row_start(row * W), permuted((second ^ permutation<W>(row)) * 8) {}
  /// of the pair of chunks that begins at an even one
  __device__ __forceinline__ int at(int chunk) const { return row_start + (chunk * 8 ^ permuted); }
};

/// Starts copying ROWS rows to a tile; those from `available` on become zero. Offsets within a tile fit 32 bits.
template <int W, int ROWS>
__device__ __forceinline__ void load_tile(bf16* tile, const bf16* rows, int pitch, int available) {
  constexpr int CHUNKS = W / 8, ABREAST = W % 64 == 0 ? CHUNKS : 4;  // chunks of a row that neighbouring threads copy
  constexpr int STRIDE = THREADS / ABREAST;
  static_assert(CHUNKS % ABREAST == 0 && ROWS % STRIDE == 0 && STRIDE % 8 == 0, "every thread copies as much, at one permutation");
  const int first_row = threadIdx.x / ABREAST, first_chunk = threadIdx.x % ABREAST;
  bf16* const to = tile + first_row * W + (first_chunk ^ permutation<W>(first_row)) * 8;
  const bf16* const from = rows + first_row * pitch + first_chunk * 8;
#pragma unroll
  for (int row = 0; row < ROWS; row += STRIDE)
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk += ABREAST)
      copy_async_16(to + row * W + chunk * 8, from + row * pitch + chunk * 8, first_row + row < available);
}

template <int N>
__device__ __forceinline__ void clear(float (&sum)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; n++)
#pragma unroll
    for (int e = 0; e < 4; e++) sum[n][e] = 0.0f;
}

/// The 16 rows of a tile that start at `row`, as left factors: columns 16·step … +15.
template <int W>
__device__ __forceinline__ void load_left(uint32_t (&a)[4], const bf16* tile, int row, int step, int lane) {
  const Corner<W> corner(lane & 15, lane >> 4);
  ldmatrix_x4(a, tile + row * W + corner.at(2 * step));
}

template <int W>
__device__ __forceinline__ void load_left(uint32_t (&a)[W / 16][4], const bf16* tile, int row, int lane) {
#pragma unroll
  for (int step = 0; step < W / 16; step++) load_left<W>(a[step], tile, row, step, lane);
}

/// One step of sum (16,8N) += a (16,16) · b (8N,W)ᵀ, columns 16·step … +15 of b.
template <int W, int N>
__device__ __forceinline__ void multiply_step(float (&sum)[N][4], const uint32_t (&a)[4], const bf16* b, int step, int lane) {
  const Corner<W> corner((lane & 7) + (lane >> 4) * 8, lane >> 3 & 1);
#pragma unroll
  for (int n = 0; n < N; n += 2) {
    uint32_t right[4];
    ldmatrix_x4(right, b + n * 8 * W + corner.at(2 * step));
    mma_bf16(sum[n], a, {right[0], right[1]}, sum[n]);
    mma_bf16(sum[n + 1], a, {right[2], right[3]}, sum[n + 1]);
  }
}

/// sum (16,8N) = a (16,W) · b (8N,W)ᵀ
template <int W, int N>
__device__ __forceinline__ void multiply_transposed(float (&sum)[N][4], const uint32_t (&a)[W / 16][4], const bf16* b, int lane) {
  clear(sum);
#pragma unroll
  for (int step = 0; step < W / 16; step++) multiply_step<W>(sum, a[step], b, step, lane);
}

/// The same; a are the 16 rows of a tile from `row` on. Unrolled by 4 steps, or all of them would be read ahead into registers.
template <int W, int N>
__device__ __forceinline__ void multiply_transposed(float (&sum)[N][4], const bf16* a, int row, const bf16* b, int lane) {
  clear(sum);
#pragma unroll 4
  for (int step = 0; step < W / 16; step++) {
    uint32_t left[4];
    load_left<W>(left, a, row, step, lane);
    multiply_step<W>(sum, left, b, step, lane);
  }
}

/// sum (16,W) += a (16,8N) · b (8N,W); a is rounded to bf16.
template <int W, int N>
__device__ __forceinline__ void multiply_add(float (&sum)[W / 8][4], const float (&a)[N][4], const bf16* b, int lane) {
  const Corner<W> corner(lane & 15, lane >> 4);
#pragma unroll
  for (int n = 0; n < N; n += 2) {
    const uint32_t left[4] = {pack_bf16(a[n][0], a[n][1]), pack_bf16(a[n][2], a[n][3]), pack_bf16(a[n + 1][0], a[n + 1][1]),
                              pack_bf16(a[n + 1][2], a[n + 1][3])};
#pragma unroll
    for (int d = 0; d < W / 8; d += 2) {
      uint32_t right[4];
      ldmatrix_x4_transposed(right, b + n * 8 * W + corner.at(d));
      mma_bf16(sum[d], left, {right[0], right[1]}, sum[d]);
      mma_bf16(sum[d + 1], left, {right[2], right[3]}, sum[d + 1]);
    }
  }
}

/// Writes rows lane/4 and lane/4+8 of factor·sum (16,W) to rows of D ≤ W columns; `rows` of the 16 exist.
template <int W>
__device__ __forceinline__ void store_rows(float* out, int pitch, int rows, int D, const float (&sum)[W / 8][4], const float (&factor)[2], int lane) {
  const bool pairs = D % 2 == 0 && reinterpret_cast<uintptr_t>(out) % 8 == 0;  // then so is the pitch, a multiple of D
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int row = lane / 4 + 8 * i;
    if (row >= rows) continue;
#pragma unroll
    for (int n = 0; n < W / 8; n++) {
      const int d = n * 8 + lane % 4 * 2;
      float* const to = out + row * pitch + d;
      const float low = sum[n][2 * i] * factor[i], high = sum[n][2 * i + 1] * factor[i];
      if (pairs && d < D) {
        *reinterpret_cast<float2*>(to) = make_float2(low, high);
      } else {
        if (d < D) to[0] = low;
        if (d + 1 < D) to[1] = high;
      }
    }
  }
}

/// The keys that query t, at key position t + offset, may see begin here. What is out of range is reported and clamped.
__device__ __forceinline__ int start_of(const int32_t* starts, Int index, int position, Fault* fault, int32_t op) {
  const int start = starts[index];
  if (start >= 0 && start <= position) return start;
  report_fault(fault, op, index, start);
  return start < 0 ? 0 : position;
}

/// Which keys the queries of a tile see: all of them from `latest` to the first query's position, none before `earliest`.
struct Sight {
  int earliest, latest;
};

__device__ __forceinline__ Sight sight_of_tile(const int32_t* starts, Int first_index, int first_query, int queries, int offset, Fault* fault,
                                               int32_t op, int lane) {
  Sight sight = {INT32_MAX, 0};
#pragma unroll
  for (int i = lane; i < TILE; i += 32) {
    const int t = first_query + i;
    if (t >= queries) break;
    const int start = start_of(starts, first_index + i, t + offset, fault, op);
    sight.earliest = min(sight.earliest, start);
    sight.latest = max(sight.latest, start);
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    sight.earliest = min(sight.earliest, __shfl_xor_sync(ALL_LANES, sight.earliest, step));
    sight.latest = max(sight.latest, __shfl_xor_sync(ALL_LANES, sight.latest, step));
  }
  return sight;
}

}  // namespace flash
}  // namespace
}  // namespace tacotune::cuda
