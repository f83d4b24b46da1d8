// SPDX-License-Identifier: Apache-2.0
// What the environment says about the emulated GPU: one place, read once. A value that is not understood is an error of
// cuInit, so that a typing mistake does not silently test something else.
#pragma once
#include <string>

#include "kernels/lab/machine.h"

namespace tacotune::cuda::emulator {

enum class StreamOrder : uint8_t { LATE, EARLY };
enum class Engine : uint8_t { NATIVE, PTX };

struct Settings {
  Options options;                               // TACOTUNE_EMULATOR_ORDER, TACOTUNE_EMULATOR_COPIES
  StreamOrder streams = StreamOrder::LATE;       // TACOTUNE_EMULATOR_STREAMS
  Engine engine = Engine::NATIVE;                // TACOTUNE_EMULATOR_ENGINE
  std::string ptx_folder;                        // TACOTUNE_EMULATOR_PTX; by default ../ptx beside the library
  std::string counters_file;                     // TACOTUNE_EMULATOR_COUNTERS: where the counters go when the process ends
  std::string fails;                             // TACOTUNE_EMULATOR_FAILS: a kernel whose launches all end in ILLEGAL_ADDRESS
  size_t memory_bytes = size_t(2048) << 20;      // TACOTUNE_EMULATOR_MEMORY_MIB
  int driver_version = 13000;                    // TACOTUNE_EMULATOR_DRIVER_VERSION
  int compute_capability = 90;                   // TACOTUNE_EMULATOR_CAPABILITY: 80, 86, 89 or 90, with its limit of shared memory
  bool wrong_blas = false;                       // TACOTUNE_EMULATOR_BLAS: right, or wrong in one element (blas.cc)
  int multiprocessors = 8;                       // TACOTUNE_EMULATOR_MULTIPROCESSORS
};

/// Returns an empty string, or what was expected and found.
std::string read_environment(Settings& settings);

}  // namespace tacotune::cuda::emulator
