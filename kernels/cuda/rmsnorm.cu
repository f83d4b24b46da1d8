// SPDX-License-Identifier: Apache-2.0
// RMSNorm: rstd = 1/sqrt(mean(inp²) + eps), out = inp·rstd·weight. A block has a row; what it reads a second time comes from
// the first-level cache. The derivation of the backward pass stands in reference/rmsnorm.cc.
#include "rmsnorm.h"

#include "elements.cuh"

namespace tacotune::cuda {

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS)
    rmsnorm_forward_kernel(float* out, float* rstd, const float* inp, const float* weight, Int C, float eps) {
  SHARED(float, by_warp, [ELEMENT_WARPS]);
  const Int m = blockIdx.x, first = static_cast<Int>(threadIdx.x) * 4, step = static_cast<Int>(blockDim.x) * 4;
  const bool wide = C % 4 == 0 && aligned_to(16, out, inp, weight);
  const float* const x = inp + m * C;
  float squares = 0;
  for (Int c = first; c < C; c += step) {
    const Four xs = load_four(x + c, C - c, wide);
#pragma unroll
    for (int j = 0; j < 4; j++) squares = fmaf(xs.at[j], xs.at[j], squares);
  }
  const float r = 1.0f / sqrtf(block_sum(squares, by_warp) / static_cast<float>(C) + eps);
  if (threadIdx.x == 0) rstd[m] = r;
  for (Int c = first; c < C; c += step) {
    const Four xs = load_four(x + c, C - c, wide), w = load_four(weight + c, C - c, wide);
    Four y;
#pragma unroll
    for (int j = 0; j < 4; j++) y.at[j] = xs.at[j] * r * w.at[j];
    store_four(out + m * C + c, y, C - c, wide);
  }
}
EXPORT_KERNEL(rmsnorm_forward_kernel);

// dinp = rstd·g - inp·rstd³/C · Σ g·inp with g = dout·weight
extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS)
    rmsnorm_backward_kernel(float* dinp, const float* dout, const float* inp, const float* rstd, const float* weight, Int C, int accumulate) {
  SHARED(float, by_warp, [ELEMENT_WARPS]);
  const Int m = blockIdx.x, first = static_cast<Int>(threadIdx.x) * 4, step = static_cast<Int>(blockDim.x) * 4;
  const bool wide = C % 4 == 0 && aligned_to(16, dinp, dout, inp, weight);
  const float *const x = inp + m * C, *const dy = dout + m * C;
  float* const dx = dinp + m * C;
  float dot = 0;
  for (Int c = first; c < C; c += step) {
    const Four xs = load_four(x + c, C - c, wide), dys = load_four(dy + c, C - c, wide), w = load_four(weight + c, C - c, wide);
#pragma unroll
    for (int j = 0; j < 4; j++) dot = fmaf(dys.at[j] * w.at[j], xs.at[j], dot);
  }
  const float r = rstd[m], pull = -r * r * r / static_cast<float>(C) * block_sum(dot, by_warp);
  for (Int c = first; c < C; c += step) {
    const Four xs = load_four(x + c, C - c, wide), dys = load_four(dy + c, C - c, wide), w = load_four(weight + c, C - c, wide);
    Four d;
#pragma unroll
    for (int j = 0; j < 4; j++) d.at[j] = fmaf(dys.at[j] * w.at[j], r, xs.at[j] * pull);
    if (accumulate) {
      const Four before = load_four(dx + c, C - c, wide);
#pragma unroll
      for (int j = 0; j < 4; j++) d.at[j] += before.at[j];
    }
    store_four(dx + c, d, C - c, wide);
  }
}
EXPORT_KERNEL(rmsnorm_backward_kernel);

// Part b of dweight = Σ_m dout·inp·rstd: its rows are b·rows … ; a thread has four columns.
extern "C" __global__ void __launch_bounds__(DWEIGHT_THREADS)
    rmsnorm_dweight_parts_kernel(float* parts, const float* dout, const float* inp, const float* rstd, Int M, Int C, Int rows) {
  const Int c = first_element();
  if (c >= C) return;
  const bool wide = C % 4 == 0 && aligned_to(16, parts, dout, inp);
  const Int begin = blockIdx.y * rows, end = begin + rows < M ? begin + rows : M;
  Four sum = {};
#pragma unroll 4
  for (Int m = begin; m < end; m++) {
    const Four xs = load_four(inp + m * C + c, C - c, wide), dys = load_four(dout + m * C + c, C - c, wide);
    const float r = rstd[m];
#pragma unroll
    for (int j = 0; j < 4; j++) sum.at[j] = fmaf(dys.at[j], xs.at[j] * r, sum.at[j]);
  }
  store_four(parts + blockIdx.y * C + c, sum, C - c, wide);
}
EXPORT_KERNEL(rmsnorm_dweight_parts_kernel);

extern "C" __global__ void __launch_bounds__(DWEIGHT_THREADS) rmsnorm_dweight_kernel(float* dweight, const float* parts, int count, Int C) {
  const Int c = static_cast<Int>(blockIdx.x) * DWEIGHT_THREADS + threadIdx.x;
  if (c >= C) return;
  float sum = 0;
#pragma unroll 8
  for (int part = 0; part < count; part++) sum += parts[part * C + c];
  dweight[c] += sum;
}
EXPORT_KERNEL(rmsnorm_dweight_kernel);

}  // namespace tacotune::cuda
