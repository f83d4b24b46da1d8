// SPDX-License-Identifier: Apache-2.0
// Linear layers: out = alpha·inp·weightᵀ over a dense or an NF4 weight, and what low-rank factors add. Both operands of a product are rounded to the compute type; the
// products of two bf16 numbers are exact in double, so only the result is rounded.
#include "numbers.h"
#include "reference.h"

namespace tacotune::reference {
namespace {

using Values = std::vector<float>;

Values values_of(F32In x, Int compute) { return dense_values({x.data, x.count * 4}, STORE_F32, x.count, compute); }

void put(float& out, double value, Int accumulate) { out = static_cast<float>(accumulate ? out + value : value); }

struct LowRank {
  Values low, factor;
  Int R;
  double alpha;
};

LowRank low_rank(F32In low, F32In factor, Int R, float alpha, Int compute) { return {values_of(low, compute), values_of(factor, compute), R, alpha}; }

void forward(F32Out out, F32In inp, const Values& weight, const LowRank& added, Int M, Int N, Int K, float alpha, Int accumulate, Int compute) {
  const Values x = values_of(inp, compute);
  for (Int m = 0; m < M; m++)
    for (Int n = 0; n < N; n++) {
      double sum = 0;
      for (Int k = 0; k < K; k++) sum += static_cast<double>(x[m * K + k]) * weight[n * K + k];
      double low = 0;
      for (Int r = 0; r < added.R; r++) low += static_cast<double>(added.low[m * added.R + r]) * added.factor[n * added.R + r];
      put(out.data[m * N + n], alpha * sum + added.alpha * low, accumulate);
    }
}

void backward(F32Out dinp, F32In dout, const Values& weight, const LowRank& added, Int M, Int N, Int K, float alpha, Int accumulate, Int compute) {
  const Values dy = values_of(dout, compute);
  for (Int m = 0; m < M; m++)
    for (Int k = 0; k < K; k++) {
      double sum = 0;
      for (Int n = 0; n < N; n++) sum += static_cast<double>(dy[m * N + n]) * weight[n * K + k];
      double low = 0;
      for (Int r = 0; r < added.R; r++) low += static_cast<double>(added.low[m * added.R + r]) * added.factor[r * K + k];
      put(dinp.data[m * K + k], alpha * sum + added.alpha * low, accumulate);
    }
}

}  // namespace

void linear_forward(F32Out out, F32In inp, BytesIn weight, Int weight_type, F32In low, F32In factor, Int M, Int N, Int K, Int R, float alpha,
                    float low_alpha, Int accumulate, Int compute) {
  forward(out, inp, dense_values(weight, weight_type, N * K, compute), low_rank(low, factor, R, low_alpha, compute), M, N, K, alpha, accumulate, compute);
}

void linear_backward(F32Out dinp, F32In dout, BytesIn weight, Int weight_type, F32In low, F32In factor, Int M, Int N, Int K, Int R, float alpha,
                     float low_alpha, Int accumulate, Int compute) {
  backward(dinp, dout, dense_values(weight, weight_type, N * K, compute), low_rank(low, factor, R, low_alpha, compute), M, N, K, alpha, accumulate, compute);
}

void linear_weight_backward(F32Out dweight, F32In dout, F32In inp, Int M, Int N, Int K, float alpha, Int compute) {
  const Values dy = values_of(dout, compute), x = values_of(inp, compute);
  for (Int n = 0; n < N; n++)
    for (Int k = 0; k < K; k++) {
      double sum = 0;
      for (Int m = 0; m < M; m++) sum += static_cast<double>(dy[m * N + n]) * x[m * K + k];
      put(dweight.data[n * K + k], alpha * sum, 1);
    }
}

void linear_nf4_forward(F32Out out, F32In inp, U8In codes, U8In absmax_codes, F32In absmax, float absmax_offset, F32In low, F32In factor, Int M,
                        Int N, Int K, Int R, float low_alpha, Int accumulate, Int compute) {
  const Values weight = nf4_values(codes, absmax_codes, absmax, absmax_offset, N * K, compute);
  forward(out, inp, weight, low_rank(low, factor, R, low_alpha, compute), M, N, K, 1.0f, accumulate, compute);
}

void linear_nf4_backward(F32Out dinp, F32In dout, U8In codes, U8In absmax_codes, F32In absmax, float absmax_offset, F32In low, F32In factor, Int M,
                         Int N, Int K, Int R, float low_alpha, Int accumulate, Int compute) {
  const Values weight = nf4_values(codes, absmax_codes, absmax, absmax_offset, N * K, compute);
  backward(dinp, dout, weight, low_rank(low, factor, R, low_alpha, compute), M, N, K, 1.0f, accumulate, compute);
}

}  // namespace tacotune::reference
