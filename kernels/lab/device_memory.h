// SPDX-License-Identifier: Apache-2.0
// The memory of the emulated GPU. Device memory is mapped twice: kernels see it at the addresses that are handed out, which
// are closed while no kernel runs, so that host code cannot touch it by accident; copies go through the second mapping.
// Fresh memory is 0xff; a gap after each allocation is looked at after every launch. Managed and pinned memory belong to
// both sides and stay open.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace tacotune::cuda::emulator {

enum class MemoryKind : uint8_t { DEVICE, MANAGED, PINNED };

/// Told of every allocation: the checker.
class MemoryObserver {
 public:
  virtual void allocated(uint64_t address, size_t bytes, MemoryKind kind) = 0;
  virtual void freed(uint64_t address, size_t bytes) = 0;
  /// A copy or a fill has given these bytes values.
  virtual void written(uint64_t address, size_t bytes) = 0;

 protected:
  ~MemoryObserver() = default;
};
extern MemoryObserver* memory_observer;  // null in the plain build

class DeviceMemory {
 public:
  explicit DeviceMemory(size_t capacity);

  /// 0: it does not fit.
  uint64_t allocate(size_t bytes);
  uint64_t allocate_managed(size_t bytes);
  uint64_t allocate_pinned(size_t bytes);
  /// False: not the start of an allocation of this kind.
  bool release(uint64_t address, bool pinned);

  size_t capacity() const { return capacity_; }
  size_t free_bytes() const { return capacity_ - used_; }

  /// Whether [address, address + bytes) lies within one allocation.
  bool holds(uint64_t address, size_t bytes) const;
  /// The bounds of the allocation that `address` lies in; false where there is none.
  bool bounds(uint64_t address, uint64_t& begin, uint64_t& end) const;
  bool is_pinned(uint64_t address, size_t bytes) const;
  /// Where the driver itself reads and writes what kernels see at `address`.
  char* reach(uint64_t address) const;

  void open();
  void close();

  /// Names an allocation behind whose end something was written since the last call, or is empty.
  std::string overrun();

 private:
  struct Allocation {
    size_t bytes;
    MemoryKind kind;
  };
  const Allocation* find(uint64_t address, size_t bytes) const;
  uint64_t insert(uint64_t address, size_t bytes, MemoryKind kind);
  bool is_free(uint64_t from, uint64_t to) const;

  size_t capacity_, span_, used_ = 0;
  int file_ = -1;
  char *base_ = nullptr, *alias_ = nullptr;
  size_t next_ = 0;  // where the search for room begins: freed addresses are not used again at once
  std::map<uint64_t, Allocation> allocations_;
};

}  // namespace tacotune::cuda::emulator
