// SPDX-License-Identifier: Apache-2.0
// Launches embedding.
#include "embedding.h"

#include "launch.h"
#include "ops.h"

namespace tacotune::cuda {
namespace {

template <class Kernel>
void gather(F32Out out, I32In ids, BytesIn weight, Int M, Int V, Int C) {
  launch<Kernel>({M}, row_threads(C), 0, out.data, ids.data, weight.data, V, C, fault_slot(), current_op());
}

}  // namespace

void embedding_forward(F32Out out, I32In ids, BytesIn weight, Int weight_type, Int M, Int V, Int C) {
  if (weight_type == STORE_F32) gather<embedding_forward_f32_kernel>(out, ids, weight, M, V, C);
  else if (weight_type == STORE_BF16) gather<embedding_forward_bf16_kernel>(out, ids, weight, M, V, C);
  else gather<embedding_forward_f16_kernel>(out, ids, weight, M, V, C);
}

void embedding_backward(F32Out dweight, F32In dout, I32In ids, Int M, Int V, Int C) {
  launch<embedding_backward_kernel>({M, ceil_div(C, ELEMENTS_PER_BLOCK)}, ELEMENT_THREADS, 0, dweight.data, dout.data, ids.data, M, V, C,
                                    fault_slot(), current_op());
}

}  // namespace tacotune::cuda
