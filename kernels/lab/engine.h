// SPDX-License-Identifier: Apache-2.0
// The two ways of running a kernel: its source compiled by g++ on the emulator's fibres, or the PTX that nvcc made of it.
#pragma once
#include <string>

#include "kernels/lab/device_memory.h"
#include "kernels/lab/settings.h"

namespace tacotune::cuda::emulator {

/// What the interpreter counts is written to Settings::counters_file when the process ends: an object of kernels.
Outcome run_on_engine(const Settings& settings, const DeviceMemory& memory, const std::string& module, const Kernel& kernel, dim3 grid, dim3 block, uint32_t dynamic_bytes, void** arguments);

}  // namespace tacotune::cuda::emulator
