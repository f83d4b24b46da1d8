// SPDX-License-Identifier: Apache-2.0
// Adam with decoupled weight decay, with 32-bit states (as torch) and with block-wise 8-bit states (as bitsandbytes).
//
// The 8-bit kernel gives the codes of the reference, bit for bit: its states are worked out in double, product by product,
// before they are rounded to f32. That is some thirteen operations of the double unit an element: hidden behind 16 bytes of
// memory traffic where that unit is wide, and about as slow as these where it is one for 64 others.
#include "optimizer.h"

#include "elements.cuh"
#include "quant.cuh"

namespace tacotune::cuda {
namespace {

/// a·x + b·y, each of the three operations rounded by itself.
__device__ __forceinline__ double weighted(double a, double x, double b, double y) {
  return __dadd_rn(__dmul_rn(a, x), __dmul_rn(b, y));
}

}  // namespace

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS)
    adamw_kernel(float* param, const float* grad, float* m, float* v, Int n, AdamwRates rates) {
  const Int i = first_element();
  if (i >= n) return;
  const bool wide = aligned_to(16, param, grad, m, v);
  const Four gs = load_four(grad + i, n - i, wide);
  Four p = load_four(param + i, n - i, wide), ms = load_four(m + i, n - i, wide), vs = load_four(v + i, n - i, wide);
#pragma unroll
  for (int j = 0; j < 4; j++) {
    const float g = gs.at[j] * rates.grad_scale;
    ms.at[j] = fmaf(rates.beta1, ms.at[j], rates.rest1 * g);
    vs.at[j] = fmaf(rates.beta2, vs.at[j], rates.rest2 * g * g);
    const float update = ms.at[j] / fmaf(sqrtf(vs.at[j]), rates.root, rates.eps);
    p.at[j] = fmaf(-rates.step_size, update, p.at[j] * rates.decay);
  }
  store_four(m + i, ms, n - i, wide);
  store_four(v + i, vs, n - i, wide);
  store_four(param + i, p, n - i, wide);
}
EXPORT_KERNEL(adamw_kernel);

// A warp has a block of states, a lane its elements 4·lane … and 128 + 4·lane … .
extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS)
    adamw_8bit_kernel(float* param, const float* grad, uint8_t* m, uint8_t* v, float* m_absmax, float* v_absmax, Int n, Adamw8BitRates rates) {
  SHARED(float, m_map, [256]);
  SHARED(float, v_map, [256]);
  static_assert(ELEMENT_THREADS == 256, "a thread fetches one value of each map");
  m_map[threadIdx.x] = signed_dynamic_map.values[threadIdx.x];
  v_map[threadIdx.x] = unsigned_dynamic_map.values[threadIdx.x];
  __syncthreads();
  const int lane = threadIdx.x % 32;
  const Int block = static_cast<Int>(blockIdx.x) * ELEMENT_WARPS + threadIdx.x / 32, start = block * STATE_BLOCK;
  if (start >= n) return;
  const bool wide = aligned_to(16, param, grad) && aligned_to(4, m, v);
  const float m_scale = m_absmax[block], v_scale = v_absmax[block];

  Four new_m[2], new_v[2];
  float largest_m = 0, largest_v = 0;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const Int i = start + 128 * half + 4 * lane, count = n - i;
    const Four gs = load_four(grad + i, count, wide);
    Four p = load_four(param + i, count, wide);
    const FourBytes m_codes = load_four(m + i, count, wide), v_codes = load_four(v + i, count, wide);
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const double g = __dmul_rn(gs.at[j], rates.grad_scale);
      const float old_m = __fmul_rn(m_map[m_codes.at[j]], m_scale), old_v = __fmul_rn(v_map[v_codes.at[j]], v_scale);
      const float next_m = static_cast<float>(weighted(rates.beta1, old_m, rates.rest1, g));
      const float next_v = static_cast<float>(weighted(rates.beta2, old_v, __dmul_rn(rates.rest2, g), g));
      new_m[half].at[j] = next_m;
      new_v[half].at[j] = next_v;
      if (j < count) {
        largest_m = fmaxf(largest_m, fabsf(next_m));
        largest_v = fmaxf(largest_v, next_v);
      }
      p.at[j] = fmaf(-rates.step_size, next_m / (sqrtf(next_v) + rates.eps), p.at[j]) * rates.decay;
    }
    store_four(param + i, p, count, wide);
  }
  largest_m = warp_max(largest_m);
  largest_v = warp_max(largest_v);

#pragma unroll
  for (int half = 0; half < 2; half++) {
    const Int i = start + 128 * half + 4 * lane;
    FourBytes m_codes, v_codes;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      // A block without any gradient so far has no scale: it takes the codes of 0.
      int m_code = nearest_code(m_map, largest_m > 0 ? __fdiv_rn(new_m[half].at[j], largest_m) : 0.0f);
      const int v_code = nearest_code(v_map, largest_v > 0 ? __fdiv_rn(new_v[half].at[j], largest_v) : 0.0f);
      // The direction of a step must survive the rounding: what fell to the code of 0 moves to its sign's side.
      if (new_m[half].at[j] < 0 && m_map[m_code] == 0) m_code--;
      m_codes.at[j] = static_cast<uint8_t>(m_code);
      v_codes.at[j] = static_cast<uint8_t>(v_code);
    }
    store_four(m + i, m_codes, n - i, wide);
    store_four(v + i, v_codes, n - i, wide);
  }
  __syncwarp();  // every lane has read the scales that are now replaced
  if (lane == 0) {
    m_absmax[block] = largest_m;
    v_absmax[block] = largest_v;
  }
}
EXPORT_KERNEL(adamw_8bit_kernel);

}  // namespace tacotune::cuda
