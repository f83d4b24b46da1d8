// SPDX-License-Identifier: Apache-2.0
// Runs every op on the GPU that TACOTUNE_CUDA_DRIVER names, with sizes of a small model: on the emulated one with the PTX
// engine, which counts how global and shared memory are used (TACOTUNE_EMULATOR_COUNTERS), for scripts/kernel-report.mjs.
// Values are random, since lanes that look up the same entry of a table would hide its conflicts.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <random>
#include <vector>

#include "calls.h"
#include "kernels/cuda/gpu.h"

namespace tacotune::lab {
namespace {

std::vector<cuda::CUdeviceptr> operands;
std::mt19937 source(1);

std::vector<unsigned char> contents(Int bytes, Content content) {
  std::vector<unsigned char> all(static_cast<size_t>(bytes), content == Content::STORED ? 0x3c : 0);  // 0.01 as f32 and bf16, 1.06 as f16
  if (content == Content::CODES)
    for (unsigned char& code : all) code = static_cast<unsigned char>(source());
  if (content == Content::VALUES) {
    float* const values = reinterpret_cast<float*>(all.data());
    for (Int i = 0; i < bytes / 4; i++) values[i] = (static_cast<float>(source() >> 8) + 0.5f) * 0x1p-24f;
  }
  return all;
}

}  // namespace

void* operand(Int bytes, Content content) {
  if (bytes == 0) return nullptr;
  cuda::Gpu& gpu = cuda::Gpu::current();
  operands.push_back(gpu.allocate(bytes));
  gpu.upload(operands.back(), contents(bytes, content).data(), bytes);
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
