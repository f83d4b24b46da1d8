// SPDX-License-Identifier: Apache-2.0
// Runs the blocks of a grid one after another, each with fresh shared memory, and turns faults of the processor into failures
// of the launch.
#include <signal.h>
#include <sys/mman.h>

#include <cstdlib>

#include "kernels/lab/threads.h"

namespace tacotune::cuda::emulator {

const char *stacks_begin, *stacks_end, *shared_begin, *shared_end;

// ---- faults of the processor ---------------------------------------------------------------------------------------------
namespace {

struct sigaction before[3];
constexpr int FAULTS[3] = {SIGSEGV, SIGBUS, SIGFPE};

/// A wild pointer or a division by zero ends the launch, not the process. Runs on the alternative stack and never returns
/// to it; SA_NODEFER leaves the signal unblocked.
void on_fault(int signal, siginfo_t* info, void* context) {
  const void* pc = info->si_addr;
#if defined(__x86_64__)
  pc = reinterpret_cast<void*>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] + 1);
#elif defined(__aarch64__)
  pc = reinterpret_cast<void*>(static_cast<ucontext_t*>(context)->uc_mcontext.pc + 1);
#endif
  if (!machine.running) {  // not ours: let it happen again under the handler that was there
    for (int i = 0; i < 3; i++) sigaction(FAULTS[i], &before[i], nullptr);
    return;
  }
  const Fibre& fibre = self();
  const char* const address = static_cast<const char*>(info->si_addr);
  if (signal == SIGFPE) fail(Failure::OTHER, "thread %u divides by zero, %s", fibre.number, source_line(pc).c_str());
  else if (address >= stacks_begin && address < stacks_end) fail(Failure::OTHER, "thread %u needs more than %zu bytes of stack, %s", fibre.number, STACK_BYTES, source_line(pc).c_str());
  else fail(Failure::ILLEGAL_ADDRESS, "thread %u touches %p, where no memory is, %s", fibre.number, info->si_addr, source_line(pc).c_str());
  abandon();
}

/// Catches faults while it lives.
class FaultGuard {
 public:
  FaultGuard() {
    static char* alternative = static_cast<char*>(malloc(SIGNAL_STACK));
    stack_t stack{};
    stack.ss_sp = alternative;
    stack.ss_size = SIGNAL_STACK;
    sigaltstack(&stack, &stack_before_);
    struct sigaction action{};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int i = 0; i < 3; i++) sigaction(FAULTS[i], &action, &before[i]);
    machine.running = true;
  }
  ~FaultGuard() {
    machine.running = false;
    for (int i = 0; i < 3; i++) sigaction(FAULTS[i], &before[i], nullptr);
    stack_before_.ss_flags &= ~SS_ONSTACK;
    sigaltstack(&stack_before_, nullptr);
  }

 private:
  static constexpr size_t SIGNAL_STACK = 256 << 10;
  stack_t stack_before_{};
};

void prepare_stacks() {
  if (!machine.stacks) {
    void* memory = mmap(nullptr, MAX_THREADS * (STACK_BYTES + PAGE), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) abort();
    machine.stacks = static_cast<char*>(memory);
    shared_begin = machine.shared.begin();
    shared_end = machine.shared.end();
    stacks_begin = machine.stacks;
    stacks_end = stacks_begin + MAX_THREADS * (STACK_BYTES + PAGE);
    for (uint32_t i = 0; i < MAX_THREADS; i++) mprotect(machine.stacks + i * (STACK_BYTES + PAGE), PAGE, PROT_NONE);
  }
  machine.free_stacks.clear();
  for (uint32_t i = MAX_THREADS; i-- > 0;) machine.free_stacks.push_back(machine.stacks + i * (STACK_BYTES + PAGE) + PAGE);
}

void run_block(uint3 index, dim3 grid, dim3 block, uint32_t dynamic_bytes, Random& random) {
  machine.shared.clear();
  if (observer) observer->block_begins(machine.threads);
  char* dynamic = machine.shared.add_dynamic(dynamic_bytes);
  if (observer && dynamic_bytes) observer->shared_array("dynamic shared memory", dynamic, dynamic_bytes);
  machine.schedule.reset(machine.options.order, machine.threads, random);
  machine.live = machine.threads;
  machine.at_barrier = 0;
  for (uint32_t i = 0; i < machine.threads; i++) {
    Fibre& fibre = machine.fibres[i];
    fibre.thread_index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
    fibre.block_index = index;
    fibre.block_size = block;
    fibre.grid_size = grid;
    fibre.stack = nullptr;
    fibre.number = i;
    fibre.warp = i / 32;
    fibre.lane = i % 32;
    fibre.copies.clear();
    fibre.group_ends.clear();
    if (fibre.lane == 0) machine.warps[fibre.warp] = {0, 0};
    machine.warps[fibre.warp].alive |= 1u << fibre.lane;
  }
  each_thread(make_ready);
  counters.threads += machine.threads;
  run_ready_threads();
  if (const char* name = machine.shared.overrun()) fail(Failure::ILLEGAL_ADDRESS, "a write beyond the end of shared array %s", name);
}

}  // namespace

Outcome run_grid(const Kernel& kernel, dim3 grid, dim3 block, uint32_t dynamic_bytes, void** arguments, const Options& options) {
  machine.outcome = {};
  machine.kernel = &kernel;
  machine.arguments = arguments;
  machine.options = options;
  const uint64_t threads = uint64_t(block.x) * block.y * block.z, blocks = uint64_t(grid.x) * grid.y * grid.z;
  machine.threads = static_cast<uint32_t>(threads);
  if (threads == 0 || threads > MAX_THREADS || block.z > 64 || blocks == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 || dynamic_bytes > options.shared_limit) {
    fail(Failure::INVALID_LAUNCH, "a grid of (%u,%u,%u) blocks of (%u,%u,%u) threads with %u bytes of shared memory", grid.x, grid.y, grid.z, block.x, block.y, block.z, dynamic_bytes);
    return machine.outcome;
  }
  Random random(options.seed);
  std::vector<uint32_t> shuffled;
  if (options.order == Order::RANDOM || options.order == Order::GREEDY_RANDOM) {
    shuffled.resize(blocks);
    for (uint64_t b = 0; b < blocks; b++) shuffled[b] = static_cast<uint32_t>(b);
    random.shuffle(shuffled.begin(), shuffled.end());
  }
  const bool backwards = options.order == Order::REVERSED || options.order == Order::GREEDY_DOWN;
  prepare_stacks();
  if (observer) observer->launch_begins(kernel);
  {
    const FaultGuard guard;
    for (uint64_t i = 0; i < blocks && !failed(); i++) {
      const uint64_t b = !shuffled.empty() ? shuffled[i] : backwards ? blocks - 1 - i : i;
      run_block({static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y), static_cast<unsigned>(b / grid.x / grid.y)}, grid, block, dynamic_bytes, random);
    }
  }
  if (observer) {
    const std::string findings = observer->launch_ends();
    // They name lines where the machine may only know that something went wrong.
    if (!findings.empty()) machine.outcome = {failed() ? machine.outcome.failure : Failure::OTHER, std::string(kernel.name) + ": " + findings + (failed() ? "; " + machine.outcome.message : "")};
  }
  return machine.outcome;
}

}  // namespace tacotune::cuda::emulator
