// SPDX-License-Identifier: Apache-2.0
// Forward products: out = inp·weightᵀ. The lines of both operands lie along the depth.
#include "gemm.cuh"

namespace tacotune::cuda {

#define FORWARD(name, storage, Shape)                                                                   \
  extern "C" __global__ void __launch_bounds__(TILE_THREADS, Shape::BLOCKS) name(Product p) {           \
    multiply<Lines::ALONG, Lines::ALONG, Storage::storage, Shape>(p);                                   \
  }                                                                                                     \
  EXPORT_KERNEL(name)

FORWARD(gemm_forward_bf16_square_kernel, BF16, SquareTile);
FORWARD(gemm_forward_bf16_flat_kernel, BF16, FlatTile);
FORWARD(gemm_forward_bf16_narrow_kernel, BF16, NarrowTile);
FORWARD(gemm_forward_f16_square_kernel, F16, SquareTile);
FORWARD(gemm_forward_f16_flat_kernel, F16, FlatTile);
FORWARD(gemm_forward_nf4_square_kernel, NF4, SquareTile);
FORWARD(gemm_forward_nf4_flat_kernel, NF4, FlatTile);

}  // namespace tacotune::cuda
