// SPDX-License-Identifier: Apache-2.0
// Flash attention, backward, in two passes that each own what they write, so that no sum depends on which block came first:
//   queries  dQ = scale·dS·K                     a block owns TILE queries of a query head and goes over the keys they see
//   keys     dV = Pᵀ·dO, dK = scale·dSᵀ·Q        a block owns TILE keys of a key-value head and goes over the queries that see
//                                                them, head by head of its group
// Both make P = exp(scale·Q·Kᵀ - lse) and dS = P∘(dO·Vᵀ - delta) anew; delta = Σ dout·out comes from attention.cu. Two products
// more than with a shared dQ and atomic sums, for the same bits every time. As in forward, each tile of shared memory is
// refilled while products read the other one.
#include "flash.cuh"

namespace tacotune::cuda {
namespace {
using namespace flash;

template <int W>
__device__ __forceinline__ void backward_queries(float* dq, const bf16* dout, const bf16* q, const bf16* k, const bf16* v, const float* delta,
                                                 const float* lse, const int32_t* starts, Fault* fault, int32_t op, Int B, Int T, Int Hq, Int Hkv,
                                                 Int D, float scale) {
  constexpr int N = TILE / 8;
  DYNAMIC_SHARED(bf16, keys);  // (TILE,W), then values (TILE,W)
  bf16* const values = keys + TILE * W;

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const Int heads = B * Hq, tiles = gridDim.x / heads;
  const Int b = blockIdx.x % heads / Hq, h = blockIdx.x % heads % Hq, kv = h / (Hq / Hkv);
  const int first_query = static_cast<int>(tiles - 1 - blockIdx.x / heads) * TILE;  // the longest rows first
  const int queries = static_cast<int>(T);
  const int pitch = static_cast<int>(Hkv) * W;
  const Int head = (b * T * Hkv + kv) * W;
  const auto load_keys = [&](int first) { load_tile<W, TILE>(keys, k + head + static_cast<Int>(first) * pitch, pitch, queries - first); };
  const auto load_values = [&](int first) { load_tile<W, TILE>(values, v + head + static_cast<Int>(first) * pitch, pitch, queries - first); };

  const Int q_first = ((b * T + first_query) * Hq + h) * W;
  load_tile<W, TILE>(keys, q + q_first, static_cast<int>(Hq) * W, queries - first_query);
  load_tile<W, TILE>(values, dout + q_first, static_cast<int>(Hq) * W, queries - first_query);
  copy_async_commit();

  const Sight sight = sight_of_tile(starts, b * T + first_query, first_query, queries, 0, fault, op, lane);
  const int end = min(first_query + TILE, queries);
  int start[2], position[2];  // rows without a query do as the last one does; nothing of theirs is written
  float row_lse[2], row_delta[2];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    position[i] = min(first_query + warp * 16 + lane / 4 + 8 * i, queries - 1);
    start[i] = start_of(starts, b * T + position[i], position[i], fault, op);
    row_lse[i] = lse[(b * Hq + h) * T + position[i]] * LOG2E;
    row_delta[i] = delta[(b * Hq + h) * T + position[i]];
  }

  copy_async_wait<0>();
  __syncthreads();
  uint32_t query[W / 16][4], dout_row[W / 16][4];
  load_left<W>(query, keys, warp * 16, lane);
  load_left<W>(dout_row, values, warp * 16, lane);
  __syncthreads();

  int first_key = sight.earliest / TILE * TILE;
  load_values(first_key);
  copy_async_commit();
  load_keys(first_key);
  copy_async_commit();

  float sum[W / 8][4];
  clear(sum);
  for (; first_key < end; first_key += TILE) {
    const int next = first_key + TILE;
    copy_async_wait<1>();  // the values; keys may be on their way
    __syncthreads();
    float dscore[N][4];  // out = P·V → dP = dO·Vᵀ
    multiply_transposed<W>(dscore, dout_row, values, lane);
    __syncthreads();
    if (next < end) load_values(next);
    copy_async_commit();

    copy_async_wait<1>();  // the keys; the next values may be on their way
    __syncthreads();
    float score[N][4];
    multiply_transposed<W>(score, query, keys, lane);
    if (first_key < sight.latest || next > first_query + 1) {
#pragma unroll
      for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const int key = first_key + n * 8 + lane % 4 * 2 + e % 2;
          if ((key < start[e / 2]) | (key > position[e / 2])) score[n][e] = -INFINITY;
        }
    }
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const float p = exp2_fast(fmaf(score[n][e], scale * LOG2E, -row_lse[e / 2]));
        dscore[n][e] = p * (dscore[n][e] - row_delta[e / 2]);  // P = softmax(S) → dS = P∘(dP - Σ P·dP)
      }
    multiply_add<W>(sum, dscore, keys, lane);  // S = scale·Q·Kᵀ → dQ = scale·dS·K
    __syncthreads();
    if (next < end) load_keys(next);
    copy_async_commit();
  }
  copy_async_wait<0>();

  const float factor[2] = {scale, scale};
  const int first_row = first_query + warp * 16;
  store_rows<W>(dq + ((b * T + first_row) * Hq + h) * D, static_cast<int>(Hq * D), queries - first_row, static_cast<int>(D), sum, factor, lane);
}

