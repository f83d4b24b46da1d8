// SPDX-License-Identifier: Apache-2.0
// Operands made ready for the tensor cores, and partial results put together: kernels around those of gemm.h.
#pragma once
#include "kernel.h"

namespace tacotune::cuda {

constexpr int OPERAND_THREADS = 256;
constexpr int OPERAND_CHUNK = 8;  // values that a thread writes: 16 bytes

}  // namespace tacotune::cuda

// to_bf16: out (rows, pitch) bf16 = inp (rows, columns) of StorageType `type`; columns from `columns` to `pitch`, a multiple of
//   OPERAND_CHUNK, become zero.
// nf4_to_bf16: the same from NF4, wherever in a row its blocks begin.
// sum_splits: out (M,N) = alpha·Σ parts, plus out where `accumulate`; parts (splits,M,N) are added in their order. Where
// row_count is not null, only *row_count - first_row rows of the parts were written, and no others of `out` are.
#define TACOTUNE_OPERANDS_KERNELS(KERNEL)                                                                            \
  KERNEL(to_bf16_kernel, (uint16_t* out, const void* inp, Int type, Int rows, Int columns, Int pitch))               \
  KERNEL(nf4_to_bf16_kernel, (uint16_t* out, const uint8_t* codes, const uint8_t* absmax_codes, const float* absmax, \
                              float absmax_offset, Int rows, Int columns, Int pitch))                                \
  KERNEL(sum_splits_kernel, (float* out, Int out_pitch, const float* parts, Int splits, Int M, Int N, float alpha, Int accumulate, \
                             const int32_t* row_count, Int first_row))
TACOTUNE_DECLARE_KERNELS(TACOTUNE_OPERANDS_KERNELS)
