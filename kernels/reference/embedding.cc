// SPDX-License-Identifier: Apache-2.0
// Embedding: out[m] = weight[ids[m]]
#include "numbers.h"
#include "reference.h"

namespace tacotune::reference {

void embedding_forward(F32Out out, I32In ids, BytesIn weight, Int weight_type, Int M, Int V, Int C) {
  const std::vector<float> w = dense_values(weight, weight_type, V * C, COMPUTE_F32);
  for (Int m = 0; m < M; m++)
    for (Int c = 0; c < C; c++) out.data[m * C + c] = w[ids.data[m] * C + c];
}

void embedding_backward(F32Out dweight, F32In dout, I32In ids, Int M, Int V, Int C) {
  // An id may stand in several rows: its gradients are summed before they are rounded.
  std::vector<double> sum(dweight.data, dweight.data + V * C);
  for (Int m = 0; m < M; m++)
    for (Int c = 0; c < C; c++) sum[ids.data[m] * C + c] += dout.data[m * C + c];
  for (Int i = 0; i < V * C; i++) dweight.data[i] = static_cast<float>(sum[i]);
}

}  // namespace tacotune::reference
