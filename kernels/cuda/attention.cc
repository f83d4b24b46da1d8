// SPDX-License-Identifier: Apache-2.0
// Which kernels an attention takes: flash where bf16 is allowed, heads are at most 128 wide and queries fill a tile; the
// exact ones otherwise. Shapes alone decide, so that the same call gives the same bits on every GPU.
#include "attention.h"

#include <algorithm>
#include <cmath>

#include "launch.h"
#include "ops.h"

namespace tacotune::cuda {
namespace {
using namespace attention;

bool takes_flash(Int Tq, Int D, Int compute) { return compute == COMPUTE_BF16 && D <= WIDEST && Tq >= LEAST_QUERIES; }

/// Width of the rounded rows: what the flash kernels are compiled for.
Int padded(Int D) { return ceil_div(D, 32) * 32; }

float scale_of(Int D) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(D))); }

/// launch of the instance for width W
template <class Kernel32, class Kernel64, class Kernel96, class Kernel128, class... Arguments>
void launch_width(Int W, Int blocks, Int shared_bytes, Arguments... arguments) {
  switch (W) {
    case 32: return launch<Kernel32>({blocks}, THREADS, shared_bytes, arguments...);
    case 64: return launch<Kernel64>({blocks}, THREADS, shared_bytes, arguments...);
    case 96: return launch<Kernel96>({blocks}, THREADS, shared_bytes, arguments...);
    default: return launch<Kernel128>({blocks}, THREADS, shared_bytes, arguments...);
  }
}

/// q, k and v in bf16, in rows of W values.
struct Rounded {
  uint16_t *q, *k, *v;
};

Rounded round_to_bf16(F32In q, F32In k, F32In v, Int q_rows, Int k_rows, Int D, Int W) {
  const Rounded rounded = {scratch_of<uint16_t>(q_rows * W), scratch_of<uint16_t>(k_rows * W), scratch_of<uint16_t>(k_rows * W)};
  const Int blocks = ceil_div(std::max(q_rows, k_rows), THREADS / (W / 4));  // a thread for each 4 values
  launch<attention_round_kernel>({blocks, 3, 1}, THREADS, 0, rounded.q, rounded.k, rounded.v, q.data, k.data, v.data, q_rows, k_rows, D, W);
  return rounded;
}

}  // namespace

void attention_forward(F32Out out, F32Out lse, F32In q, F32In k, F32In v, I32In starts, Int B, Int Tq, Int Tk, Int Hq, Int Hkv, Int D,
                       Int compute) {
  const Int rows = B * Tq * Hq;
  if (rows == 0) return;
  if (takes_flash(Tq, D, compute)) {
    const Int W = padded(D), shared_bytes = 2 * TILE * W * 2;
    const Rounded rounded = round_to_bf16(q, k, v, rows, B * Tk * Hkv, D, W);
    launch_width<flash_forward_32_kernel, flash_forward_64_kernel, flash_forward_96_kernel, flash_forward_128_kernel>(
        W, B * Hq * ceil_div(Tq, TILE), shared_bytes, out.data, lse.data, rounded.q, rounded.k, rounded.v, starts.data, fault_slot(),
        current_op(), B, Tq, Tk, Hq, Hkv, D, scale_of(D));
    return;
  }
  const Int slices = ceil_div(D, COLUMNS);
  const Int wanted = std::clamp<Int>(ceil_div(FILLING_BLOCKS, rows * slices), 1, ceil_div(Tk, SPLIT_KEYS));
  const Int split_keys = ceil_div(Tk, wanted), splits = ceil_div(Tk, split_keys);
  float* const partial = splits > 1 ? scratch_of<float>(rows * splits * (D + 2)) : nullptr;
  launch<attention_forward_kernel>({rows, splits, slices}, THREADS, 0, out.data, lse.data, partial, q.data, k.data, v.data, starts.data,
                                   fault_slot(), current_op(), Tq, Tk, Hq, Hkv, D, split_keys, scale_of(D));
  if (splits > 1) launch<attention_combine_kernel>({rows}, THREADS, 0, out.data, lse.data, partial, Tq, Hq, D, splits);
}

void attention_backward(F32Out dq, F32Out dk, F32Out dv, F32In dout, F32In q, F32In k, F32In v, F32In out, F32In lse, I32In starts, Int B,
                        Int T, Int Hq, Int Hkv, Int D, Int compute) {
  const Int q_rows = B * T * Hq, k_rows = B * T * Hkv;
  if (q_rows == 0) return;
  const bool flash = takes_flash(T, D, compute);
  const Int W = flash ? padded(D) : 0;
  float* const delta = scratch_of<float>(q_rows);
  uint16_t* const dout_rounded = flash ? scratch_of<uint16_t>(q_rows * W) : nullptr;
  launch<attention_delta_kernel>({ceil_div(q_rows, WARPS)}, THREADS, 0, delta, dout_rounded, dout.data, out.data, T, Hq, D, W, q_rows);
  if (flash) {
    const Int tiles = ceil_div(T, TILE);
    const Rounded rounded = round_to_bf16(q, k, v, q_rows, k_rows, D, W);
    launch_width<flash_backward_queries_32_kernel, flash_backward_queries_64_kernel, flash_backward_queries_96_kernel,
                 flash_backward_queries_128_kernel>(W, B * Hq * tiles, 2 * TILE * W * 2, dq.data, dout_rounded, rounded.q, rounded.k, rounded.v,
                                                    delta, lse.data, starts.data, fault_slot(), current_op(), B, T, Hq, Hkv, D, scale_of(D));
    launch_width<flash_backward_keys_32_kernel, flash_backward_keys_64_kernel, flash_backward_keys_96_kernel, flash_backward_keys_128_kernel>(
        W, B * Hkv * tiles, 2 * (TILE + QUERY_STEP) * W * 2 + 3 * QUERY_STEP * 4, dk.data, dv.data, dout_rounded, rounded.q, rounded.k, rounded.v, delta,
        lse.data, starts.data, fault_slot(), current_op(), B, T, Hq, Hkv, D, scale_of(D));
    return;
  }
  const Int slices = ceil_div(D, COLUMNS);
  launch<attention_backward_queries_kernel>({q_rows, 1, slices}, THREADS, 0, dq.data, dout.data, q.data, k.data, v.data, delta, lse.data,
                                            starts.data, fault_slot(), current_op(), T, Hq, Hkv, D, scale_of(D));
  launch<attention_backward_keys_kernel>({k_rows, 1, slices}, THREADS, 0, dk.data, dv.data, dout.data, q.data, k.data, v.data, delta, lse.data,
                                         starts.data, fault_slot(), current_op(), T, Hq, Hkv, D, scale_of(D));
}

}  // namespace tacotune::cuda
