// SPDX-License-Identifier: Apache-2.0
// Memory and race check of kernels compiled with -fsanitize=thread: the calls that the compiler puts before every load and
// store come here, since libtsan is not linked. It finds races, accesses outside of every allocation, reads of bytes that
// nobody wrote, accesses to the target of a cp.async in flight, and pointers into host memory; and what
// -fsanitize=alignment,bounds,… sees: misaligned vectors, an index beyond its array, a shift that CUDA defines otherwise.
// It watches and never changes a result. Locals of threads are not watched.
#include <link.h>

#include <cstdarg>
#include <cstdio>
#include <map>
#include <set>
#include <string>

#include "kernels/lab/device_memory.h"
#include "kernels/lab/machine.h"
#include "kernels/lab/shadow.h"

namespace tacotune::cuda::emulator {
namespace {

/// Else nothing is watched: constructors of this library are instrumented too, and run before the checker is there.
bool in_launch = false;

enum class Access : uint8_t { READ, WRITE, ATOMIC };
const char* verb(Access access) { return access == Access::READ ? "reads" : access == Access::WRITE ? "writes" : "updates atomically"; }

/// The library's own memory: constants of kernels, and the emulator's variables behind threadIdx.
struct Image {
  const char *begin = nullptr, *end = nullptr;
  Image() {
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* data) {
          auto& image = *static_cast<Image*>(data);
          const char *low = nullptr, *high = nullptr;
          for (int i = 0; i < info->dlpi_phnum; i++) {
            const auto& segment = info->dlpi_phdr[i];
            if (segment.p_type != PT_LOAD) continue;
            const char* const start = reinterpret_cast<const char*>(info->dlpi_addr + segment.p_vaddr);
            if (!low) low = start;
            high = start + segment.p_memsz;
          }
          const char* const here = reinterpret_cast<const char*>(&verb);
          if (here < low || here >= high) return 0;
          image.begin = low;
          image.end = high;
          return 1;
        },
        this);
  }
  bool holds(const char* address) const { return address >= begin && address < end; }
};

class Checker : public Observer, public MemoryObserver {
 public:
  // ---- what the emulator tells ----
  void launch_begins(const Kernel&) override {
    launch_first_ = ++epoch_;
    findings_.clear();
    seen_.clear();
    in_launch = true;
  }
  std::string launch_ends() override {
    in_launch = false;
    shared_.clear();
    return findings_;
  }
  void block_begins(uint32_t) override {
    next_epoch();
    block_first_ = epoch_;
    shared_.clear();
  }
  void shared_array(const char* name, const char* start, size_t bytes) override { shared_.push_back({name, start, bytes}); }
  void barrier() override { next_epoch(); }
  void warp_barrier(uint32_t warp, uint32_t mask) override { clocks_[warp].join(mask); }
  void matrix_read(const void* address, size_t bytes, const void* pc) override { access(address, bytes, Access::READ, pc); }
  void copy_issued(const void* shared, const void* global, size_t bytes, size_t valid_bytes, const void* pc) override {
    access(global, valid_bytes, Access::READ, pc);
    access(shared, bytes, Access::WRITE, pc);
    set_in_flight(shared, bytes, true);
  }
  void copy_landed(const void* shared, const void* global, size_t bytes, size_t valid_bytes, const void* pc) override {
    set_in_flight(shared, bytes, false);
    access(global, valid_bytes, Access::READ, pc);
    access(shared, bytes, Access::WRITE, pc);
  }

  // ---- what the memory tells ----
  void allocated(uint64_t address, size_t bytes, MemoryKind) override {
    allocations_[address] = bytes;
    shadow_.clear(address, bytes);
    forget_hit();
  }
  void freed(uint64_t address, size_t) override {
    allocations_.erase(address);
    forget_hit();
  }
  void written(uint64_t address, size_t bytes) override {
    for (uint64_t at = address; at < address + bytes;) {
      const uint64_t word = at & ~uint64_t(3), end = std::min(word + 4, address + bytes);
      Cell& cell = shadow_.word(word);
      for (; at < end; at++) {
        if (cell.split) shadow_.bytes_of(cell)[at - word].initialised = 1;
        cell.initialised |= static_cast<uint8_t>(1u << (at - word));
      }
    }
  }

