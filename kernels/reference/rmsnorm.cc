// SPDX-License-Identifier: Apache-2.0
// RMSNorm: rstd = 1/sqrt(mean(inp²) + eps), out = inp·rstd·weight
//
// Backward: with g = dout·weight, and because ∂rstd/∂inp[c] = -rstd³·inp[c]/C,
//   dinp[c] = rstd·g[c] - inp[c]·rstd³/C · Σ g·inp
//   dweight[c] += Σ_m dout·inp·rstd
#include <cmath>
#include <vector>

#include "reference.h"

namespace tacotune::reference {

void rmsnorm_forward(F32Out out, F32Out rstd, F32In inp, F32In weight, Int M, Int C, float eps) {
  for (Int m = 0; m < M; m++) {
    const float* x = inp.data + m * C;
    double squares = 0;
    for (Int c = 0; c < C; c++) squares += static_cast<double>(x[c]) * x[c];
    const double r = 1.0 / std::sqrt(squares / static_cast<double>(C) + eps);
    rstd.data[m] = static_cast<float>(r);
    for (Int c = 0; c < C; c++) out.data[m * C + c] = static_cast<float>(x[c] * r * weight.data[c]);
  }
}

void rmsnorm_backward(F32Out dinp, F32Out dweight, F32In dout, F32In inp, F32In rstd, F32In weight, Int M, Int C, Int accumulate) {
  std::vector<double> dw(dweight.data, dweight.data + dweight.count);
  for (Int m = 0; m < M; m++) {
    const float *x = inp.data + m * C, *dy = dout.data + m * C;
    float* dx = dinp.data + m * C;
    const double r = rstd.data[m];
    double dot = 0;  // Σ g·inp
    for (Int c = 0; c < C; c++) dot += static_cast<double>(dy[c]) * weight.data[c] * x[c];
    for (Int c = 0; c < C; c++) {
      const double g = static_cast<double>(dy[c]) * weight.data[c];
      const double d = r * g - x[c] * r * r * r / static_cast<double>(C) * dot;
      dx[c] = static_cast<float>(accumulate ? dx[c] + d : d);
      if (dweight.count) dw[c] += static_cast<double>(dy[c]) * x[c] * r;
    }
  }
  for (Int c = 0; c < dweight.count; c++) dweight.data[c] = static_cast<float>(dw[c]);
}

}  // namespace tacotune::reference
