// SPDX-License-Identifier: Apache-2.0
// NF4 with single and double quantisation, byte for byte as quant.h draws it; 16-bit storage types. Divisions, products and
// sums are rounded one by one: the bytes are those of the reference.
#include "formats.h"

#include "elements.cuh"
#include "quant.cuh"

namespace tacotune::cuda {
namespace {

__device__ __forceinline__ float inverse_scale(float absmax) { return absmax > 0 ? __fdiv_rn(1.0f, absmax) : 0.0f; }

/// To nearest, ties to even. A NaN keeps its upper bits and becomes quiet: cutting it off could make it an infinity.
__device__ __forceinline__ uint16_t bf16_from_f32(float x) {
  const uint32_t bits = __float_as_uint(x);
  return static_cast<uint16_t>(x != x ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

__device__ __forceinline__ uint16_t f16_from_f32(float x) {
  if (x != x) return static_cast<uint16_t>((__float_as_uint(x) >> 16 & 0x8000) | 0x7e00);
  const __half half = __float2half_rn(x);
  return *reinterpret_cast<const uint16_t*>(&half);
}

template <Int TYPE>
__device__ __forceinline__ void widen(float* out, const uint16_t* inp, Int n) {
  const Int i = first_element();
  if (i >= n) return;
  store_four(out + i, values_of<TYPE>(load_four(inp + i, n - i, aligned_to(8, inp))), n - i, aligned_to(16, out));
}

template <Int TYPE>
__device__ __forceinline__ void narrow(uint16_t* out, const float* inp, Int n) {
  const Int i = first_element();
  if (i >= n) return;
  const Four x = load_four(inp + i, n - i, aligned_to(16, inp));
  FourBits bits;
#pragma unroll
  for (int j = 0; j < 4; j++) bits.at[j] = TYPE == STORE_BF16 ? bf16_from_f32(x.at[j]) : f16_from_f32(x.at[j]);
  store_four(out + i, bits, n - i, aligned_to(8, out));
}

}  // namespace

// Sixteen lanes have a block of 64: four elements each, two bytes of codes.
extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS) nf4_quantize_kernel(uint8_t* codes, float* absmax, const float* inp, Int n) {
  const Int i = first_element(), count = n - i;
  const Four x = load_four(inp + i, count, aligned_to(16, inp));
  float largest = 0;
#pragma unroll
  for (int j = 0; j < 4; j++) largest = fmaxf(largest, fabsf(x.at[j]));
#pragma unroll
  for (int offset = 8; offset > 0; offset /= 2) largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, offset));
  if (count <= 0) return;
  if (i % NF4_BLOCK == 0) absmax[i / NF4_BLOCK] = largest;
  const float scale = inverse_scale(largest);
  uint8_t pairs[2];
#pragma unroll
  for (int j = 0; j < 4; j += 2) {
    const int first = nf4_code(x.at[j] * scale), second = j + 1 < count ? nf4_code(x.at[j + 1] * scale) : 0;
    pairs[j / 2] = static_cast<uint8_t>(first << 4 | second);
  }
  if (count > 2 && aligned_to(2, codes)) {
    *reinterpret_cast<uint16_t*>(codes + i / 2) = static_cast<uint16_t>(pairs[0] | pairs[1] << 8);
  } else {
    codes[i / 2] = pairs[0];
    if (count > 2) codes[i / 2 + 1] = pairs[1];
  }
}
EXPORT_KERNEL(nf4_quantize_kernel);

// The mean of absmax from the parts of its sum.
extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS) nf4_offset_kernel(float* offset, const double* parts, int count, Int blocks) {
  SHARED(double, by_warp, [ELEMENT_WARPS]);
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += ELEMENT_THREADS) sum += parts[i];
  sum = block_sum(sum, by_warp);
  if (threadIdx.x == 0) *offset = blocks > 0 ? static_cast<float>(sum / static_cast<double>(blocks)) : 0.0f;
}
EXPORT_KERNEL(nf4_offset_kernel);

