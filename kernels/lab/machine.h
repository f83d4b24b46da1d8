// SPDX-License-Identifier: Apache-2.0
// The emulated machine as the stand-in driver and the checker see it: how a grid is run, how it may fail, and what is told
// to whoever watches. Kernels never include this.
#pragma once
#include <cstdint>
#include <string>

#include "kernels/lab/emulator.h"
#include "kernels/lab/schedule.h"

namespace tacotune::cuda::emulator {

struct Options {
  Order order = Order::FIFO;
  uint64_t seed = 1;
  // cp.async may land any time between its issue and the wait for it. Lazy: at the wait, so that a missing wait reads
  // poison. Eager: at the issue, so that a copy into a buffer still being read shows.
  bool lazy_copies = true;
  uint32_t shared_limit = 227 * 1024;  // bytes a block can have
};

enum class Failure : uint8_t { NONE, INVALID_LAUNCH, ILLEGAL_ADDRESS, MISALIGNED, OTHER };

struct Outcome {
  Failure failure = Failure::NONE;
  std::string message;  // names kernel, block, and the line of the kernel's source
};

/// Runs every block, one after another. At the first failure the rest is not run.
Outcome run_grid(const Kernel& kernel, dim3 grid, dim3 block, uint32_t dynamic_bytes, void** arguments, const Options& options);

/// Whoever wants to know what threads do: the checker. Called on the threads' own stacks, with `current` set.
class Observer {
 public:
  virtual void launch_begins(const Kernel& kernel) = 0;
  virtual std::string launch_ends() = 0;  // findings, or an empty string
  virtual void block_begins(uint32_t threads) = 0;
  virtual void shared_array(const char* name, const char* start, size_t bytes) = 0;
  virtual void barrier() = 0;
  virtual void warp_barrier(uint32_t warp, uint32_t mask) = 0;
  /// A lane receives these bytes of a matrix that its warp reads.
  virtual void matrix_read(const void* address, size_t bytes, const void* pc) = 0;
  virtual void copy_issued(const void* shared, const void* global, size_t bytes, size_t valid_bytes, const void* pc) = 0;
  virtual void copy_landed(const void* shared, const void* global, size_t bytes, size_t valid_bytes, const void* pc) = 0;

 protected:
  ~Observer() = default;
};
extern Observer* observer;  // null in the plain build

/// Where threads keep their variables: what lies here is no business of a memory check.
extern const char *stacks_begin, *stacks_end;
/// The store that all shared arrays lie in.
extern const char *shared_begin, *shared_end;

/// "file.cu:12" of an address in this library: the innermost line that is not part of the lab or of device.cuh, through
/// addr2line. Without debug information or addr2line: the library's name and the offset.
std::string source_line(const void* pc);

/// What was done, for figures.
struct Counters {
  uint64_t threads, switches, collectives, barriers;
};
extern Counters counters;

}  // namespace tacotune::cuda::emulator
