// SPDX-License-Identifier: Apache-2.0
// Behind driver.h: opens the library, checks its version, and names what is missing.
#include "driver.h"

#include <cstdlib>

#ifndef _WIN32
#include <dlfcn.h>
#endif

namespace tacotune::cuda {
namespace {

std::string version_text(int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); }

Driver open_driver() {
  Driver driver{};
#ifdef _WIN32
  throw Unavailable("the CUDA device is not built on Windows");
#else
  const char* const stand_in = std::getenv("TACOTUNE_CUDA_DRIVER");
  const char* const name = stand_in && *stand_in ? stand_in : "libcuda.so.1";
  void* const library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!library) throw Unavailable(std::string("no NVIDIA driver: ") + dlerror());
#define TACOTUNE_FIND(function, parameters)                                               \
  driver.function = reinterpret_cast<CUresult(*) parameters>(dlsym(library, #function));  \
  if (!driver.function) throw Unavailable(std::string(name) + " has no " #function ": the driver is too old");
  TACOTUNE_DRIVER_FUNCTIONS(TACOTUNE_FIND)
#undef TACOTUNE_FIND
#endif
  const CUresult started = driver.cuInit(0);
  if (started != number::SUCCESS) {
    const char* text = nullptr;
    driver.cuGetErrorString(started, &text);
    throw Unavailable(std::string("the NVIDIA driver does not start: ") + (text ? text : "unknown error"));
  }
  int version = 0;
  driver.cuDriverGetVersion(&version);
  if (version < LEAST_DRIVER_VERSION)
    throw Unavailable("the NVIDIA driver supports CUDA " + version_text(version) + ", and CUDA " + version_text(LEAST_DRIVER_VERSION) +
                      " is needed (driver 580 or later)");
  return driver;
}

}  // namespace

const Driver& driver() {
  static const Driver opened = open_driver();  // a failure is thrown again at the next call
  return opened;
}

void require(CUresult result, const char* tried) {
  if (result == number::SUCCESS) return;
  const char *name = nullptr, *text = nullptr;
  driver().cuGetErrorName(result, &name);
  driver().cuGetErrorString(result, &text);
  throw DriverError(result, std::string(tried) + ": " + (name ? name : "CUDA error " + std::to_string(result)) + (text ? std::string(" (") + text + ")" : ""));
}

}  // namespace tacotune::cuda
