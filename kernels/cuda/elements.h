// SPDX-License-Identifier: Apache-2.0
// Block sizes of the element-wise and row-wise kernels, for both of their halves.
#pragma once
#include "kernels/types.h"

namespace tacotune::cuda {

constexpr int ELEMENT_THREADS = 256;
constexpr int ELEMENT_WARPS = ELEMENT_THREADS / 32;
constexpr Int ELEMENTS_PER_BLOCK = 4 * ELEMENT_THREADS;  // each thread four neighbours

/// Threads for a row of C elements: whole warps, as few as leave each thread no more than four elements, at most a block.
constexpr int row_threads(Int C) {
  const Int warps = (C + 127) / 128;
  return warps < 1 ? 32 : warps < ELEMENT_WARPS ? static_cast<int>(32 * warps) : ELEMENT_THREADS;
}

}  // namespace tacotune::cuda
