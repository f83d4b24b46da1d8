// SPDX-License-Identifier: Apache-2.0
// Runs every planted kernel once, in the order that the environment asks for (settings.h), and prints a line of JSON for
// each: its name and what was found. test/cuda/checker.test.ts judges.
#include <cstdio>
#include <vector>

#include "kernels/lab/device_memory.h"
#include "kernels/lab/settings.h"

using namespace tacotune::cuda::emulator;

int main() {
  Settings settings;
  const std::string trouble = read_environment(settings);
  if (!trouble.empty()) {
    fprintf(stderr, "planted: %s\n", trouble.c_str());
    return 2;
  }
  constexpr size_t COUNT = 128;
  DeviceMemory memory(size_t(1) << 20);
  std::vector<float> host(COUNT, 1.0f);
  for (const Kernel* kernel = kernels; kernel; kernel = kernel->next) {
    uint64_t out = memory.allocate(COUNT * sizeof(float)), inp = memory.allocate(COUNT * sizeof(float));
    for (size_t i = 0; i < COUNT; i++) reinterpret_cast<float*>(memory.reach(inp))[i] = static_cast<float>(i);
    if (memory_observer) memory_observer->written(inp, COUNT * sizeof(float));
    float* elsewhere = host.data();
    void* arguments[] = {&out, &inp, &elsewhere};
    memory.open();
    const Outcome outcome = run_grid(*kernel, {2, 1, 1}, {64, 1, 1}, 1024, arguments, settings.options);
    memory.close();
    std::string text;
    for (const char c : outcome.message) text += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
    printf("{\"kernel\":\"%s\",\"found\":\"%s\"}\n", kernel->name, text.c_str());
    memory.release(out, false);
    memory.release(inp, false);
  }
}
