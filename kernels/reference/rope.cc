// SPDX-License-Identifier: Apache-2.0
// Rotary positions: (x[d], x[d+D/2]) → (x[d]·cos - x[d+D/2]·sin, x[d+D/2]·cos + x[d]·sin). A rotation's gradient turns back: sin → -sin.
#include "reference.h"

namespace tacotune::reference {
namespace {

void rotate(F32Out x, F32In table, I32In positions, Int M, Int H, Int D, double direction) {
  const Int half = D / 2;
  for (Int m = 0; m < M; m++) {
    const float* cosine = table.data + positions.data[m] * D;
    const float* sine = cosine + half;
    for (Int h = 0; h < H; h++) {
      float* head = x.data + (m * H + h) * D;
      for (Int d = 0; d < half; d++) {
        const double a = head[d], b = head[d + half], c = cosine[d], s = direction * sine[d];
        head[d] = static_cast<float>(a * c - b * s);
        head[d + half] = static_cast<float>(b * c + a * s);
      }
    }
  }
}

}  // namespace

void rope_forward(F32Out x, F32In table, I32In positions, Int M, Int H, Int D, Int) { rotate(x, table, positions, M, H, D, 1); }
void rope_backward(F32Out x, F32In table, I32In positions, Int M, Int H, Int D, Int) { rotate(x, table, positions, M, H, D, -1); }

}  // namespace tacotune::reference