  // ---- what the compiler's calls tell ----
  void access(const void* pointer, size_t bytes, Access kind, const void* pc) {
    const char* const address = static_cast<const char*>(pointer);
    if ((address >= stacks_begin && address < stacks_end) || bytes == 0) return;
    if (image_.holds(address) && !in_shared(address)) {
      if (kind != Access::READ) find(pc, "host pointer", "thread %u %s a variable of the program", current->number, verb(kind));
      return;
    }
    const SharedArray* array = nullptr;
    if (in_shared(address)) {
      for (const SharedArray& each : shared_)
        if (address >= each.start && address + bytes <= each.start + each.bytes) array = &each;
      if (!array) return out_of_bounds(address, bytes, kind, pc);
    } else if (!in_allocation(reinterpret_cast<uint64_t>(address), bytes)) {
      return out_of_bounds(address, bytes, kind, pc);
    }
    const Moment now{current->number, epoch_, static_cast<uint32_t>(static_cast<const char*>(pc) - image_.begin), &clocks_[current->number / 32]};
    uint64_t at = reinterpret_cast<uint64_t>(address);
    for (const uint64_t end = at + bytes; at < end;) {
      const uint64_t word = at & ~uint64_t(3), stop = std::min(word + 4, end);
      const uint32_t mask = ((1u << (stop - at)) - 1) << (at - word);
      touch_word(word, mask, kind, now, array);
      at = stop;
    }
  }

  __attribute__((format(printf, 4, 5))) void find(const void* pc, const char* kind, const char* format, ...) {
    if (seen_.size() >= MOST_FINDINGS || !seen_.insert({source_line(pc), kind}).second) return;
    char text[600];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    const uint3 block = current->block_index;
    char place[80];
    snprintf(place, sizeof place, " (block %u,%u,%u)", block.x, block.y, block.z);
    findings_ += (findings_.empty() ? "" : "; ") + std::string(kind) + " at " + source_line(pc) + ": " + text + place;
  }

 private:
  static constexpr size_t MOST_FINDINGS = 16;
  struct SharedArray {
    const char* name;
    const char* start;
    size_t bytes;
  };

  void next_epoch() {
    epoch_++;
    shadow_.reader_stamps.clear();
    for (WarpClocks& clocks : clocks_)
      if (clocks.syncs) clocks = WarpClocks();
  }

  /// The emulator keeps all shared arrays in one store; what lies between them belongs to nobody.
  bool in_shared(const char* address) const { return address >= shared_begin && address < shared_end; }

  bool in_allocation(uint64_t address, size_t bytes) {
    if (address >= hit_begin_ && address + bytes <= hit_end_) return true;
    auto next = allocations_.upper_bound(address);
    if (next == allocations_.begin()) return false;
    --next;
    if (address + bytes > next->first + next->second) return false;
    hit_begin_ = next->first;
    hit_end_ = next->first + next->second;
    return true;
  }
  void forget_hit() { hit_begin_ = hit_end_ = 0; }

  void out_of_bounds(const char* address, size_t bytes, Access kind, const void* pc) {
    const uint32_t thread = current->number;
    if (in_shared(address)) {
      for (const SharedArray& array : shared_)
        if (address + bytes > array.start && address < array.start + array.bytes + 128)
          return find(pc, "out of bounds", "thread %u %s %zu bytes at byte %zu of shared %s, which has %zu", thread, verb(kind), bytes, static_cast<size_t>(address - array.start),
                      array.name, array.bytes);
      return find(pc, "out of bounds", "thread %u %s %zu bytes of shared memory outside every array", thread, verb(kind), bytes);
    }
    const uint64_t at = reinterpret_cast<uint64_t>(address);
    auto next = allocations_.upper_bound(at);
    constexpr uint64_t NEAR = uint64_t(1) << 20;
    if (next != allocations_.begin()) {
      const auto& [start, size] = *std::prev(next);
      if (at < start + size + NEAR)
        return find(pc, "out of bounds", "thread %u %s %zu bytes at byte %llu of an allocation of %zu", thread, verb(kind), bytes, static_cast<unsigned long long>(at - start), size);
    }
    if (next != allocations_.end() && next->first - at < NEAR)
      return find(pc, "out of bounds", "thread %u %s %zu bytes, %llu before an allocation", thread, verb(kind), bytes, static_cast<unsigned long long>(next->first - at));
    find(pc, "host pointer", "thread %u %s %zu bytes at %p, which is no memory of the GPU", thread, verb(kind), bytes, static_cast<const void*>(address));
  }

