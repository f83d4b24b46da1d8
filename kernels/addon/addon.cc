// SPDX-License-Identifier: Apache-2.0
// What the .node exports: every op of ops.h under its camelCase name, the choice of instruction set, threads, memory, and GPUs.
// kernels/binding.ts types all of it and is the only file that loads it.
#include <napi.h>

#include <atomic>

#include "export-op.h"
#include "gpu.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/threads.h"
#include "memory.h"

namespace tacotune::addon {
namespace {

std::atomic<const Kernels*> active{nullptr};

Napi::Value instruction_sets(const Napi::CallbackInfo& info) {
  Napi::Array names = Napi::Array::New(info.Env());
  for (Int i = 0; const Kernels* kernels = available_kernels(i); i++) names.Set(static_cast<uint32_t>(i), kernels->name);
  return names;
}

Napi::Value select_instruction_set(const Napi::CallbackInfo& info) {
  const std::string wanted = info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : "";
  std::string known;
  for (Int i = 0; const Kernels* kernels = available_kernels(i); i++) {
    if (wanted == kernels->name) {
      active = kernels;
      return info.Env().Undefined();
    }
    known += std::string(known.empty() ? "" : ", ") + kernels->name;
  }
  throw Napi::RangeError::New(info.Env(), "expected an instruction set this processor has (" + known + "), got '" + wanted + "'");
}

Napi::Value instruction_set(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), active_kernels().name); }

Napi::Value get_threads(const Napi::CallbackInfo& info) {
  const std::lock_guard<std::mutex> lock(op_mutex);
  return Napi::Number::New(info.Env(), static_cast<double>(thread_count()));
}

Napi::Value set_threads(const Napi::CallbackInfo& info) {
  const double count = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : 0;
  if (!(count >= 1 && count <= 256) || count != std::floor(count)) throw Napi::RangeError::New(info.Env(), "expected 1 to 256 threads");
  const std::lock_guard<std::mutex> lock(op_mutex);
  set_thread_count(static_cast<Int>(count));
  return info.Env().Undefined();
}

/// multiplyAddCeiling(compute, steps): floating-point operations that all threads did in registers alone.
Napi::Value multiply_add_ceiling(const Napi::CallbackInfo& info) {
  if (!info[0].IsNumber() || !info[1].IsNumber()) throw Napi::TypeError::New(info.Env(), "multiplyAddCeiling: expected compute and steps");
  if (!active_kernels().multiply_add_ceiling) throw Napi::Error::New(info.Env(), "multiplyAddCeiling: the reference has none");
  const std::lock_guard<std::mutex> lock(op_mutex);
  const Int compute = info[0].As<Napi::Number>().Int64Value(), steps = info[1].As<Napi::Number>().Int64Value();
  return Napi::Number::New(info.Env(), static_cast<double>(active_kernels().multiply_add_ceiling(compute, steps)));
}

Napi::Value get_scratch_bytes(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), static_cast<double>(scratch_bytes())); }

Napi::Value free_scratch(const Napi::CallbackInfo& info) {
  const std::lock_guard<std::mutex> lock(op_mutex);
  release_scratch();
  return info.Env().Undefined();
}

}  // namespace

const Kernels& active_kernels() {
  if (!active) active = available_kernels(0);
  return *active.load();
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  export_ops<OnHost>(env, exports);
  exports.Set("instructionSets", Napi::Function::New(env, instruction_sets));
  exports.Set("selectInstructionSet", Napi::Function::New(env, select_instruction_set));
  exports.Set("instructionSet", Napi::Function::New(env, instruction_set));
  exports.Set("threads", Napi::Function::New(env, get_threads));
  exports.Set("setThreads", Napi::Function::New(env, set_threads));
  exports.Set("multiplyAddCeiling", Napi::Function::New(env, multiply_add_ceiling));
  exports.Set("scratchBytes", Napi::Function::New(env, get_scratch_bytes));
  exports.Set("releaseScratch", Napi::Function::New(env, free_scratch));
  exports.Set("allocate", Napi::Function::New(env, allocate));
  exports.Set("release", Napi::Function::New(env, release));
  exports.Set("mapFile", Napi::Function::New(env, map_file));
  exports.Set("copyRange", Napi::Function::New(env, copy_range));
  exports.Set("dropPages", Napi::Function::New(env, drop_pages));
  exports.Set("listGpus", Napi::Function::New(env, list_gpus));
  exports.Set("openGpu", Napi::Function::New(env, open_gpu));
  return exports;
}

NODE_API_MODULE(tacotune, init)

}  // namespace tacotune::addon
