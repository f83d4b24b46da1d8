// SPDX-License-Identifier: Apache-2.0
// The table of interpreted modules and what they counted; the emulated sources need none.
#include "kernels/lab/engine.h"

#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>

#include "kernels/lab/ptx/block.h"

namespace tacotune::cuda::emulator {

namespace {

std::map<std::string, ptx::Module>& modules = *new std::map<std::string, ptx::Module>;
std::map<std::string, ptx::Counters>& counted = *new std::map<std::string, ptx::Counters>;
std::string& counters_file = *new std::string;

/// @throws std::runtime_error where there is no such file, or no PTX in it
const ptx::Module& module_named(const Settings& settings, const std::string& name) {
  const auto known = modules.find(name);
  if (known != modules.end()) return known->second;
  const std::string path = settings.ptx_folder + "/" + name + ".ptx";
  std::ifstream file(path);
  if (!file) throw std::runtime_error("no " + path + " ('node scripts/build-cuda.mjs --ptx' makes it)");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return modules[name] = ptx::parse(text);
}

Outcome interpret(const Settings& settings, const DeviceMemory& memory, const std::string& module, const Kernel& kernel, dim3 grid, dim3 block, uint32_t dynamic_bytes, void** arguments) {
  counters_file = settings.counters_file;
  try {
    const ptx::Module& loaded = module_named(settings, module);
    const auto entry = loaded.entries.find(kernel.name);
    if (entry == loaded.entries.end()) throw std::runtime_error("the PTX of " + module + " has no such kernel");
    const auto find = [&](uint64_t address, uint64_t& begin, uint64_t& end) { return memory.bounds(address, begin, end); };
    return ptx::run_entry(loaded, entry->second, grid, block, dynamic_bytes, arguments, settings.options, find, counted[kernel.name]);
  } catch (const std::runtime_error& error) {
    return {Failure::OTHER, std::string(kernel.name) + ": " + error.what()};
  }
}

using Number = unsigned long long;

void write(FILE* file, const char* name, const ptx::Traffic& traffic) {
  fprintf(file, "\"%s\":{\"requests\":%llu,\"bytes\":%llu,\"sectors\":%llu,\"idealSectors\":%llu},", name, Number(traffic.requests), Number(traffic.bytes), Number(traffic.sectors),
          Number(traffic.ideal_sectors));
}

void write(FILE* file, const ptx::Counters& c) {
  fprintf(file, "{\"launches\":%llu,\"blocks\":%llu,\"warps\":%llu,\"instructions\":%llu,\"laneInstructions\":%llu,\"diverged\":%llu,", Number(c.launches), Number(c.blocks),
          Number(c.warps), Number(c.instructions), Number(c.lane_instructions), Number(c.diverged));
  write(file, "globalLoads", c.loads);
  write(file, "globalStores", c.stores);
  fprintf(file, "\"shared\":{\"requests\":%llu,\"wavefronts\":%llu,\"idealWavefronts\":%llu},\"mix\":{", Number(c.shared_requests), Number(c.shared_wavefronts), Number(c.shared_ideal));
  for (size_t i = 0; i < ptx::WORKS; i++) fprintf(file, "%s\"%s\":%llu", i ? "," : "", ptx::WORK_NAMES[i], Number(c.work[i]));
  fprintf(file, "}}");
}

__attribute__((destructor)) void write_counters() {
  if (counters_file.empty()) return;
  FILE* const file = fopen(counters_file.c_str(), "w");
  if (!file) return;
  fprintf(file, "{");
  const char* between = "";
  for (const auto& [name, counters] : counted) {
    fprintf(file, "%s\n\"%s\":", between, name.c_str());
    write(file, counters);
    between = ",";
  }
  fprintf(file, "\n}\n");
  fclose(file);
}

}  // namespace

Outcome run_on_engine(const Settings& settings, const DeviceMemory& memory, const std::string& module, const Kernel& kernel, dim3 grid, dim3 block, uint32_t dynamic_bytes, void** arguments) {
  if (settings.fails == kernel.name) return {Failure::ILLEGAL_ADDRESS, settings.fails + " was told to fail"};
  if (settings.engine == Engine::PTX) return interpret(settings, memory, module, kernel, grid, block, dynamic_bytes, arguments);
  return run_grid(kernel, grid, block, dynamic_bytes, arguments, settings.options);
}

}  // namespace tacotune::cuda::emulator
