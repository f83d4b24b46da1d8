// SPDX-License-Identifier: Apache-2.0
// The block that runs: its shared memory, what it may reach, and what is counted.
#pragma once
#include <functional>

#include "kernels/lab/machine.h"
#include "kernels/lab/ptx/lanes.h"

namespace tacotune::cuda::emulator::ptx {

struct Traffic {
  uint64_t requests = 0, bytes = 0;
  uint64_t sectors = 0, ideal_sectors = 0;  // of 32 bytes: touched, and needed if the bytes lay together
};

struct Counters {
  uint64_t launches = 0, blocks = 0, warps = 0, instructions = 0, lane_instructions = 0, diverged = 0;
  uint64_t work[WORKS] = {};
  Traffic loads, stores;                          // global memory
  uint64_t shared_requests = 0, shared_wavefronts = 0, shared_ideal = 0;
};

/// Thrown by instructions; the launch ends.
struct Stop {
  Failure failure;
  std::string text;
};

/// The allocation that holds an address: sets its bounds, or returns false.
using FindMemory = std::function<bool(uint64_t address, uint64_t& begin, uint64_t& end)>;

class Block {
 public:
  Block(const Module& module_, const Entry& entry_, const Options& options_, FindMemory find, Counters& counters_);

  const Entry& entry;
  const Options& options;
  Counters& counters;
  std::vector<char> parameters;
  std::vector<char> shared;
  std::vector<uint8_t> shared_written;
  std::vector<Warp> warps;
  dim3 index, grid, size;
  uint32_t threads = 0;

  void begin(dim3 index, uint32_t dynamic_bytes);
  void run(Random& random);

  /// Where `bytes` at an address lie. @throws Stop
  char* reach(const Warp& warp, const Instruction& instruction, uint32_t lane, uint64_t address, uint32_t bytes, Space space) {
    const bool known = space <= Space::GLOBAL && address >= hit_begin_ && address + bytes <= hit_end_ && (address & (bytes - 1)) == 0;
    return known ? reinterpret_cast<char*>(address) : look_up(warp, instruction, lane, address, bytes, space);
  }
  char* reach_shared(const Warp& warp, const Instruction& instruction, uint32_t lane, uint64_t offset, uint32_t bytes);
  [[noreturn]] void stop(Failure failure, const Warp& warp, uint32_t lane, uint32_t place, const std::string& text) const;
  std::string line(uint32_t place) const;
  void count_shared(const uint32_t* offsets, uint32_t mask, uint32_t bytes);
  static void count_global(Traffic& traffic, const uint64_t* addresses, uint32_t mask, uint32_t bytes);

 private:
  char* look_up(const Warp& warp, const Instruction& instruction, uint32_t lane, uint64_t address, uint32_t bytes, Space space);
  bool step(Warp& warp);
  void merge(Warp& warp, size_t& at);
  bool run_group(Warp& warp, size_t at);
  void open_barrier();
  uint32_t dynamic_bytes_ = 0;
  FindMemory find_;
  const Module& module_;
  uint64_t hit_begin_ = 0, hit_end_ = 0;
};

/// Runs a kernel over a grid. The outcome's message names kernel, block, thread and line.
Outcome run_entry(const Module& module, const Entry& entry, dim3 grid, dim3 block, uint32_t dynamic_bytes, void** arguments, const Options& options, const FindMemory& find, Counters& counters);

}  // namespace tacotune::cuda::emulator::ptx
