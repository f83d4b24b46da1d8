// SPDX-License-Identifier: Apache-2.0
// What threads call: barriers, collectives, cp.async, shared memory; and who runs when one of them waits. It refuses what a
// GPU would forgive silently: a barrier that part of a block reaches, a collective whose mask lacks a lane, a copy never
// waited for. A thread that finishes hands its stack to the next one, so kernels without barriers never switch.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "kernels/lab/threads.h"

namespace tacotune::cuda::emulator {

Thread* current;
const Kernel* kernels;
Observer* observer;
Counters counters;
Machine machine;

// ---- failing -------------------------------------------------------------------------------------------------------------
void fail(Failure failure, const char* format, ...) {
  if (machine.outcome.failure != Failure::NONE) return;  // the first cause is the one to show
  char text[1024];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  const uint3 block = machine.fibres[0].block_index;
  char place[256];
  snprintf(place, sizeof place, "%s, block (%u,%u,%u): ", machine.kernel->name, block.x, block.y, block.z);
  machine.outcome = {failure, std::string(place) + text};
}

void abandon() {
  Context unused;
  switch_to(unused, machine.host);
  abort();
}

void make_ready(Fibre& fibre) {
  fibre.state = State::READY;
  machine.schedule.push(fibre.number);
}

namespace {

/// "3 threads (first 5) at a barrier, rows.cu:12; …" for all that are not ready.
std::string who_waits_where() {
  struct Group {
    State state;
    std::string place;
    uint32_t count, first;
  };
  std::vector<Group> groups;
  for (uint32_t i = 0; i < machine.threads; i++) {
    const Fibre& fibre = machine.fibres[i];
    if (fibre.state == State::READY) continue;
    const std::string place = fibre.state == State::EXITED ? "" : source_line(fibre.pc);
    auto group = groups.begin();
    while (group != groups.end() && (group->state != fibre.state || group->place != place)) ++group;
    if (group == groups.end()) groups.push_back({fibre.state, place, 1, i});
    else group->count++;
  }
  std::string text;
  for (const Group& group : groups) {
    text += (text.empty() ? "" : "; ") + std::to_string(group.count) + " threads (first " + std::to_string(group.first) + ") ";
    text += group.state == State::EXITED ? "have exited" : (group.state == State::AT_BARRIER ? "at a barrier, " : "at a warp collective, ") + group.place;
  }
  return text;
}

// ---- who runs next -------------------------------------------------------------------------------------------------------
/// Null: back to the host.
Fibre* next_fibre() {
  if (failed()) return nullptr;
  if (!machine.schedule.empty()) return &machine.fibres[machine.schedule.pop()];
  if (machine.live > 0) fail(Failure::OTHER, "deadlock: %s", who_waits_where().c_str());
  return nullptr;
}

void run_threads();

void give_stack(Fibre& fibre, char* stack) {
  fibre.stack = stack;
  if (!stack) return;
  // Tops at different offsets within a page: else every thread's variables compete for the same cache sets.
  const size_t colour = fibre.number % 16 * 208;
  prepare(fibre.context, stack, stack + STACK_BYTES - (colour & ~size_t(15)), run_threads);
}

void resume(Context& from, Fibre* to) {
  counters.switches++;
  if (!to) return switch_to(from, machine.host);
  if (!to->stack) {
    give_stack(*to, machine.free_stacks.back());
    machine.free_stacks.pop_back();
  }
  current = to;
  switch_to(from, to->context);
}

/// Leaves a thread that waits, and returns when it runs again.
void wait(Fibre& fibre) {
  Fibre* next = next_fibre();
  if (next != &fibre) resume(fibre.context, next);
}

void open_barrier() {
  const Fibre* first = nullptr;
  int any = 0, all = 1, count = 0;
  for (uint32_t i = 0; i < machine.threads; i++) {
    const Fibre& fibre = machine.fibres[i];
    if (fibre.state != State::AT_BARRIER) continue;
    if (!first) first = &fibre;
    // The compiler may have copied a line: only different lines are different barriers.
    if (fibre.pc != first->pc && source_line(fibre.pc) != source_line(first->pc))
      return fail(Failure::OTHER, "threads meet at different barriers: %s", who_waits_where().c_str());
    any |= fibre.predicate != 0;
    all &= fibre.predicate != 0;
    count += fibre.predicate != 0;
  }
  if (machine.live != machine.threads)
    return fail(Failure::OTHER, "a barrier that only part of the block reaches: %s", who_waits_where().c_str());
  counters.barriers++;
  machine.at_barrier = 0;
  machine.schedule.barrier();
  if (observer) observer->barrier();
  each_thread([&](Fibre& fibre) {
    fibre.predicate = fibre.vote == Vote::OR ? any : fibre.vote == Vote::AND ? all : count;
    make_ready(fibre);
  });
}

void exit_thread(Fibre& fibre) {
  if (!fibre.copies.empty())
    fail(Failure::OTHER, "thread %u exits with a cp.async never waited for, issued at %s", fibre.number, source_line(fibre.copies[0].pc).c_str());
  fibre.state = State::EXITED;
  machine.live--;
  machine.warps[fibre.warp].alive &= ~(1u << fibre.lane);
  if (machine.live > 0 && machine.at_barrier == machine.live) open_barrier();
}

void run_threads() {
  for (;;) {
    machine.kernel->call(machine.arguments);
    Fibre& done = self();
    exit_thread(done);
    Fibre* next = next_fibre();
    char* stack = done.stack;
    done.stack = nullptr;
    if (next && !next->stack) {  // it can begin right here
      next->stack = stack;
      current = next;
      continue;
    }
    machine.free_stacks.push_back(stack);
    resume(done.context, next);
    abort();
  }
}

// ---- collectives ---------------------------------------------------------------------------------------------------------
/// Waits for the lanes of `mask`; the last one to come computes for all.
void collective(uint32_t mask, Exchange& exchange, const void* pc) {
  Fibre& fibre = self();
  Warp& warp = machine.warps[fibre.warp];
  fibre.pc = pc;
  if (!(mask >> fibre.lane & 1u))
    FAIL_HERE(Failure::OTHER, "lane %u calls a collective whose mask %08x lacks it, %s", fibre.lane, mask, source_line(pc).c_str());
  if (mask & ~warp.alive)
    FAIL_HERE(Failure::OTHER, "a collective of mask %08x, of which lanes %08x have exited or never were, %s", mask, mask & ~warp.alive, source_line(pc).c_str());
  fibre.mask = mask;
  fibre.exchange = &exchange;
  fibre.state = State::AT_COLLECTIVE;
  warp.waiting |= 1u << fibre.lane;
  if ((warp.waiting & mask) != mask) return wait(fibre);

  Exchange* lanes[32];
  Fibre* const first = &machine.fibres[fibre.warp * 32];
  for (uint32_t rest = mask; rest; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    Fibre& other = first[lane];
    lanes[lane] = other.exchange;
    const bool same_place = !exchange.aligned || other.pc == pc || source_line(other.pc) == source_line(pc);
    if (other.mask != mask || other.exchange->compute != exchange.compute || !same_place)
      FAIL_HERE(Failure::OTHER, "lanes of a warp meet at different collectives: lane %u at %s with mask %08x, lane %d at %s with mask %08x", fibre.lane,
                source_line(pc).c_str(), mask, lane, source_line(other.pc).c_str(), other.mask);
  }
  counters.collectives++;
  exchange.compute(lanes, mask);
  if (observer && exchange.orders_memory) observer->warp_barrier(fibre.warp, mask);
  warp.waiting &= ~mask;
  const bool goes_on = machine.schedule.last_goes_on();
  for (uint32_t rest = mask; rest;) {
    const int lane = machine.schedule.reversed() ? 31 - __builtin_clz(rest) : __builtin_ctz(rest);
    rest &= ~(1u << lane);
    if (!goes_on || &first[lane] != &fibre) make_ready(first[lane]);
  }
  fibre.state = State::READY;
  if (!goes_on) wait(fibre);
}

#define HERE __builtin_return_address(0)

}  // namespace

void run_ready_threads() { resume(machine.host, next_fibre()); }

__attribute__((noinline)) int block_barrier(int predicate, Vote vote) {
  Fibre& fibre = self();
  fibre.pc = HERE;
  fibre.predicate = predicate;
  fibre.vote = vote;
  fibre.state = State::AT_BARRIER;
  if (++machine.at_barrier == machine.live) open_barrier();
  wait(fibre);
  return fibre.predicate;
}

__attribute__((noinline)) void warp_barrier(uint32_t mask) {
  Exchange exchange{compute_nothing};
  exchange.orders_memory = true;
  collective(mask, exchange, HERE);
}

__attribute__((noinline)) uint64_t shuffle(Shuffle kind, uint32_t mask, uint64_t value, int operand, int width) {
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) FAIL_HERE(Failure::OTHER, "a shuffle of width %d, %s", width, source_line(HERE).c_str());
  ShuffleExchange exchange(kind, value, operand, width);
  collective(mask, exchange, HERE);
  return exchange.result;
}

