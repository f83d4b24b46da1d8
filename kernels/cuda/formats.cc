// SPDX-License-Identifier: Apache-2.0
// Launches the number formats.
#include "formats.h"

#include "arithmetic.h"
#include "kernels/quant.h"
#include "launch.h"
#include "ops.h"

namespace tacotune::cuda {

void nf4_quantize(U8Out codes, F32Out absmax, F32In inp, Int n) {
  launch<nf4_quantize_kernel>(grid_for(n, ELEMENTS_PER_BLOCK), ELEMENT_THREADS, 0, codes.data, absmax.data, inp.data, n);
}

void nf4_double_quantize(U8Out absmax_codes, F32Out nested, F32Out offset, F32In absmax, Int blocks) {
  const Int count = sum_parts(blocks);
  double* const parts = scratch_of<double>(count);
  launch<sum_parts_kernel>({count}, ELEMENT_THREADS, 0, parts, absmax.data, blocks);
  launch<nf4_offset_kernel>({1}, ELEMENT_THREADS, 0, offset.data, parts, static_cast<int>(count), blocks);
  launch<nf4_double_quantize_kernel>(grid_for(blocks, NESTED_BLOCK), ELEMENT_THREADS, 0, absmax_codes.data, nested.data, offset.data, absmax.data, blocks);
}

void nf4_dequantize(F32Out out, U8In codes, U8In absmax_codes, F32In absmax, float absmax_offset, Int n) {
  const uint8_t* const nested_codes = absmax_codes.count ? absmax_codes.data : nullptr;
  launch<nf4_dequantize_kernel>(grid_for(n, DEQUANTIZE_ROUNDS * ELEMENTS_PER_BLOCK), ELEMENT_THREADS, 0, out.data, codes.data, nested_codes, absmax.data,
                                absmax_offset, n);
}

void to_f32(F32Out out, BytesIn inp, Int type, Int n) {
  if (type == STORE_F32) return copy(out, {static_cast<const float*>(inp.data), n}, n);
  const Grid grid = grid_for(n, ELEMENTS_PER_BLOCK);
  if (type == STORE_BF16) launch<f32_from_bf16_kernel>(grid, ELEMENT_THREADS, 0, out.data, static_cast<const uint16_t*>(inp.data), n);
  else launch<f32_from_f16_kernel>(grid, ELEMENT_THREADS, 0, out.data, static_cast<const uint16_t*>(inp.data), n);
}

void from_f32(BytesOut out, F32In inp, Int type, Int n) {
  if (type == STORE_F32) return copy({static_cast<float*>(out.data), n}, inp, n);
  const Grid grid = grid_for(n, ELEMENTS_PER_BLOCK);
  if (type == STORE_BF16) launch<bf16_from_f32_kernel>(grid, ELEMENT_THREADS, 0, static_cast<uint16_t*>(out.data), inp.data, n);
  else launch<f16_from_f32_kernel>(grid, ELEMENT_THREADS, 0, static_cast<uint16_t*>(out.data), inp.data, n);
}

}  // namespace tacotune::cuda
