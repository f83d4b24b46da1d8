// SPDX-License-Identifier: Apache-2.0
// Backward products: dinp = dout·weight. The lines of the weight lie across the depth, which runs over its rows.
#include "gemm.cuh"

namespace tacotune::cuda {

#define BACKWARD(name, storage, Shape)                                                                   \
  extern "C" __global__ void __launch_bounds__(TILE_THREADS, Shape::BLOCKS) name(Product p) {           \
    multiply<Lines::ALONG, Lines::ACROSS, Storage::storage, Shape>(p);                                   \
  }                                                                                                     \
  EXPORT_KERNEL(name)

BACKWARD(gemm_backward_bf16_square_kernel, BF16, SquareTile);
BACKWARD(gemm_backward_bf16_flat_kernel, BF16, FlatTile);
BACKWARD(gemm_backward_bf16_narrow_kernel, BF16, NarrowTile);
BACKWARD(gemm_backward_f16_square_kernel, F16, SquareTile);
BACKWARD(gemm_backward_f16_flat_kernel, F16, FlatTile);
BACKWARD(gemm_backward_nf4_square_kernel, NF4, SquareTile);
BACKWARD(gemm_backward_nf4_flat_kernel, NF4, FlatTile);

}  // namespace tacotune::cuda
