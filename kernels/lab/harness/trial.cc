// SPDX-License-Identifier: Apache-2.0
// Behind trial.h: comparing, summing up, and what a card could do.
#include "trial.h"

#include <cstdlib>

namespace tacotune::lab {

int32_t op_number(const std::string& name) {
  const auto ops = all_ops();
  for (size_t i = 0; i < ops.size(); i++)
    if (ops[i] == name) return static_cast<int32_t>(i) + 1;
  return 0;
}

double compare(const Placed& operand, const std::vector<unsigned char>& got, const Tolerance& tolerance, std::string& trouble) {
  const auto& want = operand.host();
  if (!operand.floats()) {
    size_t off = 0;
    for (size_t i = 0; i < want.size(); i++) {
      const int distance = std::abs(static_cast<int>(want[i]) - static_cast<int>(got[i]));
      if (distance > (tolerance.codes > 0 ? 1 : 0) && trouble.empty())
        trouble = "byte " + std::to_string(i) + " is " + std::to_string(got[i]) + ", want " + std::to_string(want[i]);
      off += distance != 0;
    }
    if (tolerance.codes > 0 && static_cast<double>(off) > std::max(1.0, tolerance.codes * static_cast<double>(want.size())) && trouble.empty())
      trouble = std::to_string(off) + " of " + std::to_string(want.size()) + " codes differ";
    return 0;
  }
  const size_t n = want.size() / 4;
  const auto at = [](const std::vector<unsigned char>& bytes, size_t i) {
    float value;
    std::memcpy(&value, bytes.data() + 4 * i, 4);
    return value;
  };
  double squares = 0;
  for (size_t i = 0; i < n; i++) squares += static_cast<double>(at(want, i)) * at(want, i);
  const double rms = std::sqrt(squares / static_cast<double>(std::max<size_t>(n, 1)));
  double worst = 0;
  for (size_t i = 0; i < n; i++) {
    const float w = at(want, i), g = at(got, i);
    if (w == g || (std::isnan(w) && std::isnan(g))) continue;
    const double size = std::max(rms, std::fabs(static_cast<double>(w)));
    const double error = std::fabs(static_cast<double>(g) - w) / (size > 0 ? size : 1);
    if (!(error <= tolerance.error) && trouble.empty())
      trouble = "element " + std::to_string(i) + " is " + std::to_string(g) + ", want " + std::to_string(w) + " (rms " + std::to_string(rms) + ")";
    worst = std::isfinite(error) ? std::max(worst, error) : INFINITY;
  }
  return worst;
}

Summary check_op(cuda::Gpu& gpu, const std::string& op) {
  constexpr size_t TOLD = 5;
  Summary summary;
  for (const auto& test : cases_of(op, false)) {
    Outcome outcome;
    try {
      outcome = test->check(gpu);
    } catch (const std::exception& error) {
      outcome = {false, INFINITY, error.what()};
    }
    summary.error = std::max(summary.error, outcome.error);
    (outcome.passed ? summary.passed : summary.failed)++;
    if (!outcome.passed && summary.troubles.size() < TOLD) summary.troubles.push_back(test->shape + ": " + outcome.trouble);
  }
  return summary;
}

// Operations per multiprocessor and clock: NVIDIA's architecture white papers (A100, H100, Ada, GA102).
Peak peak_of(const cuda::GpuDescription& gpu) {
  const int per_clock = gpu.compute_capability == 80 ? 2048 : gpu.compute_capability >= 90 ? 4096 : gpu.compute_capability == 89 ? 1024 : 512;
  return {static_cast<double>(gpu.multiprocessors) * gpu.clock_khz * 1e3 * per_clock, 2.0 * gpu.memory_clock_khz * 1e3 * gpu.memory_bus_bits / 8};
}

}  // namespace tacotune::lab
