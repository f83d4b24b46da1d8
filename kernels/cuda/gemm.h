// SPDX-License-Identifier: Apache-2.0
// The matrix product of the tensor cores, as device and host both see it: what a product is, the tiles it is cut into, the
// shared memory they take, and its kernels. C (M,N) = alpha·A·B with A (M,D) and B (D,N); D is the depth that is summed over.
//
// An operand is a matrix of 16-bit (or 4-bit) values in memory, whose lines lie along the depth or across it:
//
//     pattern          out                      A                      B
//     forward          inp·weightᵀ    (M,N)     inp, along             weight (N,K), along
//     backward         dout·weight    (M,K)     dout, along            weight (N,K), across
//     weight           doutᵀ·inp      (N,K)     dout, across           inp, across
//
// Every 16-bit operand starts at a multiple of 16 bytes and has lines of a multiple of 8 elements, so that it is copied 16
// bytes at a time; NF4 lines are whole blocks of 64. operands.h makes such copies of all other operands.
#pragma once
#include "kernel.h"

namespace tacotune::cuda {

struct Product {
  float* out;  // (M,N)
  Int out_pitch;
  const void* a;
  Int a_pitch;  // elements from line to line
  const void* b;
  Int b_pitch;
  const uint8_t* absmax_codes;  // of an NF4 b. Null: absmax holds one value for each block of 64
  const float* absmax;
  float absmax_offset;
  float alpha;
  Int accumulate;
  Int M, N, D;
  Int split_depth;   // a multiple of TILE_DEPTH: blocks of grid layer z sum depths [z, z + 1)·split_depth …
  Int split_stride;  // … into a result of their own, so many elements behind the one before
  // Where not null: only *row_count - first_row lines of A hold anything (known on the device alone). The rows of `out`
  // beyond them are not written.
  const int32_t* row_count;
  Int first_row;
  // Where R > 0 (not in the weight pattern, and alpha 1): a second product over a depth of R, low_alpha·low·factor, is added.
  // Both are bf16, their lines as those of A and B.
  const void* low;
  Int low_pitch;
  const void* factor;
  Int factor_pitch;
  Int R;
  float low_alpha;
};

/// Whether the lines of an operand lie along the depth of the product (a line is a row of A or a column of B) or across it.
enum class Lines { ALONG, ACROSS };

constexpr int TILE_DEPTH = 32;
constexpr int TILE_THREADS = 128;

// Tiles of the result. Two blocks of any kind fit into the 100 KiB of the smaller chips (sm_86, sm_89).
struct SquareTile {
  static constexpr int ROWS = 128, COLUMNS = 128, WARPS_DOWN = 2, WARPS_ACROSS = 2, STAGES = 3, BLOCKS = 2;
};
struct FlatTile {  // few rows: small batches; A of LoRA when its gradient is made
  static constexpr int ROWS = 32, COLUMNS = 128, WARPS_DOWN = 1, WARPS_ACROSS = 4, STAGES = 4, BLOCKS = 4;
};
struct NarrowTile {  // few columns: products that end at the rank of LoRA
  static constexpr int ROWS = 128, COLUMNS = 64, WARPS_DOWN = 4, WARPS_ACROSS = 1, STAGES = 4, BLOCKS = 2;
};

/// The low-rank product of a tile: it is short, and its operands of bf16 must fit where NF4 codes and panels come after it.
template <class Tile>
struct LowRankTile : Tile {
  static constexpr int STAGES = 2;
};

/// Dynamic shared memory of a kernel. NF4 codes are staged as they are, and decoded into two panels of bf16.
template <class Tile>
constexpr int shared_bytes_of(bool nf4) {
  const int a = Tile::ROWS * TILE_DEPTH * 2, b = Tile::COLUMNS * TILE_DEPTH * 2;
  return nf4 ? Tile::STAGES * (a + b / 4) + 2 * b : Tile::STAGES * (a + b);
}

}  // namespace tacotune::cuda

#define TACOTUNE_GEMM_FORWARD_KERNELS(KERNEL)           \
  KERNEL(gemm_forward_bf16_square_kernel, (Product p))  \
  KERNEL(gemm_forward_bf16_flat_kernel, (Product p))    \
  KERNEL(gemm_forward_bf16_narrow_kernel, (Product p))  \
  KERNEL(gemm_forward_f16_square_kernel, (Product p))   \
  KERNEL(gemm_forward_f16_flat_kernel, (Product p))     \
  KERNEL(gemm_forward_nf4_square_kernel, (Product p))   \
  KERNEL(gemm_forward_nf4_flat_kernel, (Product p))
#define TACOTUNE_GEMM_BACKWARD_KERNELS(KERNEL)          \
  KERNEL(gemm_backward_bf16_square_kernel, (Product p)) \
  KERNEL(gemm_backward_bf16_flat_kernel, (Product p))   \
  KERNEL(gemm_backward_bf16_narrow_kernel, (Product p)) \
  KERNEL(gemm_backward_f16_square_kernel, (Product p))  \
  KERNEL(gemm_backward_f16_flat_kernel, (Product p))    \
  KERNEL(gemm_backward_nf4_square_kernel, (Product p))  \
  KERNEL(gemm_backward_nf4_flat_kernel, (Product p))
#define TACOTUNE_GEMM_WEIGHT_KERNELS(KERNEL)            \
  KERNEL(gemm_weight_square_kernel, (Product p))        \
  KERNEL(gemm_weight_flat_kernel, (Product p))          \
  KERNEL(gemm_weight_narrow_kernel, (Product p))
TACOTUNE_DECLARE_KERNELS(TACOTUNE_GEMM_FORWARD_KERNELS)
TACOTUNE_DECLARE_KERNELS(TACOTUNE_GEMM_BACKWARD_KERNELS)
TACOTUNE_DECLARE_KERNELS(TACOTUNE_GEMM_WEIGHT_KERNELS)
