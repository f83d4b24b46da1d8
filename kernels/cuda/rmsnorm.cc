// SPDX-License-Identifier: Apache-2.0
// Launches rmsnorm.
#include "rmsnorm.h"

#include "launch.h"
#include "ops.h"

namespace tacotune::cuda {

void rmsnorm_forward(F32Out out, F32Out rstd, F32In inp, F32In weight, Int M, Int C, float eps) {
  launch<rmsnorm_forward_kernel>({M}, row_threads(C), 0, out.data, rstd.data, inp.data, weight.data, C, eps);
}

void rmsnorm_backward(F32Out dinp, F32Out dweight, F32In dout, F32In inp, F32In rstd, F32In weight, Int M, Int C, Int accumulate) {
  launch<rmsnorm_backward_kernel>({M}, row_threads(C), 0, dinp.data, dout.data, inp.data, rstd.data, weight.data, C, accumulate != 0);
  if (dweight.count == 0 || M == 0) return;
  const Int rows = ceil_div(M, DWEIGHT_PARTS), count = ceil_div(M, rows);
  float* const parts = scratch_of<float>(count * C);
  launch<rmsnorm_dweight_parts_kernel>({ceil_div(C, DWEIGHT_COLUMNS), count}, DWEIGHT_THREADS, 0, parts, dout.data, inp.data, rstd.data, M, C, rows);
  launch<rmsnorm_dweight_kernel>(grid_for(C, DWEIGHT_THREADS), DWEIGHT_THREADS, 0, dweight.data, parts, static_cast<int>(count), C);
}

}  // namespace tacotune::cuda
