// SPDX-License-Identifier: Apache-2.0
// The matrix product of the tensor cores: one loop for the three patterns, the tiles and the storage types of gemm.h.
//
// Tiles of A and B travel STAGES deep through shared memory (cp.async), so that loads of later depths run while earlier ones
// are multiplied. NF4 codes travel one depth ahead of A: in the shadow of the products of depth k, the codes of depth k + 1 are
// decoded into the one of two panels that is not being read. One barrier a depth serves all of it: behind it, the tiles of
// depth k have come, and everybody has read those of depth k - 1, whose places are filled next.
//
// A low-rank product goes before the long one: its sum is scaled in f32 as it stands in the registers, and the long one adds to
// it. So no factor is rounded otherwise than in a product of its own, no second set of sums is needed, and what it keeps in
// registers is dead before the long loop begins.
#pragma once
#include <type_traits>

#include "storage.cuh"
#include "gemm-tile.cuh"

namespace tacotune::cuda {
namespace {

template <Lines lines>
__device__ __forceinline__ Window window_of(Int first, Int end, Int depth, Int depth_end) {
  return lines == Lines::ALONG ? Window{first, end, depth, depth_end} : Window{depth, depth_end, first, end};
}

/// The copies of an operand's tiles, depth after depth.
template <Lines lines, class T>
struct Stages {
  uint16_t* shared;  // [STAGES][T]
  TileCopy<T> copy;

  __device__ __forceinline__ void start_next(int stage) {
    copy.start(shared + stage * T::SIZE);
    copy.move(lines == Lines::ALONG ? 0 : TILE_DEPTH, lines == Lines::ALONG ? T::WIDTH : 0);
  }
  __device__ __forceinline__ const uint16_t* tile(int stage) const { return shared + stage * T::SIZE; }
};

/// B of bf16 or f16, multiplied from where it was copied to.
template <Lines lines, int SPAN, class Shape>
struct DenseB {
  using T = OperandTile<lines, SPAN>;
  Stages<lines, T> stages;

  __device__ __forceinline__ DenseB(const void* matrix, Int pitch, uint16_t* shared, const Window& window)
      : stages{shared, {static_cast<const uint16_t*>(matrix), pitch, window}} {}
  __device__ __forceinline__ DenseB(const Product& p, uint16_t* shared, const Window& window) : DenseB(p.b, p.b_pitch, shared, window) {}

  __device__ __forceinline__ void begin() {}
  __device__ __forceinline__ void start_next(int stage) { stages.start_next(stage); }
  __device__ __forceinline__ void decode_next(int) {}
  __device__ __forceinline__ const uint16_t* tile(int depth) const { return stages.tile(depth % Shape::STAGES); }
};

/// B of NF4: a thread decodes the 32 codes that it copied itself, so it need not wait for others.
template <Lines lines, int SPAN, class Shape>
struct Nf4B {
  using T = OperandTile<lines, SPAN>;
  using Codes = CodeTile<T::LINES, T::WIDTH>;

  Nf4Tables& tables;
  uint16_t* panels;  // [2][T]
  Stages<lines, Codes> stages;
  Scales scales;
  Int element, element_step;  // where the codes stand whose scale is fetched next, and how far it is to the next depth's
  int depths_left;            // with codes for this thread
  StoredScale scale;          // of the codes that are decoded next

  __device__ __forceinline__ Nf4B(const Product& p, uint16_t* shared, const Window& w)
      : tables(nf4_tables()),
        panels(shared),
        stages{panels + 2 * T::SIZE, {static_cast<const uint16_t*>(p.b), p.b_pitch / 4, {w.line, w.line_end, w.column / 4, w.column_end / 4}}},
        scales{p.absmax_codes, p.absmax, p.absmax_offset} {
    const Int line = w.line + stages.copy.line, column = w.column + stages.copy.chunk * 32;
    element = line * p.b_pitch + column;
    element_step = lines == Lines::ALONG ? TILE_DEPTH : TILE_DEPTH * p.b_pitch;
    const bool inside = line < w.line_end && column < w.column_end;
    const Int left = lines == Lines::ALONG ? w.column_end - column : w.line_end - line;
    depths_left = inside ? static_cast<int>((left + TILE_DEPTH - 1) / TILE_DEPTH) : 0;
  }

  __device__ __forceinline__ StoredScale fetch_scale() {
    const StoredScale fetched = scales.fetch(element / NF4_BLOCK, depths_left > 0);
    element += element_step, depths_left--;
    return fetched;
  }