  void touch_word(uint64_t word, uint32_t mask, Access kind, const Moment& now, const SharedArray* array) {
    Cell& cell = shadow_.word(word);
    // Shared memory of an earlier block: nobody's. A cell that nobody has touched yet reads so too.
    if (array && cell.write_epoch < block_first_ && cell.read_epoch < block_first_ && is_stale(cell)) shadow_.clear(cell);
    if (mask == 0xf && !cell.split) return touch(cell, 0xf, word, kind, now, array);
    auto& bytes = shadow_.bytes_of(cell);
    for (uint64_t i = 0; i < 4; i++)
      if (mask >> i & 1u) touch(bytes[i], 1, word + i, kind, now, array);
  }

  bool is_stale(Cell& cell) {
    if (!cell.split) return true;
    for (const Cell& byte : shadow_.bytes_of(cell))
      if (byte.write_epoch >= block_first_ || byte.read_epoch >= block_first_) return false;
    return true;
  }

  enum class Order : uint8_t { BEFORE, OTHER_BLOCK, UNORDERED };
  Order order(uint32_t epoch, uint32_t thread, uint32_t stamp, const Moment& now) const {
    if (epoch < launch_first_) return Order::BEFORE;
    if (epoch < block_first_) return Order::OTHER_BLOCK;
    if (epoch < now.epoch || thread == now.thread) return Order::BEFORE;
    return thread / 32 == now.warp() && now.sees(thread % 32, stamp) ? Order::BEFORE : Order::UNORDERED;
  }

  void touch(Cell& cell, uint8_t all, uint64_t address, Access kind, const Moment& now, const SharedArray* array) {
    if (cell.in_flight)
      find(at(now.pc), "cp.async in flight", "thread %u %s %s, into which %s is still copying", now.thread, verb(kind), name(address, array).c_str(), source_line(at(cell.write_pc)).c_str());
    if (kind == Access::ATOMIC && cell.atomic) {
      cell.write_epoch = now.epoch;
      cell.write_stamp = now.stamp();
      cell.write_thread = static_cast<uint16_t>(now.thread);
      cell.write_pc = now.pc;
      return remember_read(cell, now);
    }
    const Order after_write = order(cell.write_epoch, cell.write_thread, cell.write_stamp, now);
    if (after_write != Order::BEFORE && !(kind == Access::ATOMIC && cell.write_atomic))
      find(at(now.pc), "race", "thread %u %s %s, which another %s wrote at %s with nothing between to order them", now.thread, verb(kind), name(address, array).c_str(),
           after_write == Order::OTHER_BLOCK ? "block" : "thread", source_line(at(cell.write_pc)).c_str());
    if (kind != Access::WRITE && (cell.initialised & all) != all)
      find(at(now.pc), "uninitialised", "thread %u %s %s, which nobody has written", now.thread, verb(kind), name(address, array).c_str());
    // While a cell is atomic, its readers are those who updated it: whoever touches it otherwise must come after them all.
    if (kind != Access::READ || cell.atomic) {
      check_readers(cell, address, kind, now, array);
      cell.read_epoch = cell.other_block_read_epoch = 0;  // whoever is ordered after this is ordered after them
      cell.mixed_stamps = false;
    }
    cell.atomic = kind == Access::ATOMIC;
    if (kind != Access::WRITE) remember_read(cell, now);
    if (kind == Access::READ) return;
    cell.write_epoch = now.epoch;
    cell.write_stamp = now.stamp();
    cell.write_thread = static_cast<uint16_t>(now.thread);
    cell.write_pc = now.pc;
    cell.write_atomic = kind == Access::ATOMIC;
    cell.initialised |= all;
  }

  void check_readers(const Cell& cell, uint64_t address, Access kind, const Moment& now, const SharedArray* array) {
    const bool other_block = cell.other_block_read_epoch >= launch_first_ || (cell.read_epoch >= launch_first_ && cell.read_epoch < block_first_);
    bool unordered = false;
    if (!other_block && cell.read_epoch == now.epoch) {
      unordered = (cell.read_warps & ~(1u << now.warp())) != 0;
      const auto stamps = cell.mixed_stamps ? shadow_.reader_stamps.find(&cell) : shadow_.reader_stamps.end();
      for (uint32_t lane = 0; lane < 32 && !unordered; lane++) {
        if (!(cell.read_lanes >> lane & 1u) || lane == now.lane()) continue;
        unordered = !now.sees(lane, stamps != shadow_.reader_stamps.end() ? stamps->second[lane] : cell.read_stamp);
      }
    }
    if (!other_block && !unordered) return;
    const uint32_t reader = cell.other_block_read_epoch >= launch_first_ ? cell.other_block_read_pc : cell.read_pc;
    find(at(now.pc), "race", "thread %u %s %s, which another %s %s at %s with nothing between to order them", now.thread, verb(kind), name(address, array).c_str(),
         other_block ? "block" : "thread", cell.atomic ? "updated" : "read", source_line(at(reader)).c_str());
  }

