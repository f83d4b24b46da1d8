// SPDX-License-Identifier: Apache-2.0
// The tables of quant.h where device code can index them, and the search in them. Device memory is initialised from the
// constants of quant.h by the compiler, so no number is written twice. Kernels that look up much copy a table to shared
// memory first: there the sixteen NF4 values lie in sixteen banks and never conflict.
#pragma once
#include "device.cuh"
#include "kernels/quant.h"

namespace tacotune::cuda {
namespace {

struct Nf4Values {
  float values[16];
  constexpr Nf4Values() : values() {
    for (int i = 0; i < 16; i++) values[i] = NF4_VALUES[i];
  }
};

__device__ constexpr Nf4Values nf4_table;
__device__ constexpr Nf4Thresholds nf4_thresholds;
__device__ constexpr DynamicMap signed_dynamic_map = SIGNED_DYNAMIC_MAP;
__device__ constexpr DynamicMap unsigned_dynamic_map = UNSIGNED_DYNAMIC_MAP;

/// The code whose value is nearest to x, the lower one of two equally near; that of a NaN is 0. `values` are the 256 of a
/// dynamic map. Differences are rounded as in the reference, so a tie there is a tie here.
__device__ __forceinline__ int nearest_code(const float* values, float x) {
  int code = 0;  // the last code whose value is not above x
  float below = values[0], above = INFINITY;
#pragma unroll
  for (int half = 128; half > 0; half /= 2) {
    const float value = values[code + half];
    if (value <= x) code += half, below = value;
    else above = value;
  }
  return fabsf(above - x) < fabsf(below - x) ? code + 1 : code;
}

/// The NF4 code of a value in [-1,1]: how many of the midpoints it lies above.
__device__ __forceinline__ int nf4_code(float x) {
  int code = 0;
#pragma unroll
  for (int i = 0; i < 15; i++) code += x > nf4_thresholds.values[i];
  return code;
}

/// The scale of an NF4 block (quant.h): product and sum rounded one by one, as bitsandbytes has them.
__device__ __forceinline__ float nested_scale(float map_value, float absmax, float offset) {
  return __fadd_rn(__fmul_rn(map_value, absmax), offset);
}

}  // namespace
}  // namespace tacotune::cuda
