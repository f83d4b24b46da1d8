// SPDX-License-Identifier: Apache-2.0
// Probes of the three PTX families of device.cuh. Each writes what it got, and probe.cc compares.
#include "probe.h"

namespace tacotune::cuda {

/// One block of one warp for each element of a; for each element of b, the product of two matrices that hold a single one
/// each: the four outputs of all lanes say where the hardware thinks that the two met.
extern "C" __global__ void __launch_bounds__(32) mma_probe_kernel(float* out) {
  const unsigned lane = threadIdx.x, a_lane = blockIdx.x / 8, a_value = blockIdx.x % 8;
  constexpr uint32_t ONE = 0x3f80;  // bf16
  for (unsigned e = 0; e < MMA_B_ELEMENTS; e++) {
    const unsigned b_lane = e / 4, b_value = e % 4;
    uint32_t a[4] = {0, 0, 0, 0}, b[2] = {0, 0};
    const float c[4] = {0, 0, 0, 0};
    float d[4];
#pragma unroll
    for (unsigned r = 0; r < 4; r++)
      if (lane == a_lane && a_value / 2 == r) a[r] = ONE << 16 * (a_value % 2);
#pragma unroll
    for (unsigned r = 0; r < 2; r++)
      if (lane == b_lane && b_value / 2 == r) b[r] = ONE << 16 * (b_value % 2);
    mma_bf16(d, a, b, c);
#pragma unroll
    for (unsigned i = 0; i < 4; i++) out[((blockIdx.x * MMA_B_ELEMENTS + e) * 32 + lane) * 4 + i] = d[i];
  }
}
EXPORT_KERNEL(mma_probe_kernel);

/// Four 8×8 matrices whose elements are their own numbers, read plain and transposed.
extern "C" __global__ void __launch_bounds__(32) ldmatrix_probe_kernel(uint32_t* out) {
  SHARED(uint16_t, matrices, [4][8][8]);
  const unsigned lane = threadIdx.x;
  for (unsigned i = lane; i < 256; i += 32) matrices[i / 64][i / 8 % 8][i % 8] = static_cast<uint16_t>(i);
  __syncwarp();
  uint32_t plain[4], transposed[4];
  ldmatrix_x4(plain, &matrices[lane / 8][lane % 8][0]);
  ldmatrix_x4_transposed(transposed, &matrices[lane / 8][lane % 8][0]);
#pragma unroll
  for (unsigned i = 0; i < 4; i++) {
    out[lane * 8 + i] = plain[i];
    out[lane * 8 + 4 + i] = transposed[i];
  }
}
EXPORT_KERNEL(ldmatrix_probe_kernel);

/// Sixteen bytes a lane through shared memory, those of odd lanes not valid.
extern "C" __global__ void __launch_bounds__(32) copy_async_probe_kernel(uint32_t* out, const uint32_t* inp) {
  SHARED(uint32_t, staged, [32][4]);
  const unsigned lane = threadIdx.x;
  copy_async_16(staged[lane], inp + lane * 4, lane % 2 == 0);
  copy_async_commit();
  copy_async_wait<0>();
  __syncwarp();
#pragma unroll
  for (unsigned i = 0; i < 4; i++) out[lane * 4 + i] = staged[31 - lane][i];
}
EXPORT_KERNEL(copy_async_probe_kernel);

}  // namespace tacotune::cuda
