// SPDX-License-Identifier: Apache-2.0
// The shared memory of the block that runs: arrays side by side with a gap after each, all of it 0xff at the block's start,
// which is NaN as bf16, f16 and f32. A write into a gap is noticed when the block ends.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace tacotune::cuda::emulator {

class SharedMemory {
 public:
  SharedMemory() { memset(bytes_, 0xff, sizeof bytes_); }

  void clear() {
    memset(bytes_, 0xff, top_);
    top_ = used_ = 0;
    arrays_.clear();
  }

  char* add_dynamic(size_t bytes) { return static_cast<char*>(add(nullptr, bytes, "dynamic shared memory")); }
  void* dynamic() { return bytes_; }

  void* find(const void* key) const {
    for (const Array& array : arrays_)
      if (array.key == key) return array.start;
    return nullptr;
  }

  /// Null where even the emulator's own store is full.
  void* add(const void* key, size_t bytes, const char* name) {
    if (top_ + bytes + ALIGNMENT + GAP > sizeof bytes_) return nullptr;
    char* const start = bytes_ + top_;
    arrays_.push_back({key, start, bytes, name});
    used_ += bytes;
    top_ = (top_ + bytes + GAP + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return start;
  }

  size_t used() const { return used_; }
  const char* begin() const { return bytes_; }
  const char* end() const { return bytes_ + sizeof bytes_; }

  bool holds(const void* address, size_t bytes) const {
    const char* const a = static_cast<const char*>(address);
    for (const Array& array : arrays_)
      if (a >= array.start && a + bytes <= array.start + array.bytes) return true;
    return false;
  }

  /// The name of an array beyond whose end something was written, or null.
  const char* overrun() const {
    for (const Array& array : arrays_)
      for (size_t i = 0; i < GAP; i++)
        if (static_cast<unsigned char>(array.start[array.bytes + i]) != 0xff) return array.name;
    return nullptr;
  }

 private:
  struct Array {
    const void* key;  // null: the dynamic one
    char* start;
    size_t bytes;
    const char* name;
  };
  static constexpr size_t GAP = 128, ALIGNMENT = 128;
  std::vector<Array> arrays_;
  size_t top_ = 0, used_ = 0;
  alignas(128) char bytes_[512 << 10];
};

}  // namespace tacotune::cuda::emulator
