// SPDX-License-Identifier: Apache-2.0
// Gradients of weights: dweight += doutᵀ·inp. The depth runs over the rows of both, so their lines lie across it.
#include "gemm.cuh"

namespace tacotune::cuda {

#define WEIGHT(name, Shape)                                                                   \
  extern "C" __global__ void __launch_bounds__(TILE_THREADS, Shape::BLOCKS) name(Product p) { \
    multiply<Lines::ACROSS, Lines::ACROSS, Storage::BF16, Shape>(p);                          \
  }                                                                                           \
  EXPORT_KERNEL(name)

WEIGHT(gemm_weight_square_kernel, SquareTile);
WEIGHT(gemm_weight_flat_kernel, FlatTile);
WEIGHT(gemm_weight_narrow_kernel, NarrowTile);

}  // namespace tacotune::cuda