  /// Codes of the first depth, which travel alone.
  __device__ __forceinline__ void begin() {
    fill(tables);
    scale = fetch_scale();
    stages.start_next(0);
    copy_async_commit();
  }
  /// Beside the tile of A for depth k go the codes of depth k + 1.
  __device__ __forceinline__ void start_next(int stage) { stages.start_next((stage + 1) % Shape::STAGES); }

  __device__ __forceinline__ void decode_next(int depth) {
    const StoredScale following = fetch_scale();  // on its way while this depth is decoded
    const float value = scales.decode(tables.map, scale);
    scale = following;
    const int line = stages.copy.line, chunk = stages.copy.chunk;
    uint16_t* const panel = panels + (depth & 1) * T::SIZE;
    uint4 codes = *reinterpret_cast<const uint4*>(stages.tile(depth % Shape::STAGES) + Codes::at(line, chunk));
    // Lanes store in different orders where several share a line: else they would meet in the same banks.
    const int turn = chunk & 2;
    if (turn) codes = make_uint4(codes.z, codes.w, codes.x, codes.y);
    const uint32_t words[4] = {codes.x, codes.y, codes.z, codes.w};
#pragma unroll
    for (int i = 0; i < 4; i++) *reinterpret_cast<uint4*>(panel + T::at(line, chunk * 4 + (i ^ turn))) = decode_word(tables, words[i], value);
  }
  __device__ __forceinline__ const uint16_t* tile(int depth) const { return panels + (depth & 1) * T::SIZE; }
};

/// A warp's part of the result, as mma.sync leaves it: 16×8 fragments.
template <class Shape, Lines a_lines, Lines b_lines>
struct WarpTile {
  static constexpr int ROWS = Shape::ROWS / Shape::WARPS_DOWN, COLUMNS = Shape::COLUMNS / Shape::WARPS_ACROSS;
  static constexpr int DOWN = ROWS / 16, ACROSS = COLUMNS / 8;
  static_assert(Shape::WARPS_DOWN * Shape::WARPS_ACROSS * 32 == TILE_THREADS && ACROSS % 2 == 0, "fragments of B come in pairs");

  int row, column;  // in the block's tile
  Fragments<OperandTile<a_lines, Shape::ROWS>, a_lines, true, DOWN> of_a;
  Fragments<OperandTile<b_lines, Shape::COLUMNS>, b_lines, false, ACROSS / 2> of_b;
  float sums[DOWN][ACROSS][4] = {};

  __device__ __forceinline__ explicit WarpTile(int warp)
      : row(warp / Shape::WARPS_ACROSS * ROWS), column(warp % Shape::WARPS_ACROSS * COLUMNS), of_a(row), of_b(column) {}

  template <bool b_is_f16>
  __device__ __forceinline__ void multiply(const uint16_t* a_tile, const uint16_t* b_tile) {
#pragma unroll
    for (int step = 0; step < TILE_DEPTH / 16; step++) {
      uint32_t a[DOWN][4], b[ACROSS / 2][4];
#pragma unroll
      for (int i = 0; i < DOWN; i++) of_a.load(a[i], a_tile, i, step);
#pragma unroll
      for (int j = 0; j < ACROSS / 2; j++) {
        of_b.load(b[j], b_tile, j, step);
        if (b_is_f16)
          for (int i = 0; i < 4; i++) b[j][i] = bf16_of_f16(b[j][i]);
      }
#pragma unroll
      for (int i = 0; i < DOWN; i++)
#pragma unroll
        for (int j = 0; j < ACROSS; j++) mma_bf16(sums[i][j], a[i], {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]}, sums[i][j]);
    }
  }

  __device__ __forceinline__ void scale(float factor) {
#pragma unroll
    for (int i = 0; i < DOWN; i++)
#pragma unroll
      for (int j = 0; j < ACROSS; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) sums[i][j][e] *= factor;
  }

