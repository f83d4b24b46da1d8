// SPDX-License-Identifier: Apache-2.0
// Matrix products as the host half of an op asks for them: any operands, any sizes, either compute type. It picks a kernel and
// its tiles by shape, makes operands ready for it, and splits the depth where a result has too few tiles to fill a GPU. What
// is picked depends on shapes (and alignment), never on the GPU: the same bits on all of them.
//
// Scratch of one product M×N over depth D, in bytes; `up` rounds to a multiple of 8:
//
//     compute bf16    A of f32 (always so in the linear ops)            2·M·up(D)     weight gradients: 2·D·up(M)
//                     B of f32 (LoRA, weight gradients)                 2·N·up(D)     where lines lie across: 2·D·up(N)
//                     B of bf16 or f16                                  0, or as of f32 where K % 8 ≠ 0 or it is unaligned
//                     B of NF4                                          0, or as of f32 where K % 64 ≠ 0 or it is unaligned
//                     M ≤ 8, forward, both aligned, K as above          nothing at all (f32 too, where K % 8 = 0)
//     either          splits(M, N, D) > 1                               4·splits·M·N
//
//     through cuBLASLt (blas.h), besides: B in bf16 unless it is so     2·N·up(D)     where lines lie across: 2·D·up(N)
//                     what the library works in                         32 MiB
//                     the first product of a shape                      4·M·N, and some KiB
//
// and of a low-rank product that is added to it:
//
//     compute bf16    one kernel with the first                         2·M·up(R), forward 2·N·up(R), backward 2·R·up(N)
//     otherwise       a product of its own behind the first             as above; partial results share one piece of memory
//
// With tiles of 32×128 (M ≤ 64), 128×64 (N ≤ 64, B of bf16) or 128×128 in bf16, and 64×64 in f32:
//
//     tiles  = ⌈M/rows⌉·⌈N/columns⌉         wanted = 1 where tiles ≥ 128, else min(⌈128/tiles⌉, ⌊D/128⌋), at least 1
//     splits = ⌈D / split_depth⌉            split_depth = ⌈D/wanted⌉, rounded up to a multiple of 32
#pragma once
#include <functional>

#include "launch.h"

namespace tacotune::cuda {

constexpr Int STORE_NF4 = 3;  // beside the StorageTypes of a dense matrix

/// A matrix in device memory, line after line.
struct Matrix {
  const void* data;  // NF4: the codes
  Int type;          // StorageType or STORE_NF4
  Int lines, width;
  Int pitch;         // elements from line to line
  const uint8_t* absmax_codes = nullptr;  // NF4: as in ops.h, null where they are empty
  const float* absmax = nullptr;
  float absmax_offset = 0;
};

inline Matrix dense_matrix(const void* data, Int type, Int lines, Int width) { return {data, type, lines, width, width}; }

/// Lines of bf16 in scratch begin at multiples of 16 bytes.
constexpr Int padded(Int width) { return ceil_div(width, 8) * 8; }

/// The matrix as the tensor cores can take it for B: as it is, or a copy in bf16 in scratch.
Matrix tensor_matrix(const Matrix& matrix);

enum class Pattern {
  FORWARD,   // out (M,N) = a (M,D) · b (N,D)ᵀ
  BACKWARD,  // out (M,N) = a (M,D) · b (D,N)
  WEIGHT,    // out (M,N) = a (D,M)ᵀ · b (D,N)
};

/// Lines of `a` that hold anything, where only the device knows: those before *count - first. Null: all of them.
struct Rows {
  const int32_t* count = nullptr;
  Int first = 0;
};

/// Memory for the partial results of an op's products, one after the other.
class Workspace {
 public:
  float* take(Int count) {
    if (count > count_) partial_ = scratch_of<float>(count_ = count);
    return partial_;
  }

 private:
  float* partial_ = nullptr;
  Int count_ = 0;
};

/// A product whose operands and result begin at multiples of 16 bytes; both operands are bf16, and `out` is as wide as it is.
struct LargeProduct {
  Pattern pattern;
  Matrix a, b;
  float* out;  // (M,N)
  Int M, N, D;
  float alpha;
  Int accumulate;
};

/// Another way to compute large products (blas.h), in place of our kernels.
class LargeProducts {
 public:
  virtual ~LargeProducts() = default;
  virtual bool wants(Int M, Int N, Int D) const = 0;
  using Ours = std::function<void(float* out)>;
  /// False: it is left to our kernels. `ours` computes it into another (M,N), to compare with.
  virtual bool compute(const LargeProduct& product, const Ours& ours) = 0;
};
extern LargeProducts* large_products;  // null: our kernels compute everything

/// Adds alpha·low·factor to a product: low (M,R), and factor over a depth of R as the product's b over D. Both f32; R = 0: nothing.
struct LowRank {
  const float* low = nullptr;
  const float* factor = nullptr;
  Int R = 0;
  float alpha = 0;
};

/// out (M,N), its rows `out_pitch` apart, = alpha·product, plus out where `accumulate`. Rows of `out` that belong to no line of
/// `a` may or may not be written.
void product(Pattern pattern, float* out, Int out_pitch, const Matrix& a, const Matrix& b, float alpha, Int accumulate, Int compute,
             Workspace& workspace, Rows rows = {}, const LowRank& added = {});

}  // namespace tacotune::cuda
