// SPDX-License-Identifier: Apache-2.0
// The matrix product in f32: what gemm_f32.h promises. A thread sums 4×4 elements of a tile, each depth of 32 by itself first:
// a long chain of additions would lose more bits than the products have.
#include "gemm_f32.h"

#include "storage.cuh"

namespace tacotune::cuda {
namespace {

// A tile in shared memory: [depth][row or column]. The pitch keeps both ways of filling it free of bank conflicts.
constexpr int PITCH = F32_TILE + 1;
constexpr int EACH = 4;  // rows, and columns, of a thread
constexpr int APART = F32_TILE / EACH;

/// Fills the tile of an operand for rows or columns from `first` to `end` and depths from `depth` to `depth_end`.
template <Lines lines, class Element>
__device__ __forceinline__ void fill_tile(float* tile, const Element& element, Int first, Int end, Int depth, Int depth_end) {
  constexpr int WIDTH = lines == Lines::ALONG ? TILE_DEPTH : F32_TILE;  // neighbours in memory are read by neighbours
  const int place = static_cast<int>(threadIdx.x) % WIDTH;
#pragma unroll
  for (int line = static_cast<int>(threadIdx.x) / WIDTH; line < F32_TILE * TILE_DEPTH / WIDTH; line += F32_THREADS / WIDTH) {
    const int i = lines == Lines::ALONG ? line : place, d = lines == Lines::ALONG ? place : line;
    const bool inside = first + i < end && depth + d < depth_end;
    tile[d * PITCH + i] = !inside ? 0.0f : lines == Lines::ALONG ? element(first + i, depth + d) : element(depth + d, first + i);
  }
}

template <Lines a_lines, Lines b_lines, Storage storage>
__device__ __forceinline__ void multiply(const Product& p) {
  SHARED(float, a, [TILE_DEPTH * PITCH]);
  SHARED(float, b, [TILE_DEPTH * PITCH]);

  const Int M = a_lines == Lines::ALONG ? lines_of(p, p.M) : p.M, D = a_lines == Lines::ALONG ? p.D : lines_of(p, p.D);
  const Int row = static_cast<Int>(blockIdx.x) * F32_TILE, column = static_cast<Int>(blockIdx.y) * F32_TILE;
  if (row >= M) return;
  const Int start = blockIdx.z * p.split_depth, end = min(D, start + p.split_depth);
  const int down = static_cast<int>(threadIdx.x) / APART, across = static_cast<int>(threadIdx.x) % APART;

  const auto a_element = [&](Int line, Int i) { return element<Storage::F32>(p.a, line * p.a_pitch + i); };
  const auto b_element = [&](Int line, Int i) {
    const Int at = line * p.b_pitch + i;
    if constexpr (storage == Storage::NF4) return decode_element(static_cast<const uint8_t*>(p.b), {p.absmax_codes, p.absmax, p.absmax_offset}, at);
    else return element<storage>(p.b, at);
  };

  float sums[EACH][EACH] = {};
  for (Int depth = start; depth < end; depth += TILE_DEPTH) {
    fill_tile<a_lines>(a, a_element, row, M, depth, end);
    fill_tile<b_lines>(b, b_element, column, p.N, depth, end);
    __syncthreads();
    float part[EACH][EACH] = {};
#pragma unroll 8
    for (int d = 0; d < TILE_DEPTH; d++) {
      float of_a[EACH], of_b[EACH];
#pragma unroll
      for (int i = 0; i < EACH; i++) of_a[i] = a[d * PITCH + down + i * APART], of_b[i] = b[d * PITCH + across + i * APART];
#pragma unroll
      for (int i = 0; i < EACH; i++)
#pragma unroll
        for (int j = 0; j < EACH; j++) part[i][j] += of_a[i] * of_b[j];
    }
#pragma unroll
    for (int i = 0; i < EACH; i++)
#pragma unroll
      for (int j = 0; j < EACH; j++) sums[i][j] += part[i][j];
    __syncthreads();
  }

  float* const out = p.out + blockIdx.z * p.split_stride;
#pragma unroll
  for (int i = 0; i < EACH; i++)
#pragma unroll
    for (int j = 0; j < EACH; j++) {
      const Int m = row + down + i * APART, n = column + across + j * APART;
      if (m >= M || n >= p.N) continue;
      float& to = out[m * p.out_pitch + n];
      to = p.alpha * sums[i][j] + (p.accumulate ? to : 0.0f);
    }
}

}  // namespace

#define PRODUCT(name, a_lines, b_lines, storage)                           \
  extern "C" __global__ void __launch_bounds__(F32_THREADS) name(Product p) { \
    multiply<Lines::a_lines, Lines::b_lines, Storage::storage>(p);         \
  }                                                                        \
  EXPORT_KERNEL(name)

PRODUCT(gemm_f32_forward_f32_kernel, ALONG, ALONG, F32);
PRODUCT(gemm_f32_forward_bf16_kernel, ALONG, ALONG, BF16);
PRODUCT(gemm_f32_forward_f16_kernel, ALONG, ALONG, F16);
PRODUCT(gemm_f32_forward_nf4_kernel, ALONG, ALONG, NF4);
PRODUCT(gemm_f32_backward_f32_kernel, ALONG, ACROSS, F32);
PRODUCT(gemm_f32_backward_bf16_kernel, ALONG, ACROSS, BF16);
PRODUCT(gemm_f32_backward_f16_kernel, ALONG, ACROSS, F16);
PRODUCT(gemm_f32_backward_nf4_kernel, ALONG, ACROSS, NF4);
PRODUCT(gemm_f32_weight_kernel, ACROSS, ACROSS, F32);

}  // namespace tacotune::cuda
