// SPDX-License-Identifier: Apache-2.0
// Elements of stored matrices one at a time, at any alignment; and how many lines of A take part in a product.
#pragma once
#include "elements.cuh"
#include "gemm.h"
#include "nf4.cuh"

namespace tacotune::cuda {
namespace {

enum class Storage { F32, BF16, F16, NF4 };

/// Two f16 values as bf16.
__device__ __forceinline__ uint32_t bf16_of_f16(uint32_t pair) {
  return pack_bf16(f32_from_f16(static_cast<uint16_t>(pair)), f32_from_f16(static_cast<uint16_t>(pair >> 16)));
}

template <Storage storage>
__device__ __forceinline__ float element(const void* data, Int i) {
  static_assert(storage != Storage::NF4, "its scales stand elsewhere");
  if (storage == Storage::F32) return static_cast<const float*>(data)[i];
  const uint16_t bits = static_cast<const uint16_t*>(data)[i];
  return storage == Storage::BF16 ? f32_from_bf16(bits) : f32_from_f16(bits);
}

/// How many of `lines` lines of A take part.
__device__ __forceinline__ Int lines_of(const Product& p, Int lines) {
  return p.row_count == nullptr ? lines : max(Int{0}, min(lines, *p.row_count - p.first_row));
}

}  // namespace
}  // namespace tacotune::cuda
