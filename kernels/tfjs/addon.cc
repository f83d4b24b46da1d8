// SPDX-License-Identifier: Apache-2.0
// The addon of the tfjs device: registerOps() brings our 4-bit ops into the TensorFlow that tfjs-node has loaded. It may be
// loaded by several JavaScript threads, and by several copies of this package, of one process.
#include <napi.h>

#include <mutex>

#include "ops.h"

namespace {

Napi::Value register_ops(const Napi::CallbackInfo& info) {
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  const std::string error = tacotune::tensorflow::register_ops();
  if (!error.empty()) throw Napi::Error::New(info.Env(), error);
  return info.Env().Undefined();
}

/// Whether the build has the CUDA kernel.
#ifdef TACOTUNE_TFJS_CUDA
constexpr bool HAS_CUDA = true;
#else
constexpr bool HAS_CUDA = false;
#endif

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("registerOps", Napi::Function::New(env, register_ops, "registerOps"));
  exports.Set("hasCuda", Napi::Boolean::New(env, HAS_CUDA));
  return exports;
}

}  // namespace

NODE_API_MODULE(tacotune_tfjs, init)