__attribute__((noinline)) uint32_t ballot(uint32_t mask, bool predicate) {
  BallotExchange exchange(predicate);
  collective(mask, exchange, HERE);
  return exchange.result;
}

__attribute__((noinline)) uint32_t reduce_unsigned(Reduction kind, uint32_t mask, uint32_t value) {
  ReductionExchange<uint32_t> exchange(kind, value);
  collective(mask, exchange, HERE);
  return exchange.value;
}

__attribute__((noinline)) int32_t reduce_signed(Reduction kind, uint32_t mask, int32_t value) {
  ReductionExchange<int32_t> exchange(kind, value);
  collective(mask, exchange, HERE);
  return exchange.value;
}

__attribute__((noinline)) void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const float (&c)[4]) {
  MmaExchange<bf16_value> exchange(d, a, b, c);
  collective(0xffffffffu, exchange, HERE);
}

__attribute__((noinline)) void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const float (&c)[4]) {
  MmaExchange<f16_value> exchange(d, a, b, c);
  collective(0xffffffffu, exchange, HERE);
}

__attribute__((noinline)) void ldmatrix_x4(uint32_t (&r)[4], const void* row, bool transposed) {
  const void* const pc = HERE;
  const Fibre& fibre = self();
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0)
    FAIL_HERE(Failure::MISALIGNED, "ldmatrix: the row of thread %u is not at a multiple of 16 bytes, %s", fibre.number, source_line(pc).c_str());
  if (!machine.shared.holds(row, 16))
    FAIL_HERE(Failure::ILLEGAL_ADDRESS, "ldmatrix: the row of thread %u is outside every shared array, %s", fibre.number, source_line(pc).c_str());
  MatrixExchange exchange(r, row, transposed);
  collective(0xffffffffu, exchange, pc);
  if (!observer) return;
  const uint32_t lane = fibre.lane;
  for (const void* const* rows = exchange.rows; rows < exchange.rows + 32; rows += 8) {
    if (transposed)
      for (uint32_t half = 0; half < 2; half++)
        observer->matrix_read(static_cast<const char*>(rows[2 * (lane % 4) + half]) + 2 * (lane / 4), 2, pc);
    else
      observer->matrix_read(static_cast<const char*>(rows[lane / 4]) + 4 * (lane % 4), 4, pc);
  }
}

