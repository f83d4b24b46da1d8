// SPDX-License-Identifier: Apache-2.0
// What another stand-in library beside the driver (blas.cc) needs of it: work on device memory, in the order of a stream.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace tacotune::cuda::emulator {

struct Settings;

/// A range of device memory that an operation touches.
struct Use {
  const void* address;
  size_t bytes;
  bool writes;
};

/// Queues `work` as a kernel would be queued. It is given the places of `uses` for the host. Every range is checked now and
/// again when the work runs. Returns a CUresult; a thread without a current context is refused.
int run_in_stream(const char* name, const void* stream, std::vector<Use> uses, std::function<void(const std::vector<char*>&)> work);

const Settings& settings_in_use();

}  // namespace tacotune::cuda::emulator
