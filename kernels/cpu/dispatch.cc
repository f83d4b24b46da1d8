// SPDX-License-Identifier: Apache-2.0
// Behind dispatch.h: the implementations, best first, as the processor says what it has.
#include "dispatch.h"

namespace tacotune {
namespace {

#if defined(__x86_64__)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
bool has_avx512bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#else
bool has_avx2() { return false; }
bool has_avx512() { return false; }
bool has_avx512bf16() { return false; }
#endif

struct List {
  const Kernels* entries[6] = {};
  Int count = 0;
  void add(const Kernels* kernels) {
    if (kernels) entries[count++] = kernels;
  }
  List() {
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    if (has_avx512bf16()) add(avx512bf16_kernels());
    if (has_avx512()) add(avx512_kernels());
    if (has_avx2()) add(avx2_kernels());
    add(baseline_kernels());
    add(reference_kernels());
  }
};

}  // namespace

const Kernels* available_kernels(Int i) {
  static const List list;
  return i >= 0 && i < list.count ? list.entries[i] : nullptr;
}

}  // namespace tacotune
