// SPDX-License-Identifier: Apache-2.0
// Embedding: out[m] = weight[ids[m]]. An id may stand in many rows; its gradients must always be added in the same order.
// So the first row of an id owns it: that row's block adds all rows of the id, in order, and the other rows' blocks leave.
// Finding the rows reads the ids M²/2 times in all, from cache: little beside the rows themselves for the M of a step.
#include "embedding.h"

#include "elements.cuh"

namespace tacotune::cuda {
namespace {

template <Int TYPE>
__device__ __forceinline__ Four load_stored(const void* weight, Int i, Int count, bool wide) {
  if constexpr (TYPE == STORE_F32) return load_four(static_cast<const float*>(weight) + i, count, wide);
  else return values_of<TYPE>(load_four(static_cast<const uint16_t*>(weight) + i, count, wide));
}

template <Int TYPE>
__device__ __forceinline__ void embedding_forward_row(float* out, const int32_t* ids, const void* weight, Int V, Int C, Fault* fault, int32_t op) {
  const Int m = blockIdx.x;
  const int32_t id = ids[m];
  const bool valid = id >= 0 && id < V;
  if (!valid && threadIdx.x == 0) report_fault(fault, op, m, id);
  const bool wide = C % 4 == 0 && aligned_to(16, out) && aligned_to(TYPE == STORE_F32 ? 16 : 8, weight);
  for (Int c = static_cast<Int>(threadIdx.x) * 4; c < C; c += static_cast<Int>(blockDim.x) * 4)
    store_four(out + m * C + c, valid ? load_stored<TYPE>(weight, id * C + c, C - c, wide) : Four{}, C - c, wide);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS) embedding_forward_f32_kernel TACOTUNE_EMBEDDING_FORWARD_PARAMETERS {
  embedding_forward_row<STORE_F32>(out, ids, weight, V, C, fault, op);
}
EXPORT_KERNEL(embedding_forward_f32_kernel);

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS) embedding_forward_bf16_kernel TACOTUNE_EMBEDDING_FORWARD_PARAMETERS {
  embedding_forward_row<STORE_BF16>(out, ids, weight, V, C, fault, op);
}
EXPORT_KERNEL(embedding_forward_bf16_kernel);

extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS) embedding_forward_f16_kernel TACOTUNE_EMBEDDING_FORWARD_PARAMETERS {
  embedding_forward_row<STORE_F16>(out, ids, weight, V, C, fault, op);
}
EXPORT_KERNEL(embedding_forward_f16_kernel);

// Block (m, k): the k-th ELEMENTS_PER_BLOCK columns of the row dweight[ids[m]], if no earlier row has that id.
extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS)
    embedding_backward_kernel(float* dweight, const float* dout, const int32_t* ids, Int M, Int V, Int C, Fault* fault, int32_t op) {
  SHARED(uint32_t, same, [ELEMENT_WARPS]);  // a bit a row: those of the rows at hand that have the id
  const Int m = blockIdx.x;
  const int32_t id = ids[m];
  if (id < 0 || id >= V) {
    if (threadIdx.x == 0 && blockIdx.y == 0) report_fault(fault, op, m, id);
    return;
  }
  bool owned = false;
  for (Int earlier = threadIdx.x; earlier < m; earlier += ELEMENT_THREADS) owned |= ids[earlier] == id;
  if (__syncthreads_or(owned)) return;

  const Int c = static_cast<Int>(blockIdx.y) * ELEMENTS_PER_BLOCK + threadIdx.x * 4;
  const bool wide = C % 4 == 0 && aligned_to(16, dweight, dout);
  Four sum = {};
  for (Int start = m; start < M; start += ELEMENT_THREADS) {
    const Int row = start + threadIdx.x;
    const uint32_t bits = __ballot_sync(ALL_LANES, row < M && ids[row] == id);
    if (threadIdx.x % 32 == 0) same[threadIdx.x / 32] = bits;
    __syncthreads();
    for (int warp = 0; warp < ELEMENT_WARPS; warp++)
      for (uint32_t left = same[warp]; left; left &= left - 1) {
        const Four dy = load_four(dout + (start + 32 * warp + __ffs(left) - 1) * C + c, C - c, wide);
#pragma unroll
        for (int j = 0; j < 4; j++) sum.at[j] += dy.at[j];
      }
    __syncthreads();  // before the next rows' bits are written
  }
  if (c >= C) return;
  Four dw = load_four(dweight + id * C + c, C - c, wide);
#pragma unroll
  for (int j = 0; j < 4; j++) dw.at[j] += sum.at[j];
  store_four(dweight + id * C + c, dw, C - c, wide);
}
EXPORT_KERNEL(embedding_backward_kernel);

}  // namespace tacotune::cuda
