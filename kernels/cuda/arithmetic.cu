// SPDX-License-Identifier: Apache-2.0
// Sums, copies, fills. All are bound by memory: four elements a thread, 16 bytes a load.
#include "arithmetic.h"

#include "elements.cuh"

namespace tacotune::cuda {
namespace {

/// Part b of Σ value(x): blocks take turns over the array, so that neighbours in time are neighbours in memory.
template <class Value>
__device__ __forceinline__ void sum_part(double* parts, const float* inp, Int n, Value value) {
  SHARED(double, by_warp, [ELEMENT_WARPS]);
  const bool wide = aligned_to(16, inp);
  double sum = 0;
  for (Int i = first_element(); i < n; i += static_cast<Int>(gridDim.x) * ELEMENTS_PER_BLOCK) {
    const Four x = load_four(inp + i, n - i, wide);
#pragma unroll
    for (int j = 0; j < 4; j++) sum += value(static_cast<double>(x.at[j]));
  }
  sum = block_sum(sum, by_warp);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS) add_kernel(float* out, const float* inp, Int n) {
  const Int i = first_element();
  if (i >= n) return;
  const bool wide = aligned_to(16, out, inp);
  const Four x = load_four(inp + i, n - i, wide);
  Four y = load_four(out + i, n - i, wide);
#pragma unroll
  for (int j = 0; j < 4; j++) y.at[j] += x.at[j];
  store_four(out + i, y, n - i, wide);
}
EXPORT_KERNEL(add_kernel);

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS) copy_kernel(float* out, const float* inp, Int n) {
  const Int i = first_element();
  if (i >= n) return;
  const bool wide = aligned_to(16, out, inp);
  store_four(out + i, load_four(inp + i, n - i, wide), n - i, wide);
}
EXPORT_KERNEL(copy_kernel);

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS) fill_kernel(float* out, float value, Int n) {
  const Int i = first_element();
  if (i >= n) return;
  store_four(out + i, {{value, value, value, value}}, n - i, aligned_to(16, out));
}
EXPORT_KERNEL(fill_kernel);

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS) sum_parts_kernel(double* parts, const float* inp, Int n) {
  sum_part(parts, inp, n, [](double x) { return x; });
}
EXPORT_KERNEL(sum_parts_kernel);

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS) sum_of_squares_parts_kernel(double* parts, const float* inp, Int n) {
  sum_part(parts, inp, n, [](double x) { return x * x; });
}
EXPORT_KERNEL(sum_of_squares_parts_kernel);

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS) sum_total_kernel(float* out, const double* parts, int count, int accumulate) {
  SHARED(double, by_warp, [ELEMENT_WARPS]);
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += ELEMENT_THREADS) sum += parts[i];
  sum = block_sum(sum, by_warp);
  if (threadIdx.x == 0) *out = static_cast<float>(accumulate ? *out + sum : sum);
}
EXPORT_KERNEL(sum_total_kernel);

}  // namespace tacotune::cuda
