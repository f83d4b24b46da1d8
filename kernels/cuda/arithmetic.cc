// SPDX-License-Identifier: Apache-2.0
// Launches sums, copies, fills.
#include "arithmetic.h"

#include "launch.h"
#include "ops.h"

namespace tacotune::cuda {
namespace {

template <class PartsKernel>
void sum_in_parts(F32Out out, F32In inp, Int n, int accumulate) {
  const Int count = sum_parts(n);
  double* const parts = scratch_of<double>(count);
  launch<PartsKernel>({count}, ELEMENT_THREADS, 0, parts, inp.data, n);
  launch<sum_total_kernel>({1}, ELEMENT_THREADS, 0, out.data, parts, static_cast<int>(count), accumulate);
}

}  // namespace

void add(F32Out out, F32In inp, Int n) { launch<add_kernel>(grid_for(n, ELEMENTS_PER_BLOCK), ELEMENT_THREADS, 0, out.data, inp.data, n); }

void copy(F32Out out, F32In inp, Int n) { launch<copy_kernel>(grid_for(n, ELEMENTS_PER_BLOCK), ELEMENT_THREADS, 0, out.data, inp.data, n); }

void fill(F32Out out, float value, Int n) { launch<fill_kernel>(grid_for(n, ELEMENTS_PER_BLOCK), ELEMENT_THREADS, 0, out.data, value, n); }

void sum(F32Out out, F32In inp, Int n) { sum_in_parts<sum_parts_kernel>(out, inp, n, 1); }

void sum_of_squares(F32Out out, F32In inp, Int n) { sum_in_parts<sum_of_squares_parts_kernel>(out, inp, n, 0); }

}  // namespace tacotune::cuda
