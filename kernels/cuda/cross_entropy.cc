// SPDX-License-Identifier: Apache-2.0
// The head and its loss, fused: logits of a few rows at a time, so that (M,V) never exists. For the rows of a chunk
//
//     logits  = inp·weightᵀ        loss, dlogits: cross_entropy.cu, dlogits written over the logits
//     dinp    = scale·dlogits·weight        dweight += scale·dlogitsᵀ·inp
#include "cross_entropy.h"

#include <algorithm>

#include "launch.h"
#include "linear.h"
#include "ops.h"

namespace tacotune::cuda {
namespace {

Int logits_rows(Int M, Int pitch) {
  const Int fitting = LOGITS_BYTES / (4 * std::max<Int>(pitch, 1));
  return std::min(M, std::max(LEAST_LOGITS_ROWS, fitting / LEAST_LOGITS_ROWS * LEAST_LOGITS_ROWS));
}

/// What the backward pass makes; null where only losses are asked for.
struct Gradients {
  F32Out dinp, dweight;
  float scale;
};

void cross_entropy(F32Out loss, const Gradients* gradients, F32In inp, BytesIn weight_bytes, Int weight_type, I32In labels, Int M, Int V, Int C,
                   Int compute) {
  if (M == 0) return;
  const bool bf16 = compute == COMPUTE_BF16;
  const Int pitch = padded(V), lines = logits_rows(M, pitch), x_pitch = bf16 ? padded(C) : C;
  int32_t* const rows = scratch_of<int32_t>(M + 1);
  int32_t* const count = rows + M;
  float* const logits = scratch_of<float>(lines * pitch);
  float* const dx = gradients ? scratch_of<float>(lines * C) : nullptr;
  void* const gathered = scratch(lines * x_pitch * (bf16 ? 2 : 4));
  const Int type = bf16 ? STORE_BF16 : STORE_F32;
  const Matrix x = {gathered, type, lines, C, x_pitch};
  // dlogits take the place of the logits, which have been read by then; in bf16 their rows stay as far apart in bytes.
  const Matrix dlogits = {logits, type, lines, V, bf16 ? 2 * pitch : pitch};
  const Matrix dense = dense_matrix(weight_bytes.data, weight_type, V, C), weight = bf16 ? tensor_matrix(dense) : dense;
  Workspace workspace;

  launch<find_targets_kernel>({1}, HEAD_THREADS, 0, rows, count, loss.data, labels.data, M, V, fault_slot(), current_op());
  if (gradients) launch<clear_rows_kernel>({M}, HEAD_THREADS, 0, gradients->dinp.data, labels.data, V, C);
  for (Int first = 0; first < M; first += lines) {
    const Chunk chunk = {rows, count, first};
    const Rows present = {count, first};
    const Grid grid = {lines};
    if (bf16) launch<gather_rows_bf16_kernel>(grid, HEAD_THREADS, 0, static_cast<uint16_t*>(gathered), x_pitch, inp.data, chunk, C);
    else launch<gather_rows_f32_kernel>(grid, HEAD_THREADS, 0, static_cast<float*>(gathered), inp.data, chunk, C);
    product(Pattern::FORWARD, logits, pitch, x, weight, 1.0f, 0, compute, workspace, present);
    if (!gradients) {
      launch<head_loss_kernel>(grid, HEAD_THREADS, 0, loss.data, logits, pitch, labels.data, chunk, V);
      continue;
    }
    if (bf16) launch<head_gradient_bf16_kernel>(grid, HEAD_THREADS, 0, loss.data, logits, pitch, labels.data, chunk, V);
    else launch<head_gradient_f32_kernel>(grid, HEAD_THREADS, 0, loss.data, logits, pitch, labels.data, chunk, V);
    const float scale = gradients->scale;
    if (gradients->dweight.count) product(Pattern::WEIGHT, gradients->dweight.data, C, dlogits, x, scale, 1, compute, workspace, present);
    product(Pattern::BACKWARD, dx, C, dlogits, weight, scale, 0, compute, workspace, present);
    launch<scatter_rows_kernel>(grid, HEAD_THREADS, 0, gradients->dinp.data, dx, chunk, C);
  }
}

}  // namespace

void cross_entropy_forward(F32Out loss, F32In inp, BytesIn weight, Int weight_type, I32In labels, Int M, Int V, Int C, Int compute) {
  cross_entropy(loss, nullptr, inp, weight, weight_type, labels, M, V, C, compute);
}

void cross_entropy_forward_backward(F32Out loss, F32Out dinp, F32Out dweight, F32In inp, BytesIn weight, Int weight_type, I32In labels,
                                    float scale, Int M, Int V, Int C, Int compute) {
  const Gradients gradients = {dinp, dweight, scale};
  cross_entropy(loss, &gradients, inp, weight, weight_type, labels, M, V, C, compute);
}

}  // namespace tacotune::cuda
