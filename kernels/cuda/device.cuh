// SPDX-License-Identifier: Apache-2.0
// What kernels are written with, and the only file of theirs that knows in which world they run: inline PTX under nvcc, the
// emulator's warp collectives under g++ (kernels/lab). Kernels follow three rules so that both worlds can run them: shared
// memory comes from SHARED and DYNAMIC_SHARED; PTX stands only here; nothing beyond sm_80 is used (mma.sync, ldmatrix,
// cp.async, shuffles; no cooperative grids, no flags between blocks).
#pragma once
#include "fault.h"
#include "kernels/types.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
// At multiples of 16, so that vectors, ldmatrix and cp.async may use any of them; nvcc would align a bf16 array to 2.
#define SHARED(type, name, dimensions) __shared__ __align__(16) type name dimensions
#define DYNAMIC_SHARED(type, name)                            \
  extern __shared__ __align__(128) unsigned char shared_bytes[]; \
  type* const name = reinterpret_cast<type*>(shared_bytes)
#define EXPORT_KERNEL(name)
#else
#include "kernels/lab/emulator.h"
#endif

namespace tacotune::cuda {

using bf16 = __nv_bfloat16;

constexpr unsigned ALL_LANES = 0xffffffffu;

__device__ inline void report_fault(Fault* fault, int32_t op, Int index, int32_t value) {
  if (atomicCAS(reinterpret_cast<unsigned*>(&fault->op), 0u, static_cast<unsigned>(op)) != 0u) return;
  fault->value = value;
  fault->index = index;
}

/// d = a·b + c for one 16×8 tile, depth 16 (PTX ISA, mma.m16n8k16 .bf16). a row-major, b column-major, fragments as there.
__device__ __forceinline__ void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const float (&c)[4]) {
#ifdef __CUDACC__
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
#else
  emulator::mma_bf16(d, a, b, c);
#endif
}

/// Four 8×8 matrices of 16-bit values from shared memory; lane l gives the address of row l%8 of matrix l/8 (16 bytes each).
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
#else
  emulator::ldmatrix_x4(r, row, false);
#endif
}

/// The same, each matrix transposed.
__device__ __forceinline__ void ldmatrix_x4_transposed(uint32_t (&r)[4], const void* row) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
#else
  emulator::ldmatrix_x4(r, row, true);
#endif
}

/// Starts a copy of 16 bytes from global to shared memory; where `valid` is false it writes zeros and reads nothing.
/// Both addresses are multiples of 16.
__device__ __forceinline__ void copy_async_16(void* shared, const void* global, bool valid = true) {
#ifdef __CUDACC__
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
#else
  emulator::copy_async(shared, global, 16, valid ? 16 : 0);
#endif
}

__device__ __forceinline__ void copy_async_commit() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  emulator::copy_async_commit();
#endif
}

/// Waits until at most `pending` of this thread's groups are under way. Others see the data after a barrier.
template <int pending>
__device__ __forceinline__ void copy_async_wait() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#else
  emulator::copy_async_wait(pending);
#endif
}

/// 2^x, to about 2^-22 (PTX ISA, ex2.approx.ftz).
__device__ __forceinline__ float exp2_fast(float x) {
#ifdef __CUDACC__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return exp2f(x);
#endif
}

/// Two values rounded to bf16, the first in the low half.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(ALL_LANES, value, offset);
  return value;
}

__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, offset));
  return value;
}

}  // namespace tacotune::cuda
