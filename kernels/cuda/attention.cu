// SPDX-License-Identifier: Apache-2.0
// Exact attention: products in f32, any sizes, and what the flash kernels need beside them (delta, rounding).
//
// A block owns one row of what it writes and each of its warps every fourth 32 rows of the other side, with a running
// softmax of its own; the four are joined at the end in order. So a single query over a long cache is parted among blocks
// by the same means (attention_combine_kernel), and no row that is masked is ever read into a sum: not even a NaN spreads.
#include "attention.h"

namespace tacotune::cuda {
namespace {
using namespace attention;

constexpr int PER_LANE = COLUMNS / 32;  // columns lane, lane+32, … of a block's columns

/// Each lane has a part of the sums 0 … 2·STEP-1; lanes exchange halves until each has one sum whole. 31 shuffles for 32 sums
/// instead of 160. By recursion, because the compiler does not unroll halving loops and would index registers in memory.
template <int STEP>
__device__ __forceinline__ void exchange(float (&sum)[32], int lane) {
  const bool upper = lane & STEP;
#pragma unroll
  for (int i = 0; i < STEP; i++) {
    const float kept = upper ? sum[i + STEP] : sum[i], given = upper ? sum[i] : sum[i + STEP];
    sum[i] = kept + __shfl_xor_sync(ALL_LANES, given, STEP);
  }
  if constexpr (STEP > 1) exchange<STEP / 2>(sum, lane);
}

/// Lane i gets Σ vector·rows[i], for i < count. D values each.
__device__ __forceinline__ float products(const float* vector, const float* rows, Int pitch, int count, Int D, int lane) {
  float sum[32] = {};
  for (Int d = lane; d < D; d += 32) {
    const float x = vector[d];
#pragma unroll
    for (int i = 0; i < 32; i++)
      if (i < count) sum[i] = fmaf(x, rows[i * pitch + d], sum[i]);
  }
  exchange<16>(sum, lane);
  return sum[0];
}

/// sum += Σ weight[i]·rows[i] over the bits i of `seen`; lane i has weight i. `columns` of COLUMNS exist.
__device__ __forceinline__ void add_rows(float (&sum)[PER_LANE], float weight, const float* rows, Int pitch, unsigned seen, Int columns,
                                         int lane) {
#pragma unroll 8
  for (int i = 0; i < 32; i++) {
    const float w = __shfl_sync(ALL_LANES, weight, i);
    if (!(seen >> i & 1)) continue;
#pragma unroll
    for (int c = 0; c < PER_LANE; c++)
      if (c * 32 + lane < columns) sum[c] = fmaf(w, rows[i * pitch + c * 32 + lane], sum[c]);
  }
}

__device__ __forceinline__ unsigned first_bits(int count) { return count >= 32 ? ALL_LANES : (1u << count) - 1; }

/// The sum over the warps of a block, in their order, for column threadIdx.x. All threads call it.
__device__ __forceinline__ float sum_of_warps(float (&parts)[WARPS][COLUMNS], const float (&sum)[PER_LANE], int warp, int lane) {
  __syncthreads();  // parts may have been read for another sum
#pragma unroll
  for (int c = 0; c < PER_LANE; c++) parts[warp][c * 32 + lane] = sum[c];
  __syncthreads();
  float total = 0.0f;
#pragma unroll
  for (int w = 0; w < WARPS; w++) total += parts[w][threadIdx.x];
  return total;
}
static_assert(COLUMNS == THREADS, "a thread for each column");

/// The keys that query t, at key position t + offset, may see begin here. What is out of range is reported and clamped.
__device__ __forceinline__ Int start_of(const int32_t* starts, Int index, Int position, Fault* fault, int32_t op) {
  const int32_t start = starts[index];
  if (start >= 0 && start <= position) return start;
  report_fault(fault, op, index, start);
  return start < 0 ? 0 : position;
}

/// What to subtract before exp: -∞ - -∞ would be NaN where no key has been seen.
__device__ __forceinline__ float shift_of(float largest) { return largest == -INFINITY ? 0.0f : largest; }

/// (b, t, h) of a row of a (B,T,H,…) tensor.
struct Place {
  Int b, t, h;
  __device__ Place(Int row, Int T, Int H) : b(row / H / T), t(row / H % T), h(row % H) {}
};

}  // namespace

extern "C" __global__ void __launch_bounds__(attention::THREADS, attention::EXACT_BLOCKS)
    attention_forward_kernel(float* out, float* lse, float* partial, const float* q, const float* k, const float* v, const int32_t* starts,
                             Fault* fault, int32_t op, Int Tq, Int Tk, Int Hq, Int Hkv, Int D, Int split_keys, float scale) {
  SHARED(float, parts, [WARPS][COLUMNS]);
  SHARED(float, largests, [WARPS]);
  SHARED(float, sums, [WARPS]);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const Int row = blockIdx.x, split = blockIdx.y, column = blockIdx.z * static_cast<Int>(COLUMNS);
  const Place at(row, Tq, Hq);
  const Int position = Tk - Tq + at.t, start = start_of(starts, at.b * Tq + at.t, position, fault, op);
  const Int begin = max(start, split * split_keys), end = min(position + 1, (split + 1) * split_keys);
  const Int pitch = Hkv * D, kv = (at.b * Tk * Hkv + at.h / (Hq / Hkv)) * D;

  float largest = -INFINITY, sum = 0.0f, out_sum[PER_LANE] = {};
  for (Int first = begin + warp * 32; first < end; first += WARPS * 32) {
    const int count = static_cast<int>(min(end - first, Int{32}));
    const float score = products(q + row * D, k + kv + first * pitch, pitch, count, D, lane) * scale;
    const float larger = fmaxf(largest, warp_max(lane < count ? score : -INFINITY));
    const float shift = shift_of(larger), shrink = expf(largest - shift);
    const float p = lane < count ? expf(score - shift) : 0.0f;
    largest = larger;
    sum = sum * shrink + p;
#pragma unroll
    for (int c = 0; c < PER_LANE; c++) out_sum[c] *= shrink;
    add_rows(out_sum, p, v + kv + column + first * pitch, pitch, first_bits(count), D - column, lane);
  }
  sum = warp_sum(sum);

  if (lane == 0) {
    largests[warp] = largest;
    sums[warp] = sum;
  }
  __syncthreads();
  float total = 0.0f;
  largest = -INFINITY;
#pragma unroll
  for (int w = 0; w < WARPS; w++) largest = fmaxf(largest, largests[w]);
#pragma unroll
  for (int w = 0; w < WARPS; w++) total += sums[w] * expf(largests[w] - shift_of(largest));
  const float shrink = expf(largests[warp] - shift_of(largest));
#pragma unroll
  for (int c = 0; c < PER_LANE; c++) out_sum[c] *= shrink;
  const float value = sum_of_warps(parts, out_sum, warp, lane);

  const Int d = column + threadIdx.x;
  const bool first = d == 0;
  if (gridDim.y == 1) {
    if (d < D) out[row * D + d] = value / total;
    if (first) lse[(at.b * Hq + at.h) * Tq + at.t] = largest + logf(total);
  } else {
    float* const part = partial + (row * gridDim.y + split) * (D + 2);
    if (d < D) part[d] = value;
    if (first) {
      part[D] = largest;
      part[D + 1] = total;
    }
  }
}
EXPORT_KERNEL(attention_forward_kernel);

extern "C" __global__ void __launch_bounds__(attention::THREADS, attention::EXACT_BLOCKS)
    attention_combine_kernel(float* out, float* lse, const float* partial, Int Tq, Int Hq, Int D, Int splits) {
  const Int row = blockIdx.x;
  const Place at(row, Tq, Hq);
  const float* const parts = partial + row * splits * (D + 2);
  float largest = -INFINITY, total = 0.0f;
  for (Int s = 0; s < splits; s++) largest = fmaxf(largest, parts[s * (D + 2) + D]);
  const float shift = shift_of(largest);
  for (Int s = 0; s < splits; s++) total += parts[s * (D + 2) + D + 1] * expf(parts[s * (D + 2) + D] - shift);
  for (Int d = threadIdx.x; d < D; d += THREADS) {
    float sum = 0.0f;
    for (Int s = 0; s < splits; s++) sum += parts[s * (D + 2) + d] * expf(parts[s * (D + 2) + D] - shift);
    out[row * D + d] = sum / total;
  }
  if (threadIdx.x == 0) lse[(at.b * Hq + at.h) * Tq + at.t] = largest + logf(total);
}
EXPORT_KERNEL(attention_combine_kernel);

// delta = Σ dout·out, a warp per row. Where dout is rounded for the flash kernels, delta is made of what they will read: then
// Σ dS of a row stays 0 up to f32, as it is in exact arithmetic.
extern "C" __global__ void __launch_bounds__(attention::THREADS, attention::EXACT_BLOCKS)
    attention_delta_kernel(float* delta, uint16_t* dout_rounded, const float* dout, const float* out, Int T, Int Hq, Int D, Int W, Int rows) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const Int row = static_cast<Int>(blockIdx.x) * WARPS + warp;
  if (row >= rows) return;
  bf16* const rounded = reinterpret_cast<bf16*>(dout_rounded);
  float sum = 0.0f;
  for (Int d = lane; d < max(D, W); d += 32) {
    float value = d < D ? dout[row * D + d] : 0.0f;
    if (rounded) {
      rounded[row * W + d] = __float2bfloat16_rn(value);
      value = __bfloat162float(__float2bfloat16_rn(value));
    }
    if (d < D) sum = fmaf(value, out[row * D + d], sum);
  }
  sum = warp_sum(sum);
  const Place at(row, T, Hq);
  if (lane == 0) delta[(at.b * Hq + at.h) * T + at.t] = sum;
}
EXPORT_KERNEL(attention_delta_kernel);