  void remember_read(Cell& cell, const Moment& now) {
    if (cell.read_epoch >= launch_first_ && cell.read_epoch < block_first_) {
      cell.other_block_read_epoch = cell.read_epoch;
      cell.other_block_read_pc = cell.read_pc;
    }
    const uint32_t warp = 1u << now.warp(), lane = 1u << now.lane();
    if (cell.read_epoch != now.epoch) {
      cell.read_epoch = now.epoch;
      cell.read_warps = cell.read_lanes = 0;
      cell.mixed_stamps = false;
    }
    cell.read_pc = now.pc;
    if ((cell.read_warps & ~warp) != 0) {  // several warps: a write in this epoch races whoever its lanes are
      cell.read_warps |= warp;
      return;
    }
    cell.read_warps = warp;
    if (cell.read_lanes == 0) cell.read_stamp = now.stamp();
    if (!cell.mixed_stamps && cell.read_stamp != now.stamp()) {
      uint32_t unseen = 0;
      for (uint32_t other = 0; other < 32; other++)
        if (cell.read_lanes >> other & 1u && other != now.lane() && !now.sees(other, cell.read_stamp)) unseen |= 1u << other;
      if (unseen == 0) {  // this read comes after all those: ordering a write after it is enough
        cell.read_lanes = lane;
        cell.read_stamp = now.stamp();
        return;
      }
      cell.mixed_stamps = true;
      shadow_.reader_stamps[&cell].fill(cell.read_stamp);
    }
    cell.read_lanes |= lane;
    if (cell.mixed_stamps) shadow_.reader_stamps[&cell][now.lane()] = now.stamp();
  }

  void set_in_flight(const void* shared, size_t bytes, bool in_flight) {
    const uint64_t start = reinterpret_cast<uint64_t>(shared);
    for (uint64_t word = start; word < start + bytes; word += 4) {
      Cell& cell = shadow_.word(word);
      cell.in_flight = in_flight;
      if (cell.split)
        for (Cell& byte : shadow_.bytes_of(cell)) byte.in_flight = in_flight;
    }
  }

  const void* at(uint32_t pc) const { return image_.begin + pc; }

  std::string name(uint64_t address, const SharedArray* array) {
    if (array) return "byte " + std::to_string(address - reinterpret_cast<uint64_t>(array->start)) + " of shared " + array->name;
    const auto& [start, size] = *std::prev(allocations_.upper_bound(address));
    return "byte " + std::to_string(address - start) + " of an allocation of " + std::to_string(size);
  }

  const Image image_;
  Shadow shadow_;
  WarpClocks clocks_[32];
  std::map<uint64_t, size_t> allocations_;
  uint64_t hit_begin_ = 0, hit_end_ = 0;
  std::vector<SharedArray> shared_;
  uint32_t epoch_ = 0, launch_first_ = 0, block_first_ = 0;
  std::set<std::pair<std::string, const char*>> seen_;  // a line is told once of a kind
  std::string findings_;
};

Checker& checker = *new Checker;
const bool registered = (observer = &checker, memory_observer = &checker, true);

}  // namespace

void access(const volatile void* address, size_t bytes, Access kind, const void* pc) {
  if (in_launch) checker.access(const_cast<const void*>(address), bytes, kind, pc);
}

#define HERE __builtin_return_address(0)

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

#define TACOTUNE_ACCESS(bytes)                                                                            \
  void __tsan_read##bytes(void* p) { access(p, bytes, Access::READ, HERE); }                      \
  void __tsan_write##bytes(void* p) { access(p, bytes, Access::WRITE, HERE); }                    \
  void __tsan_unaligned_read##bytes(void* p) { access(p, bytes, Access::READ, HERE); }            \
  void __tsan_unaligned_write##bytes(void* p) { access(p, bytes, Access::WRITE, HERE); }          \
  void __tsan_volatile_read##bytes(void* p) { access(p, bytes, Access::READ, HERE); }             \
  void __tsan_volatile_write##bytes(void* p) { access(p, bytes, Access::WRITE, HERE); }
