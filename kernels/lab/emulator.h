// SPDX-License-Identifier: Apache-2.0
// What a .cu file sees when g++ compiles it with -DTACOTUNE_EMULATED_KERNELS: qualifiers, coordinates, barriers, shuffles,
// atomics, and the three PTX families of device.cuh (mma, ldmatrix, cp.async) as warp collectives. Every CUDA thread is a
// fibre of emulator.cc; a call that waits for other threads switches away. It knows no kernel and no driver.
// All of it lives in namespace tacotune::cuda, as kernels do, so that nothing here meets a name of the C library.
// `__shared__` stays undefined on purpose: a kernel that writes it instead of SHARED does not compile here.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/lab/arithmetic.h"

#define __global__ __attribute__((noinline))
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__

#define threadIdx (::tacotune::cuda::emulator::current->thread_index)
#define blockIdx (::tacotune::cuda::emulator::current->block_index)
#define blockDim (::tacotune::cuda::emulator::current->block_size)
#define gridDim (::tacotune::cuda::emulator::current->grid_size)

// The emulator owns the storage, so that each array has its exact size, gaps around it, and poison at every block's start.
#define SHARED(type, name, dimensions)         \
  using name##_array [[maybe_unused]] = type dimensions; \
  static char name##_key;                      \
  name##_array& name = *static_cast<name##_array*>(::tacotune::cuda::emulator::static_shared(&name##_key, sizeof(name##_array), #name))
#define DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(::tacotune::cuda::emulator::dynamic_shared())
#define EXPORT_KERNEL(name) \
  static const ::tacotune::cuda::emulator::Registration name##_registration(#name, __BASE_FILE__, ::tacotune::cuda::emulator::Entry<&name>())

namespace tacotune::cuda {

namespace emulator {

/// The coordinates of the thread that runs; they change with every switch.
struct Thread {
  uint3 thread_index, block_index;
  dim3 block_size, grid_size;
  uint32_t number;  // within the block, x fastest
};
extern Thread* current;

void* dynamic_shared();
void* static_shared(const void* key, size_t bytes, const char* name);

// The functions from here on are calls that never inline, because each takes the address it returns to as the place in the
// kernel that reports name.

enum class Vote : uint8_t { NONE, OR, AND, COUNT };
int block_barrier(int predicate, Vote vote);

void warp_barrier(uint32_t mask);
enum class Shuffle : uint8_t { INDEX, XOR, DOWN, UP };
uint64_t shuffle(Shuffle kind, uint32_t mask, uint64_t value, int operand, int width);
uint32_t ballot(uint32_t mask, bool predicate);
enum class Reduction : uint8_t { ADD, MIN, MAX, AND, OR, XOR };
uint32_t reduce_unsigned(Reduction kind, uint32_t mask, uint32_t value);
int32_t reduce_signed(Reduction kind, uint32_t mask, int32_t value);

/// Fragments as in the PTX ISA, mma.m16n8k16. Products are exact, sums f32 in the order of k: a GPU's may differ in the last bits.
void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const float (&c)[4]);
void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const float (&c)[4]);
void ldmatrix_x4(uint32_t (&r)[4], const void* row, bool transposed);

/// Bytes beyond `valid_bytes` are written as zeros and not read. Lazy or eager: see Options in machine.h.
void copy_async(void* shared, const void* global, int bytes, int valid_bytes);
void copy_async_commit();
void copy_async_wait(int pending);

/// A kernel as the stand-in driver finds it.
struct Kernel {
  const char* name;
  const char* file;                      // the .cu it was compiled from; its stem is the module
  void (*call)(void** arguments);        // arguments[i] points to the i-th parameter
  const uint32_t* parameter_bytes;
  uint32_t parameters;
  const Kernel* next;
};
extern const Kernel* kernels;  // all that were linked in

template <auto function>
struct Entry;
template <class... Parameters, void (*function)(Parameters...)>
struct Entry<function> {
  static constexpr uint32_t count = sizeof...(Parameters);
  static constexpr uint32_t bytes[count + 1] = {sizeof(Parameters)..., 0};
  // Not instrumented by the checker: the argument list is the driver's memory, not the kernel's.
  static __attribute__((no_sanitize_thread)) void call(void** arguments) { call_with(arguments, std::make_index_sequence<count>()); }

 private:
  template <size_t... I>
  static __attribute__((no_sanitize_thread)) void call_with([[maybe_unused]] void** arguments, std::index_sequence<I...>) {
    function(*static_cast<Parameters*>(arguments[I])...);
  }
};

struct Registration {
  template <auto function>
  Registration(const char* name, const char* file, Entry<function>)
      : kernel{name, file, Entry<function>::call, Entry<function>::bytes, Entry<function>::count, kernels} {
    kernels = &kernel;
  }
  Kernel kernel;
};

