// SPDX-License-Identifier: Apache-2.0
// Switching between stacks. On x86-64 by hand: six saved registers and a stack pointer; ucontext, used elsewhere, makes two
// system calls a switch and is about seven times slower. Floating-point control words are not saved: no kernel changes them.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__) && !defined(TACOTUNE_EMULATOR_UCONTEXT)

extern "C" __attribute__((visibility("hidden"))) void tacotune_switch_stack(void** save, void* restore);

namespace tacotune::cuda::emulator {

struct Context {
  void* stack_pointer;
};

/// Makes `context` begin with `entry` on a stack that ends at `top`, a multiple of 16.
inline void prepare(Context& context, char*, char* top, void (*entry)()) {
  void** words = reinterpret_cast<void**>(top);
  *--words = nullptr;  // where a caller's return address would be: `entry` never returns, and the ABI wants this alignment
  *--words = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; i++) *--words = nullptr;
  context.stack_pointer = words;
}

inline void switch_to(Context& from, Context& to) { tacotune_switch_stack(&from.stack_pointer, to.stack_pointer); }

}  // namespace tacotune::cuda::emulator

#else
#include <ucontext.h>

namespace tacotune::cuda::emulator {

struct Context {
  ucontext_t state;
};

inline void prepare(Context& context, char* bottom, char* top, void (*entry)()) {
  getcontext(&context.state);
  context.state.uc_stack.ss_sp = bottom;
  context.state.uc_stack.ss_size = static_cast<size_t>(top - bottom);
  context.state.uc_link = nullptr;
  makecontext(&context.state, entry, 0);
}

inline void switch_to(Context& from, Context& to) { swapcontext(&from.state, &to.state); }

}  // namespace tacotune::cuda::emulator
#endif
