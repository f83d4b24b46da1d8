// SPDX-License-Identifier: Apache-2.0
// The state of the emulated machine, shared by what threads call (emulator.cc) and what runs blocks of them (grid.cc).
#pragma once
#include <vector>

#include "kernels/lab/collectives.h"
#include "kernels/lab/fibre.h"
#include "kernels/lab/machine.h"
#include "kernels/lab/shared_memory.h"

namespace tacotune::cuda::emulator {

constexpr uint32_t MAX_THREADS = 1024, MAX_WARPS = 32;
constexpr size_t STACK_BYTES = 64 << 10, PAGE = 4096;

enum class State : uint8_t { READY, AT_BARRIER, AT_COLLECTIVE, EXITED };

struct AsyncCopy {
  char* shared;
  const char* global;
  int bytes, valid_bytes;
  const void* pc;
};

struct Fibre : Thread {  // Thread first: `current` points at it
  Context context;
  char* stack = nullptr;  // null until it first runs, and again when it has exited
  State state;
  uint32_t warp, lane;
  const void* pc;  // where it waits
  // At a barrier:
  int predicate;
  Vote vote;
  // At a collective:
  uint32_t mask;
  Exchange* exchange;
  // cp.async: copies[0 … group_ends.back()) are committed.
  std::vector<AsyncCopy> copies;
  std::vector<uint32_t> group_ends;
};

struct Warp {
  uint32_t alive, waiting;  // lanes
};

struct Machine {
  Fibre fibres[MAX_THREADS];
  Warp warps[MAX_WARPS];
  Context host;
  std::vector<char*> free_stacks;
  char* stacks = nullptr;
  Schedule schedule;
  Options options;
  SharedMemory shared;
  const Kernel* kernel = nullptr;
  void** arguments = nullptr;
  uint32_t threads = 0, live = 0, at_barrier = 0;
  bool running = false;
  Outcome outcome;
};
extern Machine machine;

inline Fibre& self() { return *static_cast<Fibre*>(current); }
inline bool failed() { return machine.outcome.failure != Failure::NONE; }

/// Remembers the first failure of a launch, with kernel and block before it.
__attribute__((format(printf, 2, 3))) void fail(Failure failure, const char* format, ...);

/// Leaves the threads of the block for the host, never to return to them.
[[noreturn]] void abandon();

#define FAIL_HERE(failure, ...)   \
  do {                            \
    fail(failure, __VA_ARGS__);   \
    abandon();                    \
  } while (0)

/// For all threads, in the order in which they are made ready.
template <class Visit>
void each_thread(Visit visit) {
  if (machine.schedule.reversed())
    for (uint32_t i = machine.threads; i-- > 0;) visit(machine.fibres[i]);
  else
    for (uint32_t i = 0; i < machine.threads; i++) visit(machine.fibres[i]);
}

void make_ready(Fibre& fibre);
/// Runs the threads that were made ready until all have exited or one has failed.
void run_ready_threads();

}  // namespace tacotune::cuda::emulator
