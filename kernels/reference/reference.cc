// SPDX-License-Identifier: Apache-2.0
// The oracle's table.
#include "reference.h"

#include "kernels/cpu/dispatch.h"

namespace tacotune {

const Kernels* reference_kernels() {
  static const Kernels kernels = {
      "reference",
#define TACOTUNE_POINTER(op, arguments) reference::op,
      TACOTUNE_OPS(TACOTUNE_POINTER)
#undef TACOTUNE_POINTER
  };
  return &kernels;
}

}  // namespace tacotune
