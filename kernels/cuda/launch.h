// SPDX-License-Identifier: Apache-2.0
// What the host half of an op (the .cc beside its .cu) is written with: it picks grid and block and enqueues kernels. Spans
// hold device addresses here. Nothing waits: kernels of one op and of the next run in the order they were launched.
#pragma once
#include <cstddef>
#include <tuple>
#include <utility>

#include "kernel.h"
#include "kernels/ops.h"

namespace tacotune::cuda {

struct Fault;

struct Grid {
  Int x = 1, y = 1, z = 1;  // blocks; y and z at most 65535. A grid without blocks launches nothing
};

/// What the current device is, as the driver tells it.
struct DeviceInfo {
  int multiprocessors;
  int compute_capability;        // 80, 89, 90 …
  Int shared_bytes_per_block;    // the most that a kernel may ask for
};
const DeviceInfo& device_info();

/// Enqueues by name. `arguments[i]` points to the i-th parameter. Prefer launch<kernel>.
void launch_by_name(const char* kernel, Grid grid, int threads, Int shared_bytes, void** arguments);

template <class... Parameters, size_t... I>
void launch_with(const char* kernel, void (*)(Parameters...), Grid grid, int threads, Int shared_bytes, std::tuple<Parameters...> values,
                 std::index_sequence<I...>) {
  void* arguments[] = {static_cast<void*>(const_cast<std::remove_const_t<Parameters>*>(&std::get<I>(values)))...};
  launch_by_name(kernel, grid, threads, shared_bytes, arguments);
}

template <class... Parameters, class... Arguments>
void launch_checked(const char* kernel, void (*signature)(Parameters...), Grid grid, int threads, Int shared_bytes, Arguments... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "as many arguments as the kernel has parameters");
  launch_with(kernel, signature, grid, threads, shared_bytes, std::tuple<Parameters...>(arguments...), std::index_sequence_for<Parameters...>());
}

/// launch<swiglu_forward_kernel>(grid, threads, shared_bytes, arguments…)
template <class Kernel, class... Arguments>
void launch(Grid grid, int threads, Int shared_bytes, Arguments... arguments) {
  launch_checked(Kernel::symbol, static_cast<typename Kernel::Signature*>(nullptr), grid, threads, shared_bytes, arguments...);
}

/// Device memory for the op that is running, at a multiple of 256 bytes. Each call of one op gives other memory; the next
/// op may use it again, which is safe because kernels run in order. kernels/scratch.ts states each op's need.
void* scratch(Int bytes);

template <class T>
T* scratch_of(Int count) {
  return static_cast<T*>(scratch(count * static_cast<Int>(sizeof(T))));
}

/// Where kernels that are given indices report a bad one, and the number of the op that is running (Fault::op).
Fault* fault_slot();
int32_t current_op();

constexpr Int ceil_div(Int a, Int b) { return (a + b - 1) / b; }

/// A grid for `n` elements, `per_block` of them to a block. Kernels of one dimension read n as 64-bit.
inline Grid grid_for(Int n, Int per_block) { return {ceil_div(n, per_block), 1, 1}; }

}  // namespace tacotune::cuda