// ---- cp.async ------------------------------------------------------------------------------------------------------------
namespace {

void land(const AsyncCopy& copy) {
  memcpy(copy.shared, copy.global, static_cast<size_t>(copy.valid_bytes));
  memset(copy.shared + copy.valid_bytes, 0, static_cast<size_t>(copy.bytes - copy.valid_bytes));
}

}  // namespace

__attribute__((noinline)) void copy_async(void* shared, const void* global, int bytes, int valid_bytes) {
  Fibre& fibre = self();
  const AsyncCopy copy{static_cast<char*>(shared), static_cast<const char*>(global), bytes, valid_bytes, HERE};
  if ((reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(global)) % static_cast<unsigned>(bytes) != 0)
    FAIL_HERE(Failure::MISALIGNED, "cp.async of thread %u: addresses must be multiples of %d bytes, %s", fibre.number, bytes, source_line(copy.pc).c_str());
  if (!machine.shared.holds(shared, static_cast<size_t>(bytes)))
    FAIL_HERE(Failure::ILLEGAL_ADDRESS, "cp.async of thread %u writes outside every shared array, %s", fibre.number, source_line(copy.pc).c_str());
  if (observer) observer->copy_issued(shared, global, static_cast<size_t>(bytes), static_cast<size_t>(valid_bytes), copy.pc);
  if (!machine.options.lazy_copies) land(copy);
  fibre.copies.push_back(copy);
}

void copy_async_commit() {
  Fibre& fibre = self();
  fibre.group_ends.push_back(static_cast<uint32_t>(fibre.copies.size()));
}

void copy_async_wait(int pending) {
  Fibre& fibre = self();
  if (fibre.group_ends.size() <= static_cast<size_t>(pending)) return;
  const size_t groups = fibre.group_ends.size() - static_cast<size_t>(pending);
  const uint32_t landed = fibre.group_ends[groups - 1];
  for (uint32_t i = 0; i < landed; i++) {
    const AsyncCopy& copy = fibre.copies[i];
    if (machine.options.lazy_copies) land(copy);
    if (observer) observer->copy_landed(copy.shared, copy.global, static_cast<size_t>(copy.bytes), static_cast<size_t>(copy.valid_bytes), copy.pc);
  }
  fibre.copies.erase(fibre.copies.begin(), fibre.copies.begin() + landed);
  fibre.group_ends.erase(fibre.group_ends.begin(), fibre.group_ends.begin() + static_cast<ptrdiff_t>(groups));
  for (uint32_t& end : fibre.group_ends) end -= landed;
}

// ---- shared memory -------------------------------------------------------------------------------------------------------
void* dynamic_shared() { return machine.shared.dynamic(); }

__attribute__((noinline)) void* static_shared(const void* key, size_t bytes, const char* name) {
  if (void* found = machine.shared.find(key)) return found;
  void* array = machine.shared.add(key, bytes, name);
  if (!array || machine.shared.used() > machine.options.shared_limit)
    FAIL_HERE(Failure::INVALID_LAUNCH, "more than %u bytes of shared memory with %s, %s", machine.options.shared_limit, name, source_line(HERE).c_str());
  if (observer) observer->shared_array(name, static_cast<char*>(array), bytes);
  return array;
}

}  // namespace tacotune::cuda::emulator
