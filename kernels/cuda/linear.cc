// SPDX-License-Identifier: Apache-2.0
// The linear ops, and the choice of a kernel for a product: what linear.h promises.
#include "linear.h"

#include <algorithm>
#include <type_traits>

#include "gemm.h"
#include "gemm_f32.h"
#include "gemv.h"
#include "kernels/quant.h"
#include "launch.h"
#include "operands.h"
#include "ops.h"

namespace tacotune::cuda {
namespace {

constexpr Int ENOUGH_TILES = 128;     // about one for each multiprocessor of a large GPU
constexpr Int LEAST_SPLIT_DEPTH = 128;
constexpr Int FLAT_ROWS = 64;         // up to so many rows, tiles of 32 waste less than tiles of 128
constexpr Int NARROW_COLUMNS = NarrowTile::COLUMNS;

Int round_up(Int n, Int multiple) { return ceil_div(n, multiple) * multiple; }
bool aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

/// Whether the tensor cores' kernels can copy the matrix as it is.
bool is_ready(const Matrix& x) {
  if (x.type == STORE_NF4) return aligned(x.data) && x.width % NF4_BLOCK == 0;
  return x.type != STORE_F32 && aligned(x.data) && x.pitch % OPERAND_CHUNK == 0;
}

struct Choice {
  const char* kernel;
  int rows, columns;  // of a tile
  int threads;
  int shared_bytes;
};
using Signature = void(Product);

template <class Kernel, class Tile>
Choice tensor(bool nf4 = false) {
  static_assert(std::is_same_v<typename Kernel::Signature, Signature>, "all kernels of products are launched alike");
  static_assert(shared_bytes_of<LowRankTile<Tile>>(false) <= std::min(shared_bytes_of<Tile>(false), shared_bytes_of<Tile>(true)),
                "a low-rank product fits into the shared memory of the long one");
  return {Kernel::symbol, Tile::ROWS, Tile::COLUMNS, TILE_THREADS, shared_bytes_of<Tile>(nf4)};
}
template <class Kernel>
Choice plain() {
  static_assert(std::is_same_v<typename Kernel::Signature, Signature>, "all kernels of products are launched alike");
  return {Kernel::symbol, F32_TILE, F32_TILE, F32_THREADS, 0};
}

template <class Flat, class Square>
Choice by_rows(bool flat, bool nf4 = false) {
  return flat ? tensor<Flat, FlatTile>(nf4) : tensor<Square, SquareTile>(nf4);
}

Choice choose_bf16(Pattern pattern, Int b_type, Int M, Int N) {
  const bool flat = M <= FLAT_ROWS, narrow = !flat && N <= NARROW_COLUMNS && b_type == STORE_BF16;
  switch (pattern) {
    case Pattern::FORWARD:
      if (b_type == STORE_NF4) return by_rows<gemm_forward_nf4_flat_kernel, gemm_forward_nf4_square_kernel>(flat, true);
      if (b_type == STORE_F16) return by_rows<gemm_forward_f16_flat_kernel, gemm_forward_f16_square_kernel>(flat);
      if (narrow) return tensor<gemm_forward_bf16_narrow_kernel, NarrowTile>();
      return by_rows<gemm_forward_bf16_flat_kernel, gemm_forward_bf16_square_kernel>(flat);
    case Pattern::BACKWARD:
      if (b_type == STORE_NF4) return by_rows<gemm_backward_nf4_flat_kernel, gemm_backward_nf4_square_kernel>(flat, true);
      if (b_type == STORE_F16) return by_rows<gemm_backward_f16_flat_kernel, gemm_backward_f16_square_kernel>(flat);
      if (narrow) return tensor<gemm_backward_bf16_narrow_kernel, NarrowTile>();
      return by_rows<gemm_backward_bf16_flat_kernel, gemm_backward_bf16_square_kernel>(flat);
    default:
      if (narrow) return tensor<gemm_weight_narrow_kernel, NarrowTile>();
      return by_rows<gemm_weight_flat_kernel, gemm_weight_square_kernel>(flat);
  }
}

Choice choose_f32(Pattern pattern, Int b_type) {
  switch (pattern) {
    case Pattern::FORWARD:
      if (b_type == STORE_NF4) return plain<gemm_f32_forward_nf4_kernel>();
      if (b_type == STORE_F16) return plain<gemm_f32_forward_f16_kernel>();
      return b_type == STORE_BF16 ? plain<gemm_f32_forward_bf16_kernel>() : plain<gemm_f32_forward_f32_kernel>();
    case Pattern::BACKWARD:
      if (b_type == STORE_NF4) return plain<gemm_f32_backward_nf4_kernel>();
      if (b_type == STORE_F16) return plain<gemm_f32_backward_f16_kernel>();
      return b_type == STORE_BF16 ? plain<gemm_f32_backward_bf16_kernel>() : plain<gemm_f32_backward_f32_kernel>();
    default: return plain<gemm_f32_weight_kernel>();
  }
}

/// In how many parts the depth is summed: enough to fill a GPU, none too short to be worth its place in memory.
Int parts_of(Int tiles, Int D) {
  return tiles >= ENOUGH_TILES ? 1 : std::max<Int>(1, std::min(ceil_div(ENOUGH_TILES, tiles), D / LEAST_SPLIT_DEPTH));
}

/// Runs a product whose operands its kernel can take. `rows` says which rows of the result are written.
void run(const Choice& choice, const Product& whole, Rows rows, Workspace& workspace) {
  const Int down = ceil_div(whole.M, choice.rows), across = ceil_div(whole.N, choice.columns);
  Product p = whole;
  p.split_depth = std::max<Int>(TILE_DEPTH, round_up(ceil_div(p.D, parts_of(down * across, p.D)), TILE_DEPTH));
  const Int splits = std::max<Int>(1, ceil_div(p.D, p.split_depth));
  if (splits > 1) {
    p.out = workspace.take(splits * p.M * p.N);
    p.out_pitch = p.N, p.split_stride = p.M * p.N;
    p.alpha = 1.0f, p.accumulate = 0;
  }
  launch_checked(choice.kernel, static_cast<Signature*>(nullptr), {down, across, splits}, choice.threads, choice.shared_bytes, p);
  if (splits > 1)
    launch<sum_splits_kernel>(grid_for(p.M * p.N, OPERAND_THREADS), OPERAND_THREADS, 0, whole.out, whole.out_pitch, p.out, splits, p.M, p.N,
                              whole.alpha, whole.accumulate, rows.count, rows.first);
}

/// The forward product of a few rows, which reads each weight once.
void run_gemv(float* out, const Matrix& inp, const Matrix& weight, float alpha, Int accumulate) {
  Gemv p = {};
  p.out = out, p.alpha = alpha, p.accumulate = accumulate;
  p.inp = static_cast<const float*>(inp.data);
  p.weight = weight.data, p.absmax_codes = weight.absmax_codes, p.absmax = weight.absmax, p.absmax_offset = weight.absmax_offset;
  p.M = inp.lines, p.N = weight.lines, p.K = weight.width;
  const auto with = [&](const char* kernel) {
    launch_checked(kernel, static_cast<gemv_nf4_kernel::Signature*>(nullptr), grid_for(p.N, GEMV_COLUMNS), GEMV_THREADS, 0, p);
  };
  if (weight.type == STORE_NF4) with(gemv_nf4_kernel::symbol);
  else if (weight.type == STORE_F16) with(gemv_f16_kernel::symbol);
  else if (weight.type == STORE_BF16) with(gemv_bf16_kernel::symbol);
  else with(gemv_f32_kernel::symbol);
}

bool suits_gemv(Pattern pattern, const Matrix& a, const Matrix& b, const Rows& rows) {
  return pattern == Pattern::FORWARD && a.lines <= GEMV_ROWS && a.type == STORE_F32 && aligned(a.data) && rows.count == nullptr && b.width > 0 &&
         (is_ready(b) || (b.type == STORE_F32 && aligned(b.data) && b.width % OPERAND_CHUNK == 0));
}

/// A copy in bf16, in scratch.
Matrix bf16_copy(const Matrix& matrix) {
  const Int pitch = padded(matrix.width), elements = matrix.lines * pitch;
  uint16_t* const copy = scratch_of<uint16_t>(elements);
  const Grid grid = grid_for(elements / OPERAND_CHUNK, OPERAND_THREADS);
  if (matrix.type == STORE_NF4)
    launch<nf4_to_bf16_kernel>(grid, OPERAND_THREADS, 0, copy, static_cast<const uint8_t*>(matrix.data), matrix.absmax_codes, matrix.absmax,
                               matrix.absmax_offset, matrix.lines, matrix.width, pitch);
  else launch<to_bf16_kernel>(grid, OPERAND_THREADS, 0, copy, matrix.data, matrix.type, matrix.lines, matrix.width, pitch);
  return {copy, STORE_BF16, matrix.lines, matrix.width, pitch};
}

/// A of a product is always bf16.
Matrix left_matrix(const Matrix& matrix) { return matrix.type == STORE_BF16 && is_ready(matrix) ? matrix : bf16_copy(matrix); }

Matrix low_matrix(const LowRank& x, Int M) { return dense_matrix(x.low, STORE_F32, M, x.R); }
Matrix factor_matrix(Pattern pattern, const LowRank& x, Int N) {
  return pattern == Pattern::FORWARD ? dense_matrix(x.factor, STORE_F32, N, x.R) : dense_matrix(x.factor, STORE_F32, x.R, N);
}

/// Gives a product's kernel its low-rank product as well; nothing of that is left to do then.
void take_along(Pattern pattern, Product& p, LowRank& added) {
  if (added.R == 0) return;
  const Matrix low = bf16_copy(low_matrix(added, p.M)), factor = bf16_copy(factor_matrix(pattern, added, p.N));
  p.low = low.data, p.low_pitch = low.pitch;
  p.factor = factor.data, p.factor_pitch = factor.pitch;
  p.R = added.R, p.low_alpha = added.alpha;
  added.R = 0;
}

/// Whether a product went another way than through our kernel.
bool run_elsewhere(Pattern pattern, const Choice& choice, const Product& p, const Matrix& a, const Matrix& b, Workspace& workspace) {
  if (!large_products || !aligned(p.out) || !large_products->wants(p.M, p.N, p.D)) return false;
  const LargeProduct large = {pattern, a, b.type == STORE_BF16 ? b : bf16_copy(b), p.out, p.M, p.N, p.D, p.alpha, p.accumulate};
  return large_products->compute(large, [&](float* out) {
    Product ours = p;
    ours.out = out, ours.accumulate = 0;
    run(choice, ours, {}, workspace);
  });
}

Matrix f32_matrix(F32In x, Int lines, Int width) { return dense_matrix(x.data, STORE_F32, lines, width); }

Matrix nf4_matrix(U8In codes, U8In absmax_codes, F32In absmax, float absmax_offset, Int N, Int K) {
  return {codes.data, STORE_NF4, N, K, K, absmax_codes.count ? absmax_codes.data : nullptr, absmax.data, absmax_offset};
}

}  // namespace

LargeProducts* large_products = nullptr;

Matrix tensor_matrix(const Matrix& matrix) { return is_ready(matrix) ? matrix : bf16_copy(matrix); }

void product(Pattern pattern, float* out, Int out_pitch, const Matrix& a, const Matrix& b, float alpha, Int accumulate, Int compute,
             Workspace& workspace, Rows rows, const LowRank& added) {
  const bool bf16 = compute == COMPUTE_BF16;
  Product p = {};
  p.M = pattern == Pattern::WEIGHT ? a.width : a.lines;
  p.N = pattern == Pattern::FORWARD ? b.lines : b.width;
  p.D = pattern == Pattern::WEIGHT ? a.lines : a.width;
  if (p.M == 0 || p.N == 0) return;
  const bool few = bf16 && out_pitch == p.N && suits_gemv(pattern, a, b, rows);
  LowRank left_over = added;
  if (few) {
    run_gemv(out, a, b, alpha, accumulate);
  } else {
    const Matrix left = bf16 ? left_matrix(a) : a, right = bf16 ? tensor_matrix(b) : b;
    p.out = out, p.out_pitch = out_pitch, p.alpha = alpha, p.accumulate = accumulate;
    p.a = left.data, p.a_pitch = left.pitch;
    p.b = right.data, p.b_pitch = right.pitch;
    p.absmax_codes = right.absmax_codes, p.absmax = right.absmax, p.absmax_offset = right.absmax_offset;
    p.row_count = rows.count, p.first_row = rows.first;
    const Choice choice = bf16 ? choose_bf16(pattern, right.type, p.M, p.N) : choose_f32(pattern, right.type);
    const bool done = bf16 && rows.count == nullptr && out_pitch == p.N && run_elsewhere(pattern, choice, p, left, right, workspace);
    if (!done) {
      if (bf16 && alpha == 1.0f) take_along(pattern, p, left_over);
      run(choice, p, pattern == Pattern::WEIGHT ? Rows{} : rows, workspace);
    }
  }
  if (left_over.R > 0)
    product(pattern, out, out_pitch, low_matrix(added, p.M), factor_matrix(pattern, added, p.N), added.alpha, 1, compute, workspace, rows);
}

void linear_forward(F32Out out, F32In inp, BytesIn weight, Int weight_type, F32In low, F32In factor, Int M, Int N, Int K, Int R, float alpha,
                    float low_alpha, Int accumulate, Int compute) {
  Workspace workspace;
  const Matrix w = dense_matrix(weight.data, weight_type, N, K);
  product(Pattern::FORWARD, out.data, N, f32_matrix(inp, M, K), w, alpha, accumulate, compute, workspace, {}, {low.data, factor.data, R, low_alpha});
}

void linear_backward(F32Out dinp, F32In dout, BytesIn weight, Int weight_type, F32In low, F32In factor, Int M, Int N, Int K, Int R, float alpha,
                     float low_alpha, Int accumulate, Int compute) {
  Workspace workspace;
  const Matrix w = dense_matrix(weight.data, weight_type, N, K);
  product(Pattern::BACKWARD, dinp.data, K, f32_matrix(dout, M, N), w, alpha, accumulate, compute, workspace, {}, {low.data, factor.data, R, low_alpha});
}

void linear_weight_backward(F32Out dweight, F32In dout, F32In inp, Int M, Int N, Int K, float alpha, Int compute) {
  Workspace workspace;
  product(Pattern::WEIGHT, dweight.data, K, f32_matrix(dout, M, N), f32_matrix(inp, M, K), alpha, 1, compute, workspace);
}

void linear_nf4_forward(F32Out out, F32In inp, U8In codes, U8In absmax_codes, F32In absmax, float absmax_offset, F32In low, F32In factor, Int M,
                        Int N, Int K, Int R, float low_alpha, Int accumulate, Int compute) {
  Workspace workspace;
  const Matrix w = nf4_matrix(codes, absmax_codes, absmax, absmax_offset, N, K);
  product(Pattern::FORWARD, out.data, N, f32_matrix(inp, M, K), w, 1.0f, accumulate, compute, workspace, {}, {low.data, factor.data, R, low_alpha});
}

void linear_nf4_backward(F32Out dinp, F32In dout, U8In codes, U8In absmax_codes, F32In absmax, float absmax_offset, F32In low, F32In factor, Int M,
                         Int N, Int K, Int R, float low_alpha, Int accumulate, Int compute) {
  Workspace workspace;
  const Matrix w = nf4_matrix(codes, absmax_codes, absmax, absmax_offset, N, K);
  product(Pattern::BACKWARD, dinp.data, K, f32_matrix(dout, M, N), w, 1.0f, accumulate, compute, workspace, {}, {low.data, factor.data, R, low_alpha});
}

}  // namespace tacotune::cuda