extern "C" __global__ void __launch_bounds__(attention::THREADS, attention::EXACT_BLOCKS)
    attention_backward_queries_kernel(float* dq, const float* dout, const float* q, const float* k, const float* v, const float* delta,
                                      const float* lse, const int32_t* starts, Fault* fault, int32_t op, Int T, Int Hq, Int Hkv, Int D,
                                      float scale) {
  SHARED(float, parts, [WARPS][COLUMNS]);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const Int row = blockIdx.x, column = blockIdx.z * static_cast<Int>(COLUMNS);
  const Place at(row, T, Hq);
  const Int start = start_of(starts, at.b * T + at.t, at.t, fault, op);
  const Int pitch = Hkv * D, kv = (at.b * T * Hkv + at.h / (Hq / Hkv)) * D;
  const float row_lse = lse[(at.b * Hq + at.h) * T + at.t], row_delta = delta[(at.b * Hq + at.h) * T + at.t];

  float sum[PER_LANE] = {};
  for (Int first = start + warp * 32; first <= at.t; first += WARPS * 32) {
    const int count = static_cast<int>(min(at.t + 1 - first, Int{32}));
    const float p = expf(products(q + row * D, k + kv + first * pitch, pitch, count, D, lane) * scale - row_lse);
    const float dp = products(dout + row * D, v + kv + first * pitch, pitch, count, D, lane);  // out = P·V → dP = dO·Vᵀ
    const float dscore = p * (dp - row_delta) * scale;                                        // P = softmax(S) → dS = P∘(dP - Σ P·dP)
    add_rows(sum, dscore, k + kv + column + first * pitch, pitch, first_bits(count), D - column, lane);  // S = scale·Q·Kᵀ → dQ
  }
  const float value = sum_of_warps(parts, sum, warp, lane);
  const Int d = column + threadIdx.x;
  if (d < D) dq[row * D + d] = value;
}
EXPORT_KERNEL(attention_backward_queries_kernel);