  /// out = alpha·sum, plus what was there where the product accumulates.
  __device__ __forceinline__ void store(const Product& p, Int M, Int block_row, Int block_column) const {
    const int lane = threadIdx.x & 31;
    float* const out = p.out + blockIdx.z * p.split_stride;
    const bool in_pairs = p.out_pitch % 2 == 0 && p.split_stride % 2 == 0 && reinterpret_cast<uintptr_t>(p.out) % 8 == 0;
#pragma unroll
    for (int i = 0; i < DOWN; i++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const Int m = block_row + row + i * 16 + half * 8 + lane / 4;
        if (m >= M) continue;
#pragma unroll
        for (int j = 0; j < ACROSS; j++) {
          const Int n = block_column + column + j * 8 + lane % 4 * 2;
          float* const to = out + m * p.out_pitch + n;
          const float first = p.alpha * sums[i][j][2 * half], second = p.alpha * sums[i][j][2 * half + 1];
          if (in_pairs && n + 1 < p.N) {
            const float2 old = p.accumulate ? *reinterpret_cast<const float2*>(to) : make_float2(0.0f, 0.0f);
            *reinterpret_cast<float2*>(to) = make_float2(first + old.x, second + old.y);
          } else {
            if (n < p.N) to[0] = first + (p.accumulate ? to[0] : 0.0f);
            if (n + 1 < p.N) to[1] = second + (p.accumulate ? to[1] : 0.0f);
          }
        }
      }
  }
};

/// In how many tiles a depth is taken.
__device__ __forceinline__ int depths_of(Int depth) { return static_cast<int>((depth + TILE_DEPTH - 1) / TILE_DEPTH); }

/// Adds the product of A and B, so many tiles deep, to `result`. Warps may still read the last tiles when others return.
template <int STAGES, Storage storage, class A, class B, class Result>
__device__ __forceinline__ void add_product(Result& result, A& a, B& b, int depths) {
  b.begin();
#pragma unroll
  for (int stage = 0; stage < STAGES - 1; stage++) {
    a.start_next(stage);
    b.start_next(stage);
    copy_async_commit();
  }
  if (storage == Storage::NF4) {
    copy_async_wait<STAGES - 1>();
    __syncthreads();  // the tables
    b.decode_next(0);
  }
  for (int depth = 0; depth < depths; depth++) {
    copy_async_wait<STAGES - 2>();
    __syncthreads();
    a.start_next((depth + STAGES - 1) % STAGES);
    b.start_next((depth + STAGES - 1) % STAGES);
    copy_async_commit();  // beyond the end these are zeros that nobody reads
    b.decode_next(depth + 1);
    result.template multiply<storage == Storage::F16>(a.tile(depth % STAGES), b.tile(depth));
  }
  copy_async_wait<0>();
}

/// Grid: tiles down, tiles across, splits of the depth.
template <Lines a_lines, Lines b_lines, Storage storage, class Shape>
__device__ __forceinline__ void multiply(const Product& p) {
  using A = OperandTile<a_lines, Shape::ROWS>;
  using B = std::conditional_t<storage == Storage::NF4, Nf4B<b_lines, Shape::COLUMNS, Shape>, DenseB<b_lines, Shape::COLUMNS, Shape>>;
  DYNAMIC_SHARED(uint16_t, shared);

  const Int row = static_cast<Int>(blockIdx.x) * Shape::ROWS, column = static_cast<Int>(blockIdx.y) * Shape::COLUMNS;
  const Int M = a_lines == Lines::ALONG ? lines_of(p, p.M) : p.M, D = a_lines == Lines::ALONG ? p.D : lines_of(p, p.D);
  if (row >= M) return;
  WarpTile<Shape, a_lines, b_lines> result(static_cast<int>(threadIdx.x) / 32);

  if (a_lines == Lines::ALONG && p.R > 0 && blockIdx.z == 0) {
    using Short = LowRankTile<Shape>;
    Stages<a_lines, A> low = {shared, {static_cast<const uint16_t*>(p.low), p.low_pitch, window_of<a_lines>(row, M, 0, p.R)}};
    DenseB<b_lines, Shape::COLUMNS, Short> factor(p.factor, p.factor_pitch, shared + Short::STAGES * A::SIZE, window_of<b_lines>(column, p.N, 0, p.R));
    add_product<Short::STAGES, Storage::BF16>(result, low, factor, depths_of(p.R));
    result.scale(p.low_alpha);
    __syncthreads();  // its tiles have been read
  }

  const Int start = blockIdx.z * p.split_depth, end = min(D, start + p.split_depth);
  Stages<a_lines, A> a = {shared, {static_cast<const uint16_t*>(p.a), p.a_pitch, window_of<a_lines>(row, M, start, end)}};
  B b(p, shared + Shape::STAGES * A::SIZE, window_of<b_lines>(column, p.N, start, end));
  add_product<Shape::STAGES, storage>(result, a, b, depths_of(end - start));
  result.store(p, M, row, column);
}

}  // namespace
}  // namespace tacotune::cuda
