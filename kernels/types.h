// SPDX-License-Identifier: Apache-2.0
// The argument types of ops.h. A span is a pointer and a count of elements: the addon makes it from a JavaScript typed
// array and has checked it before a kernel sees it; a kernel never owns memory. Nothing here may include a standard header
// that defines inline code, because kernels/cpu includes this text once per instruction set (see cpu/README in ARCHITECTURE.md).
#pragma once
#include <cstdint>

namespace tacotune {

using Int = int64_t;

template <class T>
struct Span {
  T* data;
  Int count;  // elements
};

using F32Out = Span<float>;
using F32In = Span<const float>;
using U8Out = Span<uint8_t>;
using U8In = Span<const uint8_t>;
using I32In = Span<const int32_t>;

// A dense weight or raw values in one of the storage types: `count` is in bytes and the type travels beside it.
struct BytesIn {
  const void* data;
  Int count;  // bytes
};
struct BytesOut {
  void* data;
  Int count;  // bytes
};

// Storage type of a dense weight. The numbers are part of the contract with kernels/binding.ts.
enum StorageType : Int { STORE_F32 = 0, STORE_BF16 = 1, STORE_F16 = 2 };

// What the inputs of a matrix product are rounded to; accumulation is always f32.
enum ComputeType : Int { COMPUTE_F32 = 0, COMPUTE_BF16 = 1 };

}  // namespace tacotune
