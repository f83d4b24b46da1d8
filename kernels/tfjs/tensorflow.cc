// SPDX-License-Identifier: Apache-2.0
#include "tensorflow.h"

#include <dlfcn.h>

#include <string>

namespace tacotune::tensorflow {

#define TACOTUNE_TENSORFLOW_POINTER(name, result, parameters) result(*name) parameters = nullptr;
TACOTUNE_TENSORFLOW_FUNCTIONS(TACOTUNE_TENSORFLOW_POINTER)
#undef TACOTUNE_TENSORFLOW_POINTER

namespace {

// Names that the libraries call themselves: of the C package, which tfjs-node brings, and of a Python wheel.
constexpr const char* LIBRARIES[] = {"libtensorflow_framework.so.2", "libtensorflow.so.2", "libtensorflow_cc.so.2"};

void* find(const char* symbol) {
  for (const char* library : LIBRARIES) {
    // Only what is loaded already: a second TensorFlow in the process would have registries of its own.
    void* handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
    if (!handle) continue;
    void* found = dlsym(handle, symbol);
    dlclose(handle);  // gives back the count that dlopen took; the library stays
    if (found) return found;
  }
  return nullptr;
}

}  // namespace

const char* find_tensorflow() {
  static std::string missing;
#define TACOTUNE_TENSORFLOW_POINTER(name, result, parameters)                     \
  name = reinterpret_cast<result(*) parameters>(find("TF_" #name));               \
  if (!name) {                                                                    \
    missing = "no TensorFlow in this process has a function TF_" #name;           \
    return missing.c_str();                                                       \
  }
  TACOTUNE_TENSORFLOW_FUNCTIONS(TACOTUNE_TENSORFLOW_POINTER)
#undef TACOTUNE_TENSORFLOW_POINTER
  return nullptr;
}

}  // namespace tacotune::tensorflow