extern "C" __global__ void __launch_bounds__(attention::THREADS, attention::EXACT_BLOCKS)
    attention_backward_keys_kernel(float* dk, float* dv, const float* dout, const float* q, const float* k, const float* v, const float* delta,
                                   const float* lse, const int32_t* starts, Fault* fault, int32_t op, Int T, Int Hq, Int Hkv, Int D,
                                   float scale) {
  SHARED(float, parts, [WARPS][COLUMNS]);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const Int row = blockIdx.x, column = blockIdx.z * static_cast<Int>(COLUMNS), group = Hq / Hkv;
  const Place at(row, T, Hkv);  // of a key
  const Int pitch = Hq * D, chunks = (T - at.t + 31) / 32;

  float dk_sum[PER_LANE] = {}, dv_sum[PER_LANE] = {};
  for (Int i = warp; i < group * chunks; i += WARPS) {  // head by head, 32 queries at a time
    const Int h = at.h * group + i / chunks, first = at.t + i % chunks * 32, t = first + lane;
    const bool seen = t < T && start_of(starts, at.b * T + t, t, fault, op) <= at.t;
    const unsigned seen_by = __ballot_sync(ALL_LANES, seen);
    if (seen_by == 0) continue;
    const int count = static_cast<int>(min(T - first, Int{32}));
    const Int queries = ((at.b * T + first) * Hq + h) * D, statistics = (at.b * Hq + h) * T + t;
    const float score = products(k + row * D, q + queries, pitch, count, D, lane) * scale;
    const float p = seen ? expf(score - lse[statistics]) : 0.0f;
    const float dp = products(v + row * D, dout + queries, pitch, count, D, lane);  // out = P·V → dP = dO·Vᵀ
    const float dscore = seen ? p * (dp - delta[statistics]) * scale : 0.0f;       // P = softmax(S) → dS = P∘(dP - Σ P·dP)
    add_rows(dv_sum, p, dout + queries + column, pitch, seen_by, D - column, lane);     // out = P·V → dV = Pᵀ·dO
    add_rows(dk_sum, dscore, q + queries + column, pitch, seen_by, D - column, lane);   // S = scale·Q·Kᵀ → dK = dSᵀ·Q
  }
  const Int d = column + threadIdx.x;
  const float dk_value = sum_of_warps(parts, dk_sum, warp, lane), dv_value = sum_of_warps(parts, dv_sum, warp, lane);
  if (d >= D) return;
  dk[row * D + d] = dk_value;
  dv[row * D + d] = dv_value;
}
EXPORT_KERNEL(attention_backward_keys_kernel);

