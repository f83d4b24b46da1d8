// SPDX-License-Identifier: Apache-2.0
// Attention: score[j] = q·k[j]/√D for the keys j in starts … p, P = softmax(score), out = Σ P[j]·v[j], lse = log Σ exp(score[j]).
//
// Backward: dP[j] = dout·v[j], dscore[j] = P[j]·(dP[j] - Σ P·dP) where Σ P·dP = dout·out, and
//   dv[j] += P[j]·dout,  dq += dscore[j]·k[j]/√D,  dk[j] += dscore[j]·q/√D.
#include <cmath>
#include <vector>

#include "reference.h"

namespace tacotune::reference {
namespace {

double dot(const float* a, const float* b, Int n) {
  double sum = 0;
  for (Int i = 0; i < n; i++) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

void store(F32Out out, const std::vector<double>& values) {
  for (Int i = 0; i < out.count; i++) out.data[i] = static_cast<float>(values[i]);
}

}  // namespace

void attention_forward(F32Out out, F32Out lse, F32In q, F32In k, F32In v, I32In starts, Int B, Int Tq, Int Tk, Int Hq, Int Hkv, Int D, Int) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(D));
  std::vector<double> score(Tk), sum(D);
  for (Int b = 0; b < B; b++)
    for (Int t = 0; t < Tq; t++)
      for (Int h = 0; h < Hq; h++) {
        const Int start = starts.data[b * Tq + t], position = Tk - Tq + t, kv = h / (Hq / Hkv);
        const Int row = (b * Tq + t) * Hq + h;
        double largest = -INFINITY, total = 0;
        for (Int j = start; j <= position; j++) {
          const double s = dot(q.data + row * D, k.data + ((b * Tk + j) * Hkv + kv) * D, D) * scale;
          score[j] = s;
          if (s > largest) largest = s;
        }
        for (Int j = start; j <= position; j++) total += std::exp(score[j] - largest);
        const double log_sum = largest + std::log(total);
        lse.data[(b * Hq + h) * Tq + t] = static_cast<float>(log_sum);
        sum.assign(sum.size(), 0.0);
        for (Int j = start; j <= position; j++) {
          const double P = std::exp(score[j] - log_sum);
          for (Int d = 0; d < D; d++) sum[d] += P * v.data[((b * Tk + j) * Hkv + kv) * D + d];
        }
        for (Int d = 0; d < D; d++) out.data[row * D + d] = static_cast<float>(sum[d]);
      }
}

void attention_backward(F32Out dq, F32Out dk, F32Out dv, F32In dout, F32In q, F32In k, F32In v, F32In out, F32In lse, I32In starts,
                        Int B, Int T, Int Hq, Int Hkv, Int D, Int) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(D));
  std::vector<double> dq_sum(dq.count), dk_sum(dk.count), dv_sum(dv.count);
  for (Int b = 0; b < B; b++)
    for (Int t = 0; t < T; t++)
      for (Int h = 0; h < Hq; h++) {
        const Int row = ((b * T + t) * Hq + h) * D;
        const double log_sum = lse.data[(b * Hq + h) * T + t];
        const double mean = dot(dout.data + row, out.data + row, D);  // Σ P·dP
        for (Int j = starts.data[b * T + t]; j <= t; j++) {
          const Int key = ((b * T + j) * Hkv + h / (Hq / Hkv)) * D;
          const double P = std::exp(dot(q.data + row, k.data + key, D) * scale - log_sum);
          const double dscore = P * (dot(dout.data + row, v.data + key, D) - mean) * scale;
          for (Int d = 0; d < D; d++) {
            dv_sum[key + d] += P * dout.data[row + d];
            dq_sum[row + d] += dscore * k.data[key + d];
            dk_sum[key + d] += dscore * q.data[row + d];
          }
        }
      }
  store(dq, dq_sum);
  store(dk, dk_sum);
  store(dv, dv_sum);
}

}  // namespace tacotune::reference
