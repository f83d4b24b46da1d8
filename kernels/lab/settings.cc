// SPDX-License-Identifier: Apache-2.0
// One table of the variables: name, what is expected, and how it is read.
#include "kernels/lab/settings.h"

#include <dlfcn.h>

#include <cstdlib>
#include <functional>
#include <vector>

namespace tacotune::cuda::emulator {

namespace {

bool parse_number(const std::string& text, uint64_t& value) {
  char* end = nullptr;
  value = strtoull(text.c_str(), &end, 10);
  return !text.empty() && *end == 0;
}

/// "fifo", "reversed", "greedy-up", "greedy-down", and with a seed "random:7" and "greedy:7".
bool parse_order(const std::string& text, Options& options) {
  const size_t colon = text.find(':');
  const std::string name = text.substr(0, colon);
  const bool seeded = name == "random" || name == "greedy";
  if (seeded != (colon != std::string::npos) || (seeded && !parse_number(text.substr(colon + 1), options.seed))) return false;
  const std::pair<const char*, Order> orders[] = {{"fifo", Order::FIFO},           {"reversed", Order::REVERSED},       {"random", Order::RANDOM},
                                                  {"greedy-up", Order::GREEDY_UP}, {"greedy-down", Order::GREEDY_DOWN}, {"greedy", Order::GREEDY_RANDOM}};
  for (const auto& [word, order] : orders)
    if (name == word) return options.order = order, true;
  return false;
}

/// Sets `choice` to whether the second word stands there; false for neither.
bool parse_choice(const std::string& text, const char* first, const char* second, bool& choice) {
  choice = text == second;
  return choice || text == first;
}

bool parse_capability(const std::string& text, Settings& settings) {
  // Bytes of shared memory a block may have: CUDA C++ Programming Guide, technical specifications per compute capability.
  const std::pair<int, uint32_t> known[] = {{80, 163 * 1024}, {86, 99 * 1024}, {89, 99 * 1024}, {90, 227 * 1024}};
  for (const auto& [capability, shared] : known) {
    if (text != std::to_string(capability)) continue;
    settings.compute_capability = capability;
    settings.options.shared_limit = shared;
    return true;
  }
  return false;
}

std::string beside_library(const char* path) {
  Dl_info info;
  if (!dladdr(reinterpret_cast<const void*>(&beside_library), &info) || !info.dli_fname) return path;
  const std::string library = info.dli_fname;
  const size_t slash = library.rfind('/');
  return (slash == std::string::npos ? "" : library.substr(0, slash + 1)) + path;
}

}  // namespace

std::string read_environment(Settings& settings) {
  settings.ptx_folder = beside_library("../ptx");
  bool flag = false;
  uint64_t number = 0;
  struct Variable {
    const char *name, *expected;
    std::function<bool(const std::string&)> parse;
  };
  const std::vector<Variable> variables = {
      {"ORDER", "fifo, reversed, random:SEED, greedy-up, greedy-down or greedy:SEED", [&](const std::string& text) { return parse_order(text, settings.options); }},
      {"COPIES", "lazy or eager", [&](const std::string& text) { return parse_choice(text, "eager", "lazy", settings.options.lazy_copies); }},
      {"STREAMS", "late or early",
       [&](const std::string& text) { return parse_choice(text, "late", "early", flag) && (settings.streams = flag ? StreamOrder::EARLY : StreamOrder::LATE, true); }},
      {"ENGINE", "native or ptx", [&](const std::string& text) { return parse_choice(text, "native", "ptx", flag) && (settings.engine = flag ? Engine::PTX : Engine::NATIVE, true); }},
      {"BLAS", "right or wrong", [&](const std::string& text) { return parse_choice(text, "right", "wrong", settings.wrong_blas); }},
      {"PTX", "a folder", [&](const std::string& text) { return settings.ptx_folder = text, true; }},
      {"COUNTERS", "a file", [&](const std::string& text) { return settings.counters_file = text, true; }},
      {"FAILS", "a kernel", [&](const std::string& text) { return settings.fails = text, true; }},
      {"MEMORY_MIB", "a number of MiB", [&](const std::string& text) { return parse_number(text, number) && number > 0 && number < (1u << 20) && (settings.memory_bytes = number << 20, true); }},
      {"DRIVER_VERSION", "a number such as 13000", [&](const std::string& text) { return parse_number(text, number) && (settings.driver_version = static_cast<int>(number), true); }},
      {"CAPABILITY", "80, 86, 89 or 90", [&](const std::string& text) { return parse_capability(text, settings); }},
      {"MULTIPROCESSORS", "a number above 0", [&](const std::string& text) { return parse_number(text, number) && number > 0 && (settings.multiprocessors = static_cast<int>(number), true); }},
  };
  for (const Variable& variable : variables) {
    const std::string name = std::string("TACOTUNE_EMULATOR_") + variable.name;
    const char* text = getenv(name.c_str());
    if (text && *text && !variable.parse(text)) return "expected " + std::string(variable.expected) + " for " + name + ", got '" + text + "'";
  }
  return "";
}

}  // namespace tacotune::cuda::emulator
