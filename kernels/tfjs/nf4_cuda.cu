// SPDX-License-Identifier: Apache-2.0
// NF4 on a GPU, for the TensorFlow op. TensorFlow's C interface hands its stream to pluggable devices alone, not to its own
// CUDA device, so this runs on the default stream and waits for the whole GPU before (the inputs may still be on their way)
// and after (the next op does not wait for this stream): right, but it stops TensorFlow's pipeline at every product. The way
// without waiting is TensorFlow's C++ interface, which would bind this build to one TensorFlow. Compiled; not run in TensorFlow.
#include <cuda_runtime.h>

#include "kernels/quant.h"
#include "nf4.h"

namespace tacotune::tensorflow {
namespace {

constexpr int THREADS = 256;

__constant__ float values[16];
__constant__ float map[256];

/// A thread decodes a byte, two neighbours; 32 threads a block of 64.
__global__ void __launch_bounds__(THREADS) decode_kernel(float* weight, Nf4Weight w, int64_t n) {
  const int64_t pair = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
  if (2 * pair >= n) return;
  const int64_t block = pair / (NF4_BLOCK / 2);
  float scale;
  if (w.absmax_codes) {
    scale = __fadd_rn(__fmul_rn(map[w.absmax_codes[block]], w.absmax[block / NESTED_BLOCK]), *w.offset);
  } else {
    scale = w.absmax[block];
  }
  const uint8_t codes = w.codes[pair];
  weight[2 * pair] = __fmul_rn(values[codes >> 4], scale);
  if (2 * pair + 1 < n) weight[2 * pair + 1] = __fmul_rn(values[codes & 15], scale);
}

const char* problem(cudaError_t error) { return error == cudaSuccess ? nullptr : cudaGetErrorString(error); }

}  // namespace

const char* nf4_decode_cuda(float* weight, const Nf4Weight& packed) {
  const int64_t n = packed.N * packed.K;
  if (n == 0) return nullptr;
  const int64_t grid = ((n + 1) / 2 + THREADS - 1) / THREADS;
  if (grid > INT32_MAX) return "a weight of more than 2^40 elements";
  // The tables are copied each time, since a process may compute on several GPUs; 1 KB beside two waits is nothing.
  if (const char* error = problem(cudaMemcpyToSymbol(values, NF4_VALUES, sizeof(values)))) return error;
  if (const char* error = problem(cudaMemcpyToSymbol(map, SIGNED_DYNAMIC_MAP.values, sizeof(map)))) return error;
  if (const char* error = problem(cudaDeviceSynchronize())) return error;
  decode_kernel<<<static_cast<unsigned>(grid), THREADS>>>(weight, packed, n);
  if (const char* error = problem(cudaGetLastError())) return error;
  return problem(cudaDeviceSynchronize());
}

}  // namespace tacotune::tensorflow
