// SPDX-License-Identifier: Apache-2.0
// The kernels' own bench and judge, without Node: runs every op's cases through the CUDA driver (or the emulator named by
// TACOTUNE_CUDA_DRIVER), compares with the reference, and with --time says how much of the card's peak each reaches.
//
//     make -C kernels/lab/harness && build/lab/harness            agreement of all ops
//     build/lab/harness linear attention --time                   and times, of the ops whose names contain a word
//
// Options: --modules FOLDER (default build/cuda, or TACOTUNE_CUDA_MODULES), --gpu N, --repeats N, --json,
// --exact (allocations without fences: for the checker), --cublaslt LEAST (products of at least so many rows, columns and
// depth go to cuBLASLt; 1024 is what runs do that ask for it).
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "kernels/cuda/blas.h"
#include "trial.h"

namespace tacotune::lab {

namespace {

struct Options {
  std::vector<std::string> words;
  std::string modules = "build/cuda";
  int gpu = 0, repeats = 20, blas_least = 0;
  bool time = false, json = false;
};

Options parse(int count, char** arguments) {
  Options options;
  if (const char* folder = std::getenv("TACOTUNE_CUDA_MODULES")) options.modules = folder;
  for (int i = 1; i < count; i++) {
    const std::string word = arguments[i];
    const auto value = [&] {
      if (i + 1 >= count) throw std::invalid_argument("expected a value after " + word);
      return std::string(arguments[++i]);
    };
    if (word == "--modules") options.modules = value();
    else if (word == "--gpu") options.gpu = std::stoi(value());
    else if (word == "--repeats") options.repeats = std::stoi(value());
    else if (word == "--time") options.time = true;
    else if (word == "--json") options.json = true;
    else if (word == "--cublaslt") options.blas_least = std::stoi(value());
    else if (word == "--exact") Placed::fence = 0;
    else if (word.rfind("--", 0) == 0) throw std::invalid_argument("unknown option " + word);
    else options.words.push_back(word);
  }
  return options;
}

bool wanted(const Options& options, const std::string& op) {
  if (options.words.empty()) return true;
  for (const auto& word : options.words)
    if (op.find(word) != std::string::npos) return true;
  return false;
}

/// Prints the agreement of an op. Returns how many cases failed.
int check(cuda::Gpu& gpu, const std::string& op) {
  const Summary summary = check_op(gpu, op);
  for (const auto& trouble : summary.troubles) std::printf("  FAIL %s %s\n", op.c_str(), trouble.c_str());
  std::printf("%-32s %3d passed %3d failed   largest error %.1e of rms\n", op.c_str(), summary.passed, summary.failed, summary.error);
  std::fflush(stdout);
  return summary.failed;
}

void measure(cuda::Gpu& gpu, const std::string& op, const Options& options) {
  const Peak peak = peak_of(gpu.description());
  for (const auto& test : cases_of(op, true)) {
    const double seconds = test->time(gpu, options.repeats) / 1e3;
    const double flops = test->flops / seconds, bytes = static_cast<double>(test->bytes()) / seconds;
    if (options.json)
      std::printf("{\"op\":\"%s\",\"shape\":\"%s\",\"gpu\":\"%s\",\"ms\":%.4f,\"tflops\":%.2f,\"gbytes\":%.1f,\"shareOfFlops\":%.3f,\"shareOfBytes\":%.3f}\n", op.c_str(), test->shape.c_str(),
                  gpu.description().name.c_str(), seconds * 1e3, flops / 1e12, bytes / 1e9, flops / peak.flops, bytes / peak.bytes);
    else
      std::printf("%-32s %-36s %9.3f ms %8.1f TFLOP/s (%4.0f %%) %8.1f GB/s (%4.0f %%)\n", op.c_str(), test->shape.c_str(), seconds * 1e3, flops / 1e12, 100 * flops / peak.flops, bytes / 1e9,
                  100 * bytes / peak.bytes);
    std::fflush(stdout);
  }
}

int run(int count, char** arguments) {
  const Options options = parse(count, arguments);
  cuda::Gpu& gpu = cuda::Gpu::open(options.gpu, options.modules);
  const auto& d = gpu.description();
  std::fprintf(stderr, "%s, compute capability %d.%d, %d multiprocessors, %.1f GiB, driver %d\n", d.name.c_str(), d.compute_capability / 10, d.compute_capability % 10, d.multiprocessors,
               static_cast<double>(d.memory_bytes) / (1 << 30), gpu.driver_version());
  cuda::use_blas(options.blas_least);
  int failed = 0;
  for (const auto& op : all_ops()) {
    if (!wanted(options, op)) continue;
    if (!options.json) failed += check(gpu, op);
    if (options.time) measure(gpu, op, options);
  }
  if (options.blas_least == 0) return failed ? 1 : 0;
  const cuda::BlasState blas = cuda::blas_state();
  std::fprintf(stderr, "cuBLASLt: %s version %lld, %lld products%s%s\n", blas.library.c_str(), static_cast<long long>(blas.version),
               static_cast<long long>(blas.products), blas.trouble.empty() ? "" : ", ", blas.trouble.c_str());
  return failed || (!blas.library.empty() && !blas.trouble.empty()) ? 1 : 0;
}

}  // namespace
}  // namespace tacotune::lab

int main(int count, char** arguments) {
  try {
    return tacotune::lab::run(count, arguments);
  } catch (const std::exception& error) {
    std::cerr << "harness: " << error.what() << "\n";
    return 2;
  }
}