template <class T>
__forceinline__ T shuffle_value(Shuffle kind, unsigned mask, T value, int operand, int width) {
  static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  bits = shuffle(kind, mask, bits, operand, width);
  memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace emulator

static constexpr int warpSize = 32;

// ---- barriers ----------------------------------------------------------------------------------------------------------
__forceinline__ void __syncthreads() { emulator::block_barrier(0, emulator::Vote::NONE); }
__forceinline__ int __syncthreads_or(int predicate) { return emulator::block_barrier(predicate, emulator::Vote::OR); }
__forceinline__ int __syncthreads_and(int predicate) { return emulator::block_barrier(predicate, emulator::Vote::AND); }
__forceinline__ int __syncthreads_count(int predicate) { return emulator::block_barrier(predicate, emulator::Vote::COUNT); }
__forceinline__ void __syncwarp(unsigned mask = 0xffffffffu) { emulator::warp_barrier(mask); }
// One block runs at a time and fibres switch only at calls, so order in memory is the order of the text.
__forceinline__ void __threadfence() { __atomic_signal_fence(__ATOMIC_SEQ_CST); }
__forceinline__ void __threadfence_block() { __atomic_signal_fence(__ATOMIC_SEQ_CST); }

// ---- warp collectives --------------------------------------------------------------------------------------------------
template <class T>
__forceinline__ T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  return emulator::shuffle_value(emulator::Shuffle::INDEX, mask, value, source, width);
}
template <class T>
__forceinline__ T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32) {
  return emulator::shuffle_value(emulator::Shuffle::XOR, mask, value, lane_mask, width);
}
template <class T>
__forceinline__ T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return emulator::shuffle_value(emulator::Shuffle::DOWN, mask, value, static_cast<int>(delta), width);
}
template <class T>
__forceinline__ T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return emulator::shuffle_value(emulator::Shuffle::UP, mask, value, static_cast<int>(delta), width);
}
__forceinline__ unsigned __ballot_sync(unsigned mask, int predicate) { return emulator::ballot(mask, predicate != 0); }
__forceinline__ int __any_sync(unsigned mask, int predicate) { return emulator::ballot(mask, predicate != 0) != 0; }
__forceinline__ int __all_sync(unsigned mask, int predicate) { return emulator::ballot(mask, predicate != 0) == mask; }
__forceinline__ unsigned __reduce_add_sync(unsigned mask, unsigned value) { return emulator::reduce_unsigned(emulator::Reduction::ADD, mask, value); }
__forceinline__ int __reduce_add_sync(unsigned mask, int value) { return emulator::reduce_signed(emulator::Reduction::ADD, mask, value); }
__forceinline__ unsigned __reduce_min_sync(unsigned mask, unsigned value) { return emulator::reduce_unsigned(emulator::Reduction::MIN, mask, value); }
__forceinline__ int __reduce_min_sync(unsigned mask, int value) { return emulator::reduce_signed(emulator::Reduction::MIN, mask, value); }
__forceinline__ unsigned __reduce_max_sync(unsigned mask, unsigned value) { return emulator::reduce_unsigned(emulator::Reduction::MAX, mask, value); }
__forceinline__ int __reduce_max_sync(unsigned mask, int value) { return emulator::reduce_signed(emulator::Reduction::MAX, mask, value); }
__forceinline__ unsigned __reduce_and_sync(unsigned mask, unsigned value) { return emulator::reduce_unsigned(emulator::Reduction::AND, mask, value); }
__forceinline__ unsigned __reduce_or_sync(unsigned mask, unsigned value) { return emulator::reduce_unsigned(emulator::Reduction::OR, mask, value); }
__forceinline__ unsigned __reduce_xor_sync(unsigned mask, unsigned value) { return emulator::reduce_unsigned(emulator::Reduction::XOR, mask, value); }

// ---- memory ------------------------------------------------------------------------------------------------------------
template <class T>
__forceinline__ T __ldg(const T* p) { return *p; }
template <class T>
__forceinline__ T __ldca(const T* p) { return *p; }
template <class T>
__forceinline__ T __ldcg(const T* p) { return *p; }
template <class T>
__forceinline__ T __ldcs(const T* p) { return *p; }
template <class T>
__forceinline__ void __stcg(T* p, T value) { *p = value; }
template <class T>
__forceinline__ void __stcs(T* p, T value) { *p = value; }

// Relaxed atomics of the compiler, not plain loads and stores, so that the checker can tell them apart.
template <class T>
__forceinline__ T atomicAdd(T* p, T value) {
  if constexpr (std::is_floating_point_v<T>) {
    using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    Bits* bits = reinterpret_cast<Bits*>(p);
    Bits before = __atomic_load_n(bits, __ATOMIC_RELAXED), after;
    T old;
    do {
      memcpy(&old, &before, sizeof(T));
      const T sum = old + value;
      memcpy(&after, &sum, sizeof(T));
    } while (!__atomic_compare_exchange_n(bits, &before, after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
  } else {
    return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
  }
}
template <class T>
__forceinline__ T atomicMax(T* p, T value) {
  T old = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (old < value && !__atomic_compare_exchange_n(p, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
  return old;
}
template <class T>
__forceinline__ T atomicMin(T* p, T value) {
  T old = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (value < old && !__atomic_compare_exchange_n(p, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
  return old;
}
template <class T>
__forceinline__ T atomicCAS(T* p, T expected, T value) {
  __atomic_compare_exchange_n(p, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}
template <class T>
__forceinline__ T atomicExch(T* p, T value) {
  static_assert(std::is_integral_v<T>, "exchange the bits of a float");
  return __atomic_exchange_n(p, value, __ATOMIC_RELAXED);
}
template <class T>
__forceinline__ T atomicOr(T* p, T value) { return __atomic_fetch_or(p, value, __ATOMIC_RELAXED); }
template <class T>
__forceinline__ T atomicAnd(T* p, T value) { return __atomic_fetch_and(p, value, __ATOMIC_RELAXED); }

}  // namespace tacotune::cuda
