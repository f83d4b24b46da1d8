// SPDX-License-Identifier: Apache-2.0
// What element-wise and row-wise kernels share: a thread works on four neighbouring elements, loaded at once where every
// array allows it, and a block adds up what its threads found in an order that never changes. Whether loads are wide does
// not change which thread sees which element, so alignment never changes a bit of a result.
#pragma once
#include "device.cuh"
#include "elements.h"

namespace tacotune::cuda {

struct Four {
  float at[4];
};

/// Whether all addresses are multiples of `bytes` (a power of two).
template <class... Pointers>
__device__ __forceinline__ bool aligned_to(int bytes, Pointers... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) | ...) & (bytes - 1)) == 0;
}

/// The first of this thread's four elements in a launch over n elements.
__device__ __forceinline__ Int first_element() { return (static_cast<Int>(blockIdx.x) * blockDim.x + threadIdx.x) * 4; }

/// Up to four elements at p, of which `count` exist; zeros in place of the others. Wide: p is a multiple of 16 bytes.
__device__ __forceinline__ Four load_four(const float* p, Int count, bool wide) {
  if (wide && count >= 4) {
    const float4 x = *reinterpret_cast<const float4*>(p);
    return {{x.x, x.y, x.z, x.w}};
  }
  Four x = {};
#pragma unroll
  for (int j = 0; j < 4; j++)
    if (j < count) x.at[j] = p[j];
  return x;
}

__device__ __forceinline__ void store_four(float* p, const Four& x, Int count, bool wide) {
  if (wide && count >= 4) {
    *reinterpret_cast<float4*>(p) = make_float4(x.at[0], x.at[1], x.at[2], x.at[3]);
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; j++)
    if (j < count) p[j] = x.at[j];
}

/// The same for 16-bit values, as bits. Wide: p is a multiple of 8 bytes.
struct FourBits {
  uint16_t at[4];
};

__device__ __forceinline__ FourBits load_four(const uint16_t* p, Int count, bool wide) {
  if (wide && count >= 4) {
    const uint2 x = *reinterpret_cast<const uint2*>(p);
    return {{static_cast<uint16_t>(x.x), static_cast<uint16_t>(x.x >> 16), static_cast<uint16_t>(x.y), static_cast<uint16_t>(x.y >> 16)}};
  }
  FourBits x = {};
#pragma unroll
  for (int j = 0; j < 4; j++)
    if (j < count) x.at[j] = p[j];
  return x;
}

__device__ __forceinline__ void store_four(uint16_t* p, const FourBits& x, Int count, bool wide) {
  if (wide && count >= 4) {
    *reinterpret_cast<uint2*>(p) = make_uint2(x.at[0] | static_cast<uint32_t>(x.at[1]) << 16, x.at[2] | static_cast<uint32_t>(x.at[3]) << 16);
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; j++)
    if (j < count) p[j] = x.at[j];
}

/// And for bytes. Wide: p is a multiple of 4.
struct FourBytes {
  uint8_t at[4];
};

__device__ __forceinline__ FourBytes load_four(const uint8_t* p, Int count, bool wide) {
  FourBytes x = {};
  if (wide && count >= 4) {
    const uint32_t word = *reinterpret_cast<const uint32_t*>(p);
#pragma unroll
    for (int j = 0; j < 4; j++) x.at[j] = static_cast<uint8_t>(word >> (8 * j));
    return x;
  }
#pragma unroll
  for (int j = 0; j < 4; j++)
    if (j < count) x.at[j] = p[j];
  return x;
}

__device__ __forceinline__ void store_four(uint8_t* p, const FourBytes& x, Int count, bool wide) {
  if (wide && count >= 4) {
    *reinterpret_cast<uint32_t*>(p) = x.at[0] | x.at[1] << 8 | x.at[2] << 16 | static_cast<uint32_t>(x.at[3]) << 24;
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; j++)
    if (j < count) p[j] = x.at[j];
}

__device__ __forceinline__ float f32_from_bf16(uint16_t bits) { return __uint_as_float(static_cast<uint32_t>(bits) << 16); }

__device__ __forceinline__ float f32_from_f16(uint16_t bits) { return __half2float(*reinterpret_cast<const __half*>(&bits)); }

/// The value of a storage type's bits.
template <Int TYPE>
__device__ __forceinline__ Four values_of(const FourBits& bits) {
  Four x;
#pragma unroll
  for (int j = 0; j < 4; j++) x.at[j] = TYPE == STORE_BF16 ? f32_from_bf16(bits.at[j]) : f32_from_f16(bits.at[j]);
  return x;
}

/// The sum of a block's values, for each of its threads. `by_warp` is shared memory with a place for each warp; between
/// two uses of the same places stands a barrier.
template <class T>
__device__ __forceinline__ T block_sum(T value, T* by_warp) {
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) by_warp[threadIdx.x / 32] = value;
  __syncthreads();
  T total = 0;
  for (int warp = 0; warp < static_cast<int>(blockDim.x / 32); warp++) total += by_warp[warp];
  return total;
}

}  // namespace tacotune::cuda