// Rounds q, k and v (blockIdx.y) to bf16, in rows of W columns of which those beyond D are zero. Once, instead of by each
// tile that reads them: keys and values are read by T/64 query tiles, as half the bytes, and cp.async cannot round.
extern "C" __global__ void __launch_bounds__(attention::THREADS, attention::EXACT_BLOCKS)
    attention_round_kernel(uint16_t* q_rounded, uint16_t* k_rounded, uint16_t* v_rounded, const float* q, const float* k, const float* v,
                           Int q_rows, Int k_rows, Int D, Int W) {
  const float* const from = blockIdx.y == 0 ? q : blockIdx.y == 1 ? k : v;
  uint16_t* const to = blockIdx.y == 0 ? q_rounded : blockIdx.y == 1 ? k_rounded : v_rounded;
  const Int rows = blockIdx.y == 0 ? q_rows : k_rows;
  const bool wide = D % 4 == 0 && reinterpret_cast<uintptr_t>(from) % 16 == 0;
  const int across = static_cast<int>(W) / 4, own = threadIdx.x / across, column = threadIdx.x % across * 4;
  const Int row = static_cast<Int>(blockIdx.x) * (THREADS / across) + own;
  if (own >= THREADS / across || row >= rows) return;  // rows of 96 leave 8 threads over
  const float* const inp = from + row * D + column;
  float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (wide) {
    if (column < D) x = *reinterpret_cast<const float4*>(inp);
  } else {
    if (column < D) x.x = inp[0];
    if (column + 1 < D) x.y = inp[1];
    if (column + 2 < D) x.z = inp[2];
    if (column + 3 < D) x.w = inp[3];
  }
  *reinterpret_cast<uint2*>(to + row * W + column) = make_uint2(pack_bf16(x.x, x.y), pack_bf16(x.z, x.w));
}
EXPORT_KERNEL(attention_round_kernel);

}  // namespace tacotune::cuda