// A block of threads has the NESTED_BLOCK scales that share a nested one.
extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS)
    nf4_double_quantize_kernel(uint8_t* absmax_codes, float* nested, const float* offset, const float* absmax, Int blocks) {
  static_assert(NESTED_BLOCK == ELEMENT_THREADS, "a thread has one scale");
  SHARED(float, map, [256]);
  SHARED(float, by_warp, [ELEMENT_WARPS]);
  map[threadIdx.x] = signed_dynamic_map.values[threadIdx.x];
  const Int i = static_cast<Int>(blockIdx.x) * NESTED_BLOCK + threadIdx.x;
  const float centred = i < blocks ? absmax[i] - *offset : 0.0f;
  const float of_warp = warp_max(fabsf(centred));
  if (threadIdx.x % 32 == 0) by_warp[threadIdx.x / 32] = of_warp;
  __syncthreads();
  float largest = 0;
#pragma unroll
  for (int warp = 0; warp < ELEMENT_WARPS; warp++) largest = fmaxf(largest, by_warp[warp]);
  if (threadIdx.x == 0) nested[blockIdx.x] = largest;
  if (i < blocks) absmax_codes[i] = static_cast<uint8_t>(nearest_code(map, __fmul_rn(centred, inverse_scale(largest))));
}
EXPORT_KERNEL(nf4_double_quantize_kernel);

// absmax_codes null: absmax has a scale for each block.
extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS)
    nf4_dequantize_kernel(float* out, const uint8_t* codes, const uint8_t* absmax_codes, const float* absmax, float absmax_offset, Int n) {
  SHARED(float, map, [256]);
  SHARED(float, values, [16]);
  map[threadIdx.x] = signed_dynamic_map.values[threadIdx.x];
  if (threadIdx.x < 16) values[threadIdx.x] = nf4_table.values[threadIdx.x];
  __syncthreads();
  const bool wide = aligned_to(16, out), pairs_aligned = aligned_to(2, codes);
#pragma unroll
  for (int round = 0; round < DEQUANTIZE_ROUNDS; round++) {
    const Int i = (static_cast<Int>(blockIdx.x) * DEQUANTIZE_ROUNDS + round) * ELEMENTS_PER_BLOCK + threadIdx.x * 4, count = n - i;
    if (count <= 0) return;
    int pairs[2];
    if (count > 2 && pairs_aligned) {
      const uint16_t both = *reinterpret_cast<const uint16_t*>(codes + i / 2);
      pairs[0] = both & 255, pairs[1] = both >> 8;
    } else {
      pairs[0] = codes[i / 2], pairs[1] = count > 2 ? codes[i / 2 + 1] : 0;
    }
    const Int block = i / NF4_BLOCK;
    const float scale = absmax_codes ? nested_scale(map[absmax_codes[block]], absmax[block / NESTED_BLOCK], absmax_offset) : absmax[block];
    const Four x = {{values[pairs[0] >> 4] * scale, values[pairs[0] & 15] * scale, values[pairs[1] >> 4] * scale, values[pairs[1] & 15] * scale}};
    store_four(out + i, x, count, wide);
  }
}
EXPORT_KERNEL(nf4_dequantize_kernel);

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS) f32_from_bf16_kernel(float* out, const uint16_t* inp, Int n) { widen<STORE_BF16>(out, inp, n); }
EXPORT_KERNEL(f32_from_bf16_kernel);

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS) f32_from_f16_kernel(float* out, const uint16_t* inp, Int n) { widen<STORE_F16>(out, inp, n); }
EXPORT_KERNEL(f32_from_f16_kernel);

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS) bf16_from_f32_kernel(uint16_t* out, const float* inp, Int n) { narrow<STORE_BF16>(out, inp, n); }
EXPORT_KERNEL(bf16_from_f32_kernel);

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS) f16_from_f32_kernel(uint16_t* out, const float* inp, Int n) { narrow<STORE_F16>(out, inp, n); }
EXPORT_KERNEL(f16_from_f32_kernel);

}  // namespace tacotune::cuda