/// The tiles of QUERY_STEP queries that see any of a block's keys, head after head of its group.
struct QueryTiles {
  const int32_t* starts;  // of this batch row
  int first_key, queries, heads;
  int head, first_query;
  bool whole;  // every query sees all keys

  __device__ __forceinline__ bool done() const { return head >= heads; }

  /// Moves on until a tile is seen, or done. The same for all warps: each looks at all of the tile's starts, a lane at one.
  __device__ __forceinline__ void find(int lane) {
    static_assert(QUERY_STEP == 32, "a query for each lane");
    const int last_key = first_key + TILE - 1;
    for (; head < heads; head++, first_query = first_key) {
      for (; first_query < queries; first_query += QUERY_STEP) {
        const int t = first_query + lane;
        const int start = t < queries ? min(starts[t], t) : INT32_MAX;  // clamped as by start_of
        whole = __all_sync(ALL_LANES, start <= first_key && t >= last_key);
        if (__any_sync(ALL_LANES, start <= last_key)) return;
      }
    }
  }

  __device__ __forceinline__ void advance(int lane) {
    first_query += QUERY_STEP;
    find(lane);
  }
};

/// What a tile of queries has beside q and dout.
struct QueryStatistics {
  float lse[QUERY_STEP];  // in units of log2
  float delta[QUERY_STEP];
  int start[QUERY_STEP];  // beyond all keys where there is no query
};

