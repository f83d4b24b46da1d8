// SPDX-License-Identifier: Apache-2.0
// The allocator and its two mappings: next-fit over one file in memory, so that freed addresses rest before they are used again.
#include "kernels/lab/device_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>

namespace tacotune::cuda::emulator {

MemoryObserver* memory_observer;

namespace {

constexpr size_t ALIGNMENT = 256, GAP = 256, PAGE = 4096;

size_t rounded(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

void* map(size_t bytes, int protection, int flags, int file) {
  void* memory = mmap(nullptr, bytes, protection, flags | MAP_NORESERVE, file, 0);
  if (memory != MAP_FAILED) return memory;
  perror("emulated GPU: mmap");
  abort();
}

}  // namespace

DeviceMemory::DeviceMemory(size_t capacity) : capacity_(capacity), span_(2 * capacity + (size_t(64) << 20)) {  // room for gaps
  file_ = memfd_create("emulated GPU", MFD_CLOEXEC);
  if (file_ < 0 || ftruncate(file_, static_cast<off_t>(span_)) != 0) {
    perror("emulated GPU: memfd");
    abort();
  }
  base_ = static_cast<char*>(map(span_, PROT_NONE, MAP_SHARED, file_));
  alias_ = static_cast<char*>(map(span_, PROT_READ | PROT_WRITE, MAP_SHARED, file_));
}

uint64_t DeviceMemory::insert(uint64_t address, size_t bytes, MemoryKind kind) {
  memset(reach(address), 0xff, bytes + (kind == MemoryKind::PINNED ? 0 : GAP));
  allocations_[address] = {bytes, kind};
  if (memory_observer) memory_observer->allocated(address, bytes, kind);
  return address;
}

bool DeviceMemory::is_free(uint64_t from, uint64_t to) const {
  auto next = allocations_.lower_bound(to);
  if (next == allocations_.begin()) return true;
  --next;
  return next->first + rounded(next->second.bytes) + GAP <= from;
}

uint64_t DeviceMemory::allocate(size_t bytes) {
  const size_t need = rounded(bytes);
  if (bytes == 0 || need > free_bytes()) return 0;
  for (int pass = 0; pass < 2; pass++) {
    size_t at = next_;
    while (at + need + GAP <= span_) {
      const uint64_t address = reinterpret_cast<uint64_t>(base_) + at;
      if (is_free(address, address + need + GAP)) {
        next_ = at + need + GAP;
        used_ += need;
        return insert(address, bytes, MemoryKind::DEVICE);
      }
      const auto blocking = --allocations_.lower_bound(address + need + GAP);  // the last one that begins in the range
      at = blocking->first - reinterpret_cast<uint64_t>(base_) + rounded(blocking->second.bytes) + GAP;
    }
    next_ = 0;
  }
  return 0;
}

uint64_t DeviceMemory::allocate_managed(size_t bytes) {
  if (bytes == 0) return 0;
  return insert(reinterpret_cast<uint64_t>(map(bytes + GAP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1)), bytes, MemoryKind::MANAGED);
}

uint64_t DeviceMemory::allocate_pinned(size_t bytes) {
  void* memory = bytes == 0 ? nullptr : aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
  return memory ? insert(reinterpret_cast<uint64_t>(memory), bytes, MemoryKind::PINNED) : 0;
}

bool DeviceMemory::release(uint64_t address, bool pinned) {
  const auto found = allocations_.find(address);
  if (found == allocations_.end() || (found->second.kind == MemoryKind::PINNED) != pinned) return false;
  const auto [bytes, kind] = found->second;
  if (memory_observer) memory_observer->freed(address, bytes);
  if (kind == MemoryKind::PINNED) {
    free(reinterpret_cast<void*>(address));
  } else if (kind == MemoryKind::MANAGED) {
    munmap(reinterpret_cast<void*>(address), bytes + GAP);
  } else {
    used_ -= rounded(bytes);
    memset(reach(address), 0xff, bytes < PAGE ? bytes : PAGE);  // whoever reads it still gets poison, and the rest goes back
    const size_t first = (address - reinterpret_cast<uint64_t>(base_) + 2 * PAGE - 1) / PAGE * PAGE;
    const size_t last = (address - reinterpret_cast<uint64_t>(base_) + bytes) / PAGE * PAGE;
    if (last > first) fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(first), static_cast<off_t>(last - first));
  }
  allocations_.erase(found);
  return true;
}

const DeviceMemory::Allocation* DeviceMemory::find(uint64_t address, size_t bytes) const {
  auto next = allocations_.upper_bound(address);
  if (next == allocations_.begin()) return nullptr;
  --next;
  return address - next->first <= next->second.bytes && bytes <= next->second.bytes - (address - next->first) ? &next->second : nullptr;
}

bool DeviceMemory::holds(uint64_t address, size_t bytes) const { return find(address, bytes) != nullptr; }

bool DeviceMemory::bounds(uint64_t address, uint64_t& begin, uint64_t& end) const {
  const auto next = allocations_.upper_bound(address);
  if (next == allocations_.begin() || address >= std::prev(next)->first + std::prev(next)->second.bytes) return false;
  begin = std::prev(next)->first;
  end = begin + std::prev(next)->second.bytes;
  return true;
}

bool DeviceMemory::is_pinned(uint64_t address, size_t bytes) const {
  const Allocation* allocation = find(address, bytes);
  return allocation && allocation->kind == MemoryKind::PINNED;
}

char* DeviceMemory::reach(uint64_t address) const {
  const uint64_t base = reinterpret_cast<uint64_t>(base_);
  return address >= base && address < base + span_ ? alias_ + (address - base) : reinterpret_cast<char*>(address);
}

// Closing costs a system call and a walk over the pages that are present: about 2 ms for 256 MiB, once for each time the
// host waits. Protection keys would be cheaper, but not every processor has them.
void DeviceMemory::open() { mprotect(base_, span_, PROT_READ | PROT_WRITE); }
void DeviceMemory::close() { mprotect(base_, span_, PROT_NONE); }

std::string DeviceMemory::overrun() {
  static const std::string untouched(GAP, static_cast<char>(0xff));
  std::string found;
  for (const auto& [address, allocation] : allocations_) {
    if (allocation.kind == MemoryKind::PINNED) continue;
    char* const gap = reach(address) + allocation.bytes;
    if (memcmp(gap, untouched.data(), GAP) == 0) continue;
    for (size_t i = 0; i < GAP; i++) {
      if (static_cast<unsigned char>(gap[i]) == 0xff) continue;
      if (found.empty())
        found = "wrote behind the end of an allocation of " + std::to_string(allocation.bytes) + " bytes, " + std::to_string(i) + " bytes too far";
      gap[i] = static_cast<char>(0xff);
    }
  }
  return found;
}

}  // namespace tacotune::cuda::emulator
