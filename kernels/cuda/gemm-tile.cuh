// SPDX-License-Identifier: Apache-2.0
// Tiles of 16-bit values in shared memory: how they lie there, how they come from global memory, and how fragments of
// mma.sync are read from them. Knows nothing of products.
//
// A tile keeps the lines of its matrix. ldmatrix reads 16 bytes from each of eight neighbouring lines at once, which meets no
// bank twice because chunks of 16 bytes change places within a line, by an exclusive or with the line's number:
//
//     64-byte lines (two fill all 32 banks):   chunk ^ (line / 2) % 4
//     longer ones:                             chunk ^ line % 8
#pragma once
#include "gemm.h"

namespace tacotune::cuda {

template <int LINES_, int WIDTH_>
struct Tile {
  static constexpr int LINES = LINES_, WIDTH = WIDTH_, CHUNKS = WIDTH / 8, SIZE = LINES * WIDTH;
  static_assert(CHUNKS == 4 || CHUNKS % 8 == 0, "the widths that the exchange of chunks is written for");

  /// Where the eight values of a chunk lie, in elements.
  static __device__ __forceinline__ int at(int line, int chunk) {
    const int place = CHUNKS == 4 ? chunk ^ (line >> 1 & 3) : chunk ^ (line & 7);
    return (line * CHUNKS + place) * 8;
  }
};

/// Codes of NF4 as they are stored, 32 to a chunk of 16 bytes: each is read by the thread that copied it, so they lie in order.
template <int LINES_, int WIDTH_>
struct CodeTile {
  static constexpr int LINES = LINES_, WIDTH = WIDTH_ / 4, CHUNKS = WIDTH / 8, SIZE = LINES * WIDTH;  // in units of 16 bits
  static_assert(LINES * CHUNKS == TILE_THREADS, "one chunk for each thread");

  static __device__ __forceinline__ int at(int line, int chunk) { return (line * CHUNKS + chunk) * 8; }
};

/// A part of a matrix: from a line and a column to where lines and columns end.
struct Window {
  Int line, line_end, column, column_end;
};

/// Copies the tiles of an operand one after the other; a thread takes the same chunks of each. What lies outside the window
/// becomes zero. Columns and pitches are in units of 16 bits.
template <class T>
struct TileCopy {
  static constexpr int LINES_AT_ONCE = TILE_THREADS / T::CHUNKS, PASSES = T::LINES / LINES_AT_ONCE;
  static_assert(TILE_THREADS % T::CHUNKS == 0 && T::LINES % LINES_AT_ONCE == 0, "threads divide the tile evenly");

  int line, chunk;               // this thread's first chunk in a tile
  Int pitch;
  Int lines_left, columns_left;  // from that chunk to the end of the window
  const uint16_t* from;

  __device__ __forceinline__ TileCopy(const uint16_t* matrix, Int pitch, const Window& window)
      : line(static_cast<int>(threadIdx.x) / T::CHUNKS), chunk(static_cast<int>(threadIdx.x) % T::CHUNKS), pitch(pitch) {
    const Int first_line = window.line + line, first_column = window.column + chunk * 8;
    lines_left = window.line_end - first_line;
    columns_left = window.column_end - first_column;
    from = matrix + first_line * pitch + first_column;
  }

  __device__ __forceinline__ void start(uint16_t* tile) const {
#pragma unroll
    for (int pass = 0; pass < PASSES; pass++) {
      const int below = pass * LINES_AT_ONCE;
      copy_async_16(tile + T::at(line + below, chunk), from + below * pitch, below < lines_left && columns_left > 0);
    }
  }

  __device__ __forceinline__ void move(int lines, int columns) {
    from += lines * pitch + columns;
    lines_left -= lines, columns_left -= columns;
  }
};

/// The tile of an operand for `span` rows of A or columns of B.
template <Lines lines, int span>
using OperandTile = Tile<lines == Lines::ALONG ? span : TILE_DEPTH, lines == Lines::ALONG ? TILE_DEPTH : span>;

/// Where a lane reads fragments of mma.m16n8k16 (PTX ISA) from a tile: COUNT of 16×16 of A, or of pairs of 16×8 of B, one
/// beside the other from row or column `first` of the tile. Steps of 16 lines leave the exchange of chunks as it is, so most
/// addresses differ by constants.
template <class T, Lines lines, bool is_a, int COUNT>
struct Fragments {
  static constexpr int STEPS = TILE_DEPTH / 16, BASES = lines == Lines::ALONG ? STEPS : COUNT;
  int bases[BASES];  // in bytes

  __device__ __forceinline__ explicit Fragments(int first) {
    const int lane = threadIdx.x & 31;
    // The second of the four 8×8 matrices lies below the first, and the third beside it; or the other way round.
    const bool below = is_a == (lines == Lines::ALONG);
    const int line = (lane & 7) + (below ? lane >> 3 & 1 : lane >> 4) * 8, chunk = below ? lane >> 4 : lane >> 3 & 1;
#pragma unroll
    for (int i = 0; i < BASES; i++)
      bases[i] = 2 * (lines == Lines::ALONG ? T::at(first + line, i * 2 + chunk) : T::at(line, first / 8 + i * 2 + chunk));
  }

  __device__ __forceinline__ void load(uint32_t (&r)[4], const uint16_t* tile, int i, int step) const {
    const int base = bases[lines == Lines::ALONG ? step : i], beyond = 16 * 2 * T::WIDTH * (lines == Lines::ALONG ? i : step);
    const void* const row = reinterpret_cast<const char*>(tile) + base + beyond;
    if (lines == Lines::ALONG) ldmatrix_x4(r, row);
    else ldmatrix_x4_transposed(r, row);
  }
};

}  // namespace tacotune::cuda
