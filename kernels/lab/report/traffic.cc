// SPDX-License-Identifier: Apache-2.0
// Runs every op once on the GPU that TACOTUNE_CUDA_DRIVER names, with sizes of a small model: on the emulated one with the
// PTX engine, which counts how global and shared memory are used (TACOTUNE_EMULATOR_COUNTERS), for scripts/kernel-report.mjs.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <vector>

#include "calls.h"
#include "kernels/cuda/gpu.h"

namespace tacotune::lab {
namespace {

std::vector<cuda::CUdeviceptr> operands;

}  // namespace

void* operand(Int bytes) {
  if (bytes == 0) return nullptr;
  cuda::Gpu& gpu = cuda::Gpu::current();
  operands.push_back(gpu.allocate(bytes));
  gpu.fill_bytes(operands.back(), 0, bytes);
  return reinterpret_cast<void*>(operands.back());
}

void begin_op(const char* name) { cuda::Gpu::current().begin_op(1, name, nullptr, 0); }

void end_op() {
  cuda::Gpu& gpu = cuda::Gpu::current();
  gpu.end_op();
  gpu.synchronize();
  for (const cuda::CUdeviceptr address : operands) gpu.free(address);
  operands.clear();
}

}  // namespace tacotune::lab

int main() {
  try {
    const char* modules = std::getenv("TACOTUNE_CUDA_MODULES");
    tacotune::cuda::Gpu::open(0, modules ? modules : "build/cuda");
    tacotune::lab::call_all_ops({128, 32, 512, 1408, 2000, 4, 65536});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "traffic: %s\n", error.what());
    return 1;
  }
}