template <int W>
__device__ __forceinline__ void backward_keys(float* dk, float* dv, const bf16* dout, const bf16* q, const bf16* k, const bf16* v,
                                              const float* delta, const float* lse, const int32_t* starts, Fault* fault, int32_t op, Int B,
                                              Int T, Int Hq, Int Hkv, Int D, float scale) {
  constexpr int STEP = QUERY_STEP, N = STEP / 8;
  static_assert(TILE % STEP == 0 && STEP <= THREADS, "tiles of queries begin where tiles of keys do; a thread for each query");
  DYNAMIC_SHARED(bf16, keys);  // (TILE,W), then values (TILE,W), queries and douts (STEP,W), statistics
  bf16* const values = keys + TILE * W;
  bf16* const queries = values + TILE * W;
  bf16* const douts = queries + STEP * W;
  QueryStatistics& statistics = *reinterpret_cast<QueryStatistics*>(douts + STEP * W);

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const Int heads = B * Hkv, group = Hq / Hkv;
  const Int b = blockIdx.x % heads / Hkv, kv = blockIdx.x % heads % Hkv;
  const int first_key = static_cast<int>(blockIdx.x / heads) * TILE;  // the keys that most queries see first
  const int k_pitch = static_cast<int>(Hkv) * W, q_pitch = static_cast<int>(Hq) * W, length = static_cast<int>(T);
  const Int k_first = ((b * T + first_key) * Hkv + kv) * W;
  const Int q_first = (b * T * Hq + kv * group) * W, statistics_first = (b * Hq + kv * group) * T;  // of the group's first head

  QueryTiles tiles = {starts + b * T, first_key, length, static_cast<int>(group), 0, first_key, false};
  tiles.find(lane);

  const auto load_douts = [&] {
    if (!tiles.done()) {
      const Int first = q_first + static_cast<Int>(tiles.first_query) * q_pitch + tiles.head * W;
      load_tile<W, STEP>(douts, dout + first, q_pitch, length - tiles.first_query);
    }
    copy_async_commit();
  };
  const auto load_queries = [&] {
    if (!tiles.done()) {
      const Int first = q_first + static_cast<Int>(tiles.first_query) * q_pitch + tiles.head * W;
      load_tile<W, STEP>(queries, q + first, q_pitch, length - tiles.first_query);
      if (const int i = threadIdx.x; i < STEP) {
        const int t = tiles.first_query + i;
        const Int row = statistics_first + tiles.head * T + t;
        statistics.lse[i] = t < length ? lse[row] * LOG2E : 0.0f;
        statistics.delta[i] = t < length ? delta[row] : 0.0f;
        statistics.start[i] = t < length ? start_of(starts, b * T + t, t, fault, op) : INT32_MAX;
      }
    }
    copy_async_commit();
  };

  load_tile<W, TILE>(keys, k + k_first, k_pitch, length - first_key);
  load_tile<W, TILE>(values, v + k_first, k_pitch, length - first_key);
  load_douts();  // one group with keys and values
  load_queries();

  float dk_sum[W / 8][4], dv_sum[W / 8][4];
  clear(dk_sum);
  clear(dv_sum);
  while (!tiles.done()) {
    const int first_query = tiles.first_query;
    const bool whole = tiles.whole;
    copy_async_wait<1>();  // the douts; queries may be on their way
    __syncthreads();
    float dscore[N][4];  // out = P·V → dPᵀ = V·dOᵀ
    multiply_transposed<W>(dscore, values, warp * 16, douts, lane);

    copy_async_wait<0>();  // the queries
    __syncthreads();
    float p[N][4];
    multiply_transposed<W>(p, keys, warp * 16, queries, lane);
    if (!whole) {
#pragma unroll
      for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const int column = n * 8 + lane % 4 * 2 + e % 2, key = first_key + warp * 16 + lane / 4 + e / 2 * 8;
          if ((key < statistics.start[column]) | (key > first_query + column)) p[n][e] = -INFINITY;
        }
    }
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int column = n * 8 + lane % 4 * 2 + e % 2;
        p[n][e] = exp2_fast(fmaf(p[n][e], scale * LOG2E, -statistics.lse[column]));
        dscore[n][e] = p[n][e] * (dscore[n][e] - statistics.delta[column]);  // P = softmax(S) → dS = P∘(dP - Σ P·dP)
      }
    multiply_add<W>(dv_sum, p, douts, lane);  // out = P·V → dV = Pᵀ·dO
    __syncthreads();
    tiles.advance(lane);
    load_douts();
    multiply_add<W>(dk_sum, dscore, queries, lane);  // S = scale·Q·Kᵀ → dK = scale·dSᵀ·Q
    __syncthreads();
    load_queries();
  }
  copy_async_wait<0>();

  const int first_row = first_key + warp * 16, pitch = static_cast<int>(Hkv * D);
  const Int first = ((b * T + first_row) * Hkv + kv) * D;
  const float dk_factor[2] = {scale, scale}, dv_factor[2] = {1.0f, 1.0f};
  store_rows<W>(dk + first, pitch, length - first_row, static_cast<int>(D), dk_sum, dk_factor, lane);
  store_rows<W>(dv + first, pitch, length - first_row, static_cast<int>(D), dv_sum, dv_factor, lane);
}

}  // namespace

#define TACOTUNE_FLASH_BACKWARD(W)                                                                                            \
  extern "C" __global__ void __launch_bounds__(attention::THREADS, attention::RESIDENT_BLOCKS<W>)                             \
      flash_backward_queries_##W##_kernel TACOTUNE_FLASH_BACKWARD_QUERIES_PARAMETERS {                                        \
    backward_queries<W>(dq, reinterpret_cast<const bf16*>(dout), reinterpret_cast<const bf16*>(q),                            \
                        reinterpret_cast<const bf16*>(k), reinterpret_cast<const bf16*>(v), delta, lse, starts, fault, op,    \
                        B, T, Hq, Hkv, D, scale);                                                                             \
  }                                                                                                                           \
  EXPORT_KERNEL(flash_backward_queries_##W##_kernel);                                                                         \
  extern "C" __global__ void __launch_bounds__(attention::THREADS, attention::RESIDENT_BLOCKS<W>)                             \
      flash_backward_keys_##W##_kernel TACOTUNE_FLASH_BACKWARD_KEYS_PARAMETERS {                                              \
    backward_keys<W>(dk, dv, reinterpret_cast<const bf16*>(dout), reinterpret_cast<const bf16*>(q),                           \
                     reinterpret_cast<const bf16*>(k), reinterpret_cast<const bf16*>(v), delta, lse, starts, fault, op,       \
                     B, T, Hq, Hkv, D, scale);                                                                                \
  }                                                                                                                           \
  EXPORT_KERNEL(flash_backward_keys_##W##_kernel);

TACOTUNE_FLASH_BACKWARD(32)
TACOTUNE_FLASH_BACKWARD(64)
TACOTUNE_FLASH_BACKWARD(96)
TACOTUNE_FLASH_BACKWARD(128)

}  // namespace tacotune::cuda
