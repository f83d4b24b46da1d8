// SPDX-License-Identifier: Apache-2.0
// The two ways of running a kernel: its source compiled by g++ on the emulator's fibres, or the PTX that nvcc made of it.
#pragma once
#include <string>

#include "kernels/lab/settings.h"

namespace tacotune::cuda::emulator {

Outcome run_on_engine(const Settings& settings, const std::string& module, const Kernel& kernel, dim3 grid, dim3 block, uint32_t dynamic_bytes, void** arguments);

/// Writes what was counted to Settings::counters_file, as JSON; nothing where no file was named.
void write_counters(const Settings& settings);

}  // namespace tacotune::cuda::emulator
