// SPDX-License-Identifier: Apache-2.0
// The switch by hand: what a function must preserve (System V ABI, x86-64) goes onto the old stack and comes from the new one.
#include "kernels/lab/fibre.h"

#if defined(__x86_64__) && !defined(TACOTUNE_EMULATOR_UCONTEXT)
asm(R"(
.text
.hidden tacotune_switch_stack
.globl tacotune_switch_stack
.type tacotune_switch_stack,@function
tacotune_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size tacotune_switch_stack,.-tacotune_switch_stack
)");
#endif
