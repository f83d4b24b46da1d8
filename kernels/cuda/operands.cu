// SPDX-License-Identifier: Apache-2.0
// Operands made ready for the tensor cores, and partial results put together: what operands.h promises. Bound by memory.
#include "operands.h"

#include "storage.cuh"

namespace tacotune::cuda {
namespace {

/// Chunk number blockIdx·threads + thread of out (rows, pitch), each element from `value(row, column)`.
template <class Value>
__device__ __forceinline__ void write_chunk(uint16_t* out, Int rows, Int columns, Int pitch, const Value& value) {
  const Int chunks = pitch / OPERAND_CHUNK, i = static_cast<Int>(blockIdx.x) * OPERAND_THREADS + threadIdx.x;
  if (i >= rows * chunks) return;
  const Int row = i / chunks, column = i % chunks * OPERAND_CHUNK;
  float x[OPERAND_CHUNK];
#pragma unroll
  for (int j = 0; j < OPERAND_CHUNK; j++) x[j] = column + j < columns ? value(row, column + j) : 0.0f;
  reinterpret_cast<uint4*>(out)[i] = make_uint4(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]), pack_bf16(x[6], x[7]));
}

}  // namespace

extern "C" __global__ void __launch_bounds__(OPERAND_THREADS)
    to_bf16_kernel(uint16_t* out, const void* inp, Int type, Int rows, Int columns, Int pitch) {
  const bool in_fours = type == STORE_F32 && columns % OPERAND_CHUNK == 0 && reinterpret_cast<uintptr_t>(inp) % 16 == 0;
  if (in_fours) {
    const Int i = static_cast<Int>(blockIdx.x) * OPERAND_THREADS + threadIdx.x;
    if (i >= rows * (pitch / OPERAND_CHUNK)) return;
    const float4* const from = static_cast<const float4*>(inp) + 2 * i;
    const float4 low = from[0], high = from[1];
    reinterpret_cast<uint4*>(out)[i] =
        make_uint4(pack_bf16(low.x, low.y), pack_bf16(low.z, low.w), pack_bf16(high.x, high.y), pack_bf16(high.z, high.w));
  } else if (type == STORE_F32) {
    write_chunk(out, rows, columns, pitch, [&](Int row, Int column) { return element<Storage::F32>(inp, row * columns + column); });
  } else if (type == STORE_BF16) {
    write_chunk(out, rows, columns, pitch, [&](Int row, Int column) { return element<Storage::BF16>(inp, row * columns + column); });
  } else {
    write_chunk(out, rows, columns, pitch, [&](Int row, Int column) { return element<Storage::F16>(inp, row * columns + column); });
  }
}
EXPORT_KERNEL(to_bf16_kernel);

extern "C" __global__ void __launch_bounds__(OPERAND_THREADS)
    nf4_to_bf16_kernel(uint16_t* out, const uint8_t* codes, const uint8_t* absmax_codes, const float* absmax, float absmax_offset, Int rows,
                       Int columns, Int pitch) {
  const Scales scales = {absmax_codes, absmax, absmax_offset};
  write_chunk(out, rows, columns, pitch, [&](Int row, Int column) { return decode_element(codes, scales, row * columns + column); });
}
EXPORT_KERNEL(nf4_to_bf16_kernel);

extern "C" __global__ void __launch_bounds__(OPERAND_THREADS)
    sum_splits_kernel(float* out, Int out_pitch, const float* parts, Int splits, Int M, Int N, float alpha, Int accumulate,
                      const int32_t* row_count, Int first_row) {
  const Int i = static_cast<Int>(blockIdx.x) * OPERAND_THREADS + threadIdx.x;
  if (i >= M * N) return;
  if (row_count != nullptr && i / N >= *row_count - first_row) return;
  float sum = 0.0f;
  for (Int split = 0; split < splits; split++) sum += parts[split * M * N + i];
  float& to = out[i / N * out_pitch + i % N];
  to = alpha * sum + (accumulate ? to : 0.0f);
}
EXPORT_KERNEL(sum_splits_kernel);

}  // namespace tacotune::cuda
