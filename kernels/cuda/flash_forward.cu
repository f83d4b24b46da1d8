// SPDX-License-Identifier: Apache-2.0
// Flash attention, forward: a block owns TILE queries of one head and goes over the tiles of keys that any of them sees,
// with a running maximum and sum of each row. Tiles before the earliest start and after the diagonal are not visited; only
// tiles that some row sees in part are masked.
//
// One tile of keys and one of values suffice to keep copies under way: the next keys come while values are multiplied, the
// next values while scores are made. Queries pass through the tile of values once and stay in registers.
#include "flash.cuh"

namespace tacotune::cuda {
namespace {
using namespace flash;

/// What one lane keeps of the softmax of its two rows. Scores are in units of log2: score·scale·log2(e).
struct Softmax {
  float largest[2] = {-INFINITY, -INFINITY};  // of raw scores
  float sum[2] = {0.0f, 0.0f};                // of this lane's columns alone, until the end
};

/// Turns raw scores into exp(score - largest), and scales down what was summed under a smaller maximum.
template <int W, int N>
__device__ __forceinline__ void exponentials(Softmax& softmax, float (&score)[N][4], float (&out)[W / 8][4], float scale_log2) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    float largest = softmax.largest[i];
#pragma unroll
    for (int n = 0; n < N; n++) largest = fmaxf(largest, fmaxf(score[n][2 * i], score[n][2 * i + 1]));
    largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, 2));
    // A row that has seen no key yet keeps -∞; shifting by it would make NaN of -∞ - -∞.
    const float shift = largest == -INFINITY ? 0.0f : largest * scale_log2;
    const float shrink = exp2_fast(fmaf(softmax.largest[i], scale_log2, -shift));
    float sum = softmax.sum[i] * shrink;
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
      for (int e = 2 * i; e < 2 * i + 2; e++) {
        score[n][e] = exp2_fast(fmaf(score[n][e], scale_log2, -shift));
        sum += score[n][e];
      }
    softmax.largest[i] = largest;
    softmax.sum[i] = sum;
#pragma unroll
    for (int n = 0; n < W / 8; n++) {
      out[n][2 * i] *= shrink;
      out[n][2 * i + 1] *= shrink;
    }
  }
}

template <int W>
__device__ __forceinline__ void forward(float* out, float* lse, const bf16* q, const bf16* k, const bf16* v, const int32_t* starts, Fault* fault,
                                        int32_t op, Int B, Int Tq, Int Tk, Int Hq, Int Hkv, Int D, float scale) {
  constexpr int N = TILE / 8;
  DYNAMIC_SHARED(bf16, keys);  // (TILE,W), then values (TILE,W)
  bf16* const values = keys + TILE * W;

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const Int heads = B * Hq, tiles = gridDim.x / heads;
  const Int b = blockIdx.x % heads / Hq, h = blockIdx.x % heads % Hq, kv = h / (Hq / Hkv);
  const int first_query = static_cast<int>(tiles - 1 - blockIdx.x / heads) * TILE;  // the longest rows first
  const int offset = static_cast<int>(Tk - Tq), queries = static_cast<int>(Tq);
  const int pitch = static_cast<int>(Hkv) * W;
  const Int head = (b * Tk * Hkv + kv) * W;
  const auto load_keys = [&](int first) { load_tile<W, TILE>(keys, k + head + static_cast<Int>(first) * pitch, pitch, static_cast<int>(Tk) - first); };
  const auto load_values = [&](int first) { load_tile<W, TILE>(values, v + head + static_cast<Int>(first) * pitch, pitch, static_cast<int>(Tk) - first); };

  load_tile<W, TILE>(values, q + ((b * Tq + first_query) * Hq + h) * W, static_cast<int>(Hq) * W, queries - first_query);
  copy_async_commit();

  const Sight sight = sight_of_tile(starts, b * Tq + first_query, first_query, queries, offset, fault, op, lane);
  const int end = min(first_query + TILE, queries) + offset;
  int start[2], position[2];  // rows without a query do as the last one does; nothing of theirs is written
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int t = min(first_query + warp * 16 + lane / 4 + 8 * i, queries - 1);
    position[i] = t + offset;
    start[i] = start_of(starts, b * Tq + t, position[i], fault, op);
  }

  copy_async_wait<0>();
  __syncthreads();
  uint32_t query[W / 16][4];
  load_left<W>(query, values, warp * 16, lane);
  __syncthreads();

  int first_key = sight.earliest / TILE * TILE;
  load_keys(first_key);
  copy_async_commit();
  load_values(first_key);
  copy_async_commit();

  Softmax softmax;
  float sum[W / 8][4];
  clear(sum);
  for (; first_key < end; first_key += TILE) {
    const int next = first_key + TILE;
    copy_async_wait<1>();  // the keys; values may be on their way
    __syncthreads();
    float score[N][4];
    multiply_transposed<W>(score, query, keys, lane);
    __syncthreads();
    if (next < end) load_keys(next);
    copy_async_commit();  // an empty group where nothing is left, so that the same number is always pending

    if (first_key < sight.latest || next > first_query + offset + 1) {
#pragma unroll
      for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const int key = first_key + n * 8 + lane % 4 * 2 + e % 2;
          if ((key < start[e / 2]) | (key > position[e / 2])) score[n][e] = -INFINITY;
        }
    }
    exponentials<W>(softmax, score, sum, scale * LOG2E);

    copy_async_wait<1>();  // the values; the next keys may be on their way
    __syncthreads();
    multiply_add<W>(sum, score, values, lane);
    __syncthreads();
    if (next < end) load_values(next);
    copy_async_commit();
  }
  copy_async_wait<0>();

  float factor[2];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    float total = softmax.sum[i];
    total += __shfl_xor_sync(ALL_LANES, total, 1);
    total += __shfl_xor_sync(ALL_LANES, total, 2);
    factor[i] = 1.0f / total;
    const int t = first_query + warp * 16 + lane / 4 + 8 * i;
    if (lane % 4 == 0 && t < queries) lse[(b * Hq + h) * Tq + t] = softmax.largest[i] * (scale * LOG2E) * LN2 + logf(total);
  }
  const int first_row = first_query + warp * 16;
  store_rows<W>(out + ((b * Tq + first_row) * Hq + h) * D, static_cast<int>(Hq * D), queries - first_row, static_cast<int>(D), sum, factor, lane);
}

}  // namespace

#define TACOTUNE_FLASH_FORWARD(W)                                                                                    \
  extern "C" __global__ void __launch_bounds__(attention::THREADS, attention::RESIDENT_BLOCKS<W>)                    \
      flash_forward_##W##_kernel TACOTUNE_FLASH_FORWARD_PARAMETERS {                                                 \
    forward<W>(out, lse, reinterpret_cast<const bf16*>(q), reinterpret_cast<const bf16*>(k),                         \
               reinterpret_cast<const bf16*>(v), starts, fault, op, B, Tq, Tk, Hq, Hkv, D, scale);                   \
  }                                                                                                                  \
  EXPORT_KERNEL(flash_forward_##W##_kernel);

TACOTUNE_FLASH_FORWARD(32)
TACOTUNE_FLASH_FORWARD(64)
TACOTUNE_FLASH_FORWARD(96)
TACOTUNE_FLASH_FORWARD(128)

}  // namespace tacotune::cuda