TACOTUNE_ACCESS(1) TACOTUNE_ACCESS(2) TACOTUNE_ACCESS(4) TACOTUNE_ACCESS(8) TACOTUNE_ACCESS(16)
void __tsan_read_range(void* p, size_t bytes) { access(p, bytes, Access::READ, HERE); }
void __tsan_write_range(void* p, size_t bytes) { access(p, bytes, Access::WRITE, HERE); }
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

#define TACOTUNE_ATOMIC_UPDATE(bits, T, name, expression)                             \
  T __tsan_atomic##bits##_##name(volatile T* p, T value, int) {                       \
    access(p, sizeof(T), Access::ATOMIC, HERE);               \
    const T before = *p;                                                              \
    *p = static_cast<T>(expression);                                                  \
    return before;                                                                    \
  }
#define TACOTUNE_ATOMICS(bits, T)                                                     \
  T __tsan_atomic##bits##_load(const volatile T* p, int) {                            \
    access(p, sizeof(T), Access::ATOMIC, HERE);               \
    return *p;                                                                        \
  }                                                                                   \
  void __tsan_atomic##bits##_store(volatile T* p, T value, int) {                     \
    access(p, sizeof(T), Access::ATOMIC, HERE);               \
    *p = value;                                                                       \
  }                                                                                   \
  TACOTUNE_ATOMIC_UPDATE(bits, T, exchange, value)                                    \
  TACOTUNE_ATOMIC_UPDATE(bits, T, fetch_add, before + value)                          \
  TACOTUNE_ATOMIC_UPDATE(bits, T, fetch_sub, before - value)                          \
  TACOTUNE_ATOMIC_UPDATE(bits, T, fetch_and, before & value)                          \
  TACOTUNE_ATOMIC_UPDATE(bits, T, fetch_or, before | value)                           \
  TACOTUNE_ATOMIC_UPDATE(bits, T, fetch_xor, before ^ value)                          \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* expected, T value, int, int) { \
    access(p, sizeof(T), Access::ATOMIC, HERE);               \
    const T before = *p;                                                              \
    if (before == *expected) return *p = value, 1;                                    \
    *expected = before;                                                               \
    return 0;                                                                         \
  }
TACOTUNE_ATOMICS(32, uint32_t)
TACOTUNE_ATOMICS(64, uint64_t)
void __tsan_atomic_signal_fence(int) {}
void __tsan_atomic_thread_fence(int) {}

// Handlers of -fsanitize=…: their arguments describe types and values that the line itself says better.
#define TACOTUNE_HANDLER(name, parameters, kind, sentence) \
  void __ubsan_handle_##name parameters { if (in_launch) checker.find(HERE, kind, "thread %u " sentence, current->number); }
TACOTUNE_HANDLER(type_mismatch_v1, (void*, uintptr_t), "misaligned", "uses an address that is no multiple of its type's alignment")
TACOTUNE_HANDLER(out_of_bounds, (void*, uintptr_t), "index out of range", "indexes beyond the array")
TACOTUNE_HANDLER(shift_out_of_bounds, (void*, uintptr_t, uintptr_t), "shift", "shifts by a negative number, or by as many bits as there are or more")
TACOTUNE_HANDLER(add_overflow, (void*, uintptr_t, uintptr_t), "overflow", "overflows a signed sum")
TACOTUNE_HANDLER(sub_overflow, (void*, uintptr_t, uintptr_t), "overflow", "overflows a signed difference")
TACOTUNE_HANDLER(mul_overflow, (void*, uintptr_t, uintptr_t), "overflow", "overflows a signed product")
TACOTUNE_HANDLER(negate_overflow, (void*, uintptr_t), "overflow", "negates the smallest number")
TACOTUNE_HANDLER(divrem_overflow, (void*, uintptr_t, uintptr_t), "division", "divides by zero")
TACOTUNE_HANDLER(float_cast_overflow, (void*, uintptr_t), "conversion", "converts a value that the integer cannot hold")
}  // extern "C"

}  // namespace tacotune::cuda::emulator
