// SPDX-License-Identifier: Apache-2.0
// What each op launches: the host halves of the ops run with sizes of a 7B model at 512 tokens, over addresses that nobody
// follows, and each launch is printed as a line of JSON instead of being made. So a kernel's grid, block and dynamic shared
// memory are known without a GPU, for scripts/kernel-report.mjs.
#include <cstdio>

#include "calls.h"
#include "kernels/cuda/launch.h"

namespace {

constexpr tacotune::Int SOMEWHERE = tacotune::Int{1} << 40;  // aligned, as tensors are
const char* current_name = "";
tacotune::Int next_address = SOMEWHERE;

void* next(tacotune::Int bytes) {
  void* const address = reinterpret_cast<void*>(next_address);
  next_address += (bytes + 255) / 256 * 256;
  return address;
}

}  // namespace

namespace tacotune::cuda {

const DeviceInfo& device_info() {
  static const DeviceInfo info = {132, 90, 227 * 1024};  // an H100
  return info;
}

void launch_by_name(const char* kernel, Grid grid, int threads, Int shared_bytes, void**) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  std::printf("{\"op\":\"%s\",\"kernel\":\"%s\",\"blocks\":%lld,\"threads\":%d,\"sharedBytes\":%lld}\n", current_name, kernel,
              static_cast<long long>(grid.x * grid.y * grid.z), threads, static_cast<long long>(shared_bytes));
}

void* scratch(Int bytes) { return next(bytes); }
Fault* fault_slot() { return static_cast<Fault*>(next(1)); }
int32_t current_op() { return 1; }

}  // namespace tacotune::cuda

namespace tacotune::lab {

void* operand(Int bytes, Content) { return next(bytes); }
void begin_op(const char* name) { current_name = name; }
void end_op() { next_address = SOMEWHERE; }

}  // namespace tacotune::lab

int main() { tacotune::lab::call_all_ops({512, 64, 4096, 11008, 32000, 32, 512 * 11008}); }
