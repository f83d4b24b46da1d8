// SPDX-License-Identifier: Apache-2.0
// Sums, copies, fills.
#include "reference.h"

namespace tacotune::reference {

void add(F32Out out, F32In inp, Int n) {
  for (Int i = 0; i < n; i++) out.data[i] += inp.data[i];
}

void copy(F32Out out, F32In inp, Int n) {
  for (Int i = 0; i < n; i++) out.data[i] = inp.data[i];
}

void fill(F32Out out, float value, Int n) {
  for (Int i = 0; i < n; i++) out.data[i] = value;
}

void sum(F32Out out, F32In inp, Int n) {
  double total = out.data[0];
  for (Int i = 0; i < n; i++) total += inp.data[i];
  out.data[0] = static_cast<float>(total);
}

void sum_of_squares(F32Out out, F32In inp, Int n) {
  double total = 0;
  for (Int i = 0; i < n; i++) total += static_cast<double>(inp.data[i]) * inp.data[i];
  out.data[0] = static_cast<float>(total);
}

}  // namespace tacotune::reference
