// SPDX-License-Identifier: Apache-2.0
// Losses of the fused head and their gradients, row by row: what cross_entropy.h promises. A block has a row; sums go from
// threads to warps to the block in an order that never changes.
//
//     loss = log Σ exp(logits - largest) + largest - logits[label]        dlogits = exp(logits - largest) / Σ - onehot(label)
#include "cross_entropy.h"

#include "elements.cuh"

namespace tacotune::cuda {
namespace {

constexpr int32_t NO_TARGET = -100;

__device__ __forceinline__ bool has_target(int32_t label, Int V) { return label >= 0 && label < V; }

/// `p` is a multiple of 8 bytes.
__device__ __forceinline__ void store_bf16(uint16_t* p, const Four& x) {
  *reinterpret_cast<uint2*>(p) = make_uint2(pack_bf16(x.at[0], x.at[1]), pack_bf16(x.at[2], x.at[3]));
}

/// Σ exp(x - largest) over some values; a sum of 0 says that there were none.
struct ExpSum {
  float largest, sum;

  __device__ __forceinline__ void add(const ExpSum& other) {
    if (other.sum == 0.0f) return;
    const float both = fmaxf(largest, other.largest);
    sum = sum * expf(largest - both) + other.sum * expf(other.largest - both);
    largest = both;
  }
};

/// Over a row of logits, which begins at a multiple of 16 bytes; for all threads of the block.
__device__ __forceinline__ ExpSum exp_sum_of(const float* logits, Int V) {
  SHARED(ExpSum, by_warp, [HEAD_WARPS]);
  ExpSum mine = {-INFINITY, 0.0f};
  for (Int v = static_cast<Int>(threadIdx.x) * 4; v < V; v += HEAD_THREADS * 4) {
    const Four x = load_four(logits + v, V - v, true);
    float largest = x.at[0];
#pragma unroll
    for (int i = 1; i < 4; i++)
      if (v + i < V) largest = fmaxf(largest, x.at[i]);
    if (largest > mine.largest) mine.sum *= expf(mine.largest - largest), mine.largest = largest;
#pragma unroll
    for (int i = 0; i < 4; i++)
      if (v + i < V) mine.sum += expf(x.at[i] - mine.largest);
  }
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    mine.add({__shfl_down_sync(ALL_LANES, mine.largest, offset), __shfl_down_sync(ALL_LANES, mine.sum, offset)});
  if (threadIdx.x % 32 == 0) by_warp[threadIdx.x / 32] = mine;
  __syncthreads();
  ExpSum all = by_warp[0];
  for (int warp = 1; warp < HEAD_WARPS; warp++) all.add(by_warp[warp]);
  return all;
}

/// The row of inp that a block of a chunk works on, or -1 beyond the last.
__device__ __forceinline__ Int row_of(const Chunk& chunk) {
  const Int i = chunk.first + blockIdx.x;
  return i < *chunk.count ? chunk.rows[i] : -1;
}

/// What becomes of the logits.
enum class Gradient { NONE, F32, BF16 };

template <Gradient gradient, class Logits>
__device__ __forceinline__ void head_row(float* loss, Logits* all_logits, Int pitch, const int32_t* labels, const Chunk& chunk, Int V) {
  const Int m = row_of(chunk);
  if (m < 0) return;
  Logits* const logits = all_logits + blockIdx.x * pitch;
  const Int label = labels[m];
  const ExpSum all = exp_sum_of(logits, V);
  if (threadIdx.x == 0) loss[m] = logf(all.sum) + (all.largest - logits[label]);
  if constexpr (gradient != Gradient::NONE) {
    __syncthreads();  // the label's logit is about to change
    const float scale = 1.0f / all.sum;
    // In bf16 a row shrinks to half its length where it stands: a step writes below what later steps read, and over what this
    // one has read.
    for (Int start = 0; start < pitch; start += HEAD_THREADS * 4) {
      const Int v = start + static_cast<Int>(threadIdx.x) * 4;
      Four x = load_four(logits + v, V - v, true);
#pragma unroll
      for (int i = 0; i < 4; i++) x.at[i] = v + i < V ? expf(x.at[i] - all.largest) * scale - (v + i == label ? 1.0f : 0.0f) : 0.0f;
      if (gradient == Gradient::BF16) {
        __syncthreads();
        if (v < pitch) store_bf16(reinterpret_cast<uint16_t*>(logits) + v, x);
      } else if (v < pitch) {
        store_four(logits + v, x, 4, true);
      }
    }
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(HEAD_THREADS)
    find_targets_kernel(int32_t* rows, int32_t* count, float* loss, const int32_t* labels, Int M, Int V, Fault* fault, int32_t op) {
  SHARED(int, by_warp, [HEAD_WARPS]);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  Int found = 0;
  for (Int start = 0; start < M; start += HEAD_THREADS) {
    const Int m = start + threadIdx.x;
    const int32_t label = m < M ? labels[m] : NO_TARGET;
    const bool target = has_target(label, V);
    const unsigned lanes = __ballot_sync(ALL_LANES, target);
    if (lane == 0) by_warp[warp] = __popc(lanes);
    __syncthreads();
    int before = 0, all = 0;
    for (int w = 0; w < HEAD_WARPS; w++) before += w < warp ? by_warp[w] : 0, all += by_warp[w];
    if (target) rows[found + before + __popc(lanes & ((1u << lane) - 1))] = static_cast<int32_t>(m);
    else if (m < M) loss[m] = 0.0f;
    if (!target && label != NO_TARGET) report_fault(fault, op, m, label);
    found += all;
    __syncthreads();  // by_warp has been read
  }
  if (threadIdx.x == 0) *count = static_cast<int32_t>(found);
}
EXPORT_KERNEL(find_targets_kernel);

extern "C" __global__ void __launch_bounds__(HEAD_THREADS) clear_rows_kernel(float* dinp, const int32_t* labels, Int V, Int C) {
  const Int m = blockIdx.x;
  if (has_target(labels[m], V)) return;
  for (Int c = threadIdx.x; c < C; c += HEAD_THREADS) dinp[m * C + c] = 0.0f;
}
EXPORT_KERNEL(clear_rows_kernel);

extern "C" __global__ void __launch_bounds__(HEAD_THREADS) gather_rows_f32_kernel(float* out, const float* inp, Chunk chunk, Int C) {
  const Int m = row_of(chunk);
  if (m < 0) return;
  for (Int c = threadIdx.x; c < C; c += HEAD_THREADS) out[blockIdx.x * C + c] = inp[m * C + c];
}
EXPORT_KERNEL(gather_rows_f32_kernel);

extern "C" __global__ void __launch_bounds__(HEAD_THREADS)
    gather_rows_bf16_kernel(uint16_t* out, Int pitch, const float* inp, Chunk chunk, Int C) {
  const Int m = row_of(chunk);
  if (m < 0) return;
  const bool wide = C % 4 == 0 && aligned_to(16, inp);
  for (Int c = static_cast<Int>(threadIdx.x) * 4; c < pitch; c += HEAD_THREADS * 4) {
    const Four x = load_four(inp + m * C + c, C - c, wide);
    store_bf16(out + blockIdx.x * pitch + c, x);
  }
}
EXPORT_KERNEL(gather_rows_bf16_kernel);

extern "C" __global__ void __launch_bounds__(HEAD_THREADS) scatter_rows_kernel(float* out, const float* inp, Chunk chunk, Int C) {
  const Int m = row_of(chunk);
  if (m < 0) return;
  for (Int c = threadIdx.x; c < C; c += HEAD_THREADS) out[m * C + c] = inp[blockIdx.x * C + c];
}
EXPORT_KERNEL(scatter_rows_kernel);

extern "C" __global__ void __launch_bounds__(HEAD_THREADS)
    head_loss_kernel(float* loss, const float* logits, Int pitch, const int32_t* labels, Chunk chunk, Int V) {
  head_row<Gradient::NONE>(loss, logits, pitch, labels, chunk, V);
}
EXPORT_KERNEL(head_loss_kernel);

extern "C" __global__ void __launch_bounds__(HEAD_THREADS)
    head_gradient_f32_kernel(float* loss, float* logits, Int pitch, const int32_t* labels, Chunk chunk, Int V) {
  head_row<Gradient::F32>(loss, logits, pitch, labels, chunk, V);
}
EXPORT_KERNEL(head_gradient_f32_kernel);

extern "C" __global__ void __launch_bounds__(HEAD_THREADS)
    head_gradient_bf16_kernel(float* loss, float* logits, Int pitch, const int32_t* labels, Chunk chunk, Int V) {
  head_row<Gradient::BF16>(loss, logits, pitch, labels, chunk, V);
}
EXPORT_KERNEL(head_gradient_bf16_kernel);

}  // namespace tacotune::cuda
