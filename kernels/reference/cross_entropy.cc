// SPDX-License-Identifier: Apache-2.0
// Head and cross-entropy: logits = inp·weightᵀ, loss[m] = logsumexp(logits[m]) - logits[m][labels[m]]; rows with label -100 have no loss.
//
// Backward: dlogits[v] = softmax(logits)[v] - (v == label); dinp = scale·dlogits·weight, dweight += scale·dlogitsᵀ·inp. As an
// operand of those products dlogits is rounded to the compute type too; the scale is applied after them.
#include <cmath>

#include "numbers.h"
#include "reference.h"

namespace tacotune::reference {
namespace {

struct Head {
  std::vector<float> x, w;  // (M,C) and (V,C), rounded to the compute type
  Int V, C;

  std::vector<double> logits(Int m) const {
    std::vector<double> row(V);
    for (Int v = 0; v < V; v++)
      for (Int c = 0; c < C; c++) row[v] += static_cast<double>(x[m * C + c]) * w[v * C + c];
    return row;
  }
};

double log_sum_exp(const std::vector<double>& row) {
  double largest = -INFINITY, sum = 0;
  for (const double z : row) largest = z > largest ? z : largest;
  for (const double z : row) sum += std::exp(z - largest);
  return largest + std::log(sum);
}

}  // namespace

void cross_entropy_forward(F32Out loss, F32In inp, BytesIn weight, Int weight_type, I32In labels, Int M, Int V, Int C, Int compute) {
  cross_entropy_forward_backward(loss, {nullptr, 0}, {nullptr, 0}, inp, weight, weight_type, labels, 0.0f, M, V, C, compute);
}

void cross_entropy_forward_backward(F32Out loss, F32Out dinp, F32Out dweight, F32In inp, BytesIn weight, Int weight_type, I32In labels,
                                    float scale, Int M, Int V, Int C, Int compute) {
  const Head head = {dense_values({inp.data, inp.count * 4}, STORE_F32, M * C, compute), dense_values(weight, weight_type, V * C, compute), V, C};
  std::vector<double> dx(C), dw(dweight.data, dweight.data + dweight.count);
  for (Int m = 0; m < M; m++) {
    const Int label = labels.data[m];
    dx.assign(dx.size(), 0.0);
    loss.data[m] = 0;
    if (label != -100) {
      const std::vector<double> logits = head.logits(m);
      const double log_sum = log_sum_exp(logits);
      loss.data[m] = static_cast<float>(log_sum - logits[label]);
      for (Int v = 0; v < V && dinp.count; v++) {
        const double softmax = std::exp(logits[v] - log_sum);
        const double dlogit = scale * static_cast<double>(rounded(static_cast<float>(softmax - (v == label)), compute));
        for (Int c = 0; c < C; c++) {
          dx[c] += dlogit * head.w[v * C + c];
          if (dweight.count) dw[v * C + c] += dlogit * head.x[m * C + c];
        }
      }
    }
    for (Int c = 0; c < C && dinp.count; c++) dinp.data[m * C + c] = static_cast<float>(dx[c]);
  }
  for (Int i = 0; i < dweight.count; i++) dweight.data[i] = static_cast<float>(dw[i]);
}

}  // namespace tacotune::reference
