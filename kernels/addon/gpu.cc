// SPDX-License-Identifier: Apache-2.0
// Behind gpu.h: operands checked against what was given out, ops enqueued, errors with codes.
#include "gpu.h"

#include <array>

#include "export-op.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/probe.h"
#include "kernels/lab/harness/trial.h"

namespace tacotune::addon {
namespace {

/// Where an operand lies: checked to be ours.
struct Operand {
  void* data;
  Int count, element_bytes;
};

Operand operand_from(const Argument& a) {
  if (!a.value().IsObject()) a.refuse("memory of the GPU");
  const Napi::Object object = a.value().As<Napi::Object>();
  std::array<double, 3> numbers;
  const char* const keys[] = {"address", "count", "elementBytes"};
  for (size_t i = 0; i < 3; i++) {
    const Napi::Value value = object.Get(keys[i]);
    numbers[i] = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
    if (!(numbers[i] >= 0 && numbers[i] <= 9007199254740991.0) || numbers[i] != std::floor(numbers[i])) a.refuse("memory of the GPU ({ address, count, elementBytes })");
  }
  const Int count = static_cast<Int>(numbers[1]), bytes = product(count, static_cast<Int>(numbers[2]));
  const auto address = static_cast<cuda::CUdeviceptr>(numbers[0]);
  if (count == 0) return {nullptr, 0, static_cast<Int>(numbers[2])};
  if (!cuda::Gpu::current().owns(address, bytes)) throw std::invalid_argument("expected memory that has not been freed for " + word(a.names, a.index));
  return {reinterpret_cast<void*>(address), count, static_cast<Int>(numbers[2])};
}

/// Operands are objects over GPU memory; kernels are enqueued.
struct OnGpu {
  static const Kernels& kernels() { return cuda::cuda_kernels(); }

  template <class T>
  static Span<T> span(const Argument& a) {
    const Operand operand = operand_from(a);
    if (operand.element_bytes != static_cast<Int>(sizeof(T))) a.refuse("elements of " + std::to_string(sizeof(T)) + " bytes");
    return {static_cast<T*>(operand.data), operand.count};
  }
  static BytesOut bytes(const Argument& a) {
    const Operand operand = operand_from(a);
    return {operand.data, operand.count * operand.element_bytes};
  }
  /// The host cannot read what lies there: checks see counts alone.
  template <class T>
  static T checked(T operand) {
    if constexpr (std::is_same_v<T, I32In>) operand.data = nullptr;
    return operand;
  }

  template <class Run, class... Args>
  static void run(Int number, const char* name, const Run& run, const Args&... args) {
    std::array<Int, sizeof...(Args)> sizes;
    size_t count = 0;
    const auto remember = [&](const auto& argument) {
      if constexpr (std::is_same_v<std::decay_t<decltype(argument)>, Int>) sizes[count++] = argument;
    };
    (remember(args), ...);
    cuda::Gpu& gpu = cuda::Gpu::current();
    gpu.begin_op(static_cast<int32_t>(number), name, sizes.data(), count);
    run();
    gpu.end_op();
  }
};

/// Runs `work`; a driver's failure becomes an Error whose `code` says what kind it is.
template <class Work>
Napi::Value guarded(Napi::Env env, const Work& work) {
  const auto fail = [&](const char* code, const std::exception& error) {
    Napi::Error thrown = Napi::Error::New(env, error.what());
    thrown.Set("code", Napi::String::New(env, code));
    return thrown;
  };
  try {
    const std::lock_guard<std::mutex> lock(op_mutex);
    return work();
  } catch (const cuda::Unavailable& error) {
    throw fail("CUDA_UNAVAILABLE", error);
  } catch (const cuda::DriverError& error) {
    throw fail(error.code == cuda::number::OUT_OF_MEMORY ? "CUDA_OUT_OF_MEMORY" : "CUDA_ERROR", error);
  } catch (const std::invalid_argument& error) {
    throw Napi::RangeError::New(env, error.what());
  } catch (const std::out_of_range& error) {
    throw Napi::RangeError::New(env, error.what());
  }
}

double number_at(const Napi::CallbackInfo& info, size_t i, const char* what) {
  const double value = info[i].IsNumber() ? info[i].As<Napi::Number>().DoubleValue() : -1;
  if (!(value >= 0 && value <= 9007199254740991.0) || value != std::floor(value)) throw Napi::TypeError::New(info.Env(), std::string("expected a whole number for ") + what);
  return value;
}

Napi::Object described(Napi::Env env, const cuda::GpuDescription& gpu) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("name", gpu.name);
  object.Set("computeCapability", gpu.compute_capability);
  object.Set("multiprocessors", gpu.multiprocessors);
  object.Set("memoryBytes", static_cast<double>(gpu.memory_bytes));
  object.Set("sharedBytesPerBlock", static_cast<double>(gpu.shared_bytes_per_block));
  object.Set("clockKHz", gpu.clock_khz);
  object.Set("memoryClockKHz", gpu.memory_clock_khz);
  object.Set("memoryBusBits", gpu.memory_bus_bits);
  return object;
}

/// A copy on its way to the host. It waits on a thread of its own, so that the event loop goes on.
class DownloadWorker : public Napi::AsyncWorker {
 public:
  DownloadWorker(Napi::Env env, cuda::CUdeviceptr from, Int bytes)
      : Napi::AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)), download_(cuda::Gpu::current().begin_download(from, bytes)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

  void Execute() override {
    try {
      cuda::Gpu::current().wait(download_);
    } catch (const std::exception& error) {
      SetError(error.what());
    }
  }
  void OnOK() override {
    Napi::ArrayBuffer values = Napi::ArrayBuffer::New(Env(), static_cast<size_t>(download_.bytes));
    std::memcpy(values.Data(), download_.pinned, static_cast<size_t>(download_.bytes));
    end();
    deferred_.Resolve(values);
  }
  void OnError(const Napi::Error& error) override {
    end();
    deferred_.Reject(error.Value());
  }

 private:
  void end() {
    const std::lock_guard<std::mutex> lock(op_mutex);
    cuda::Gpu::current().end_download(download_);
  }

  Napi::Promise::Deferred deferred_;
  cuda::Gpu::Download download_;
};

Napi::Value gpu_allocate(const Napi::CallbackInfo& info) {
  const Int bytes = static_cast<Int>(number_at(info, 0, "the bytes to allocate"));
  const bool paged = info[1].ToBoolean();
  return guarded(info.Env(), [&] { return Napi::Number::New(info.Env(), static_cast<double>(cuda::Gpu::current().allocate(bytes, paged))); });
}

Napi::Value gpu_release(const Napi::CallbackInfo& info) {
  const auto address = static_cast<cuda::CUdeviceptr>(number_at(info, 0, "an address"));
  return guarded(info.Env(), [&] {
    cuda::Gpu::current().free(address);
    return info.Env().Undefined();
  });
}

void need_owned(cuda::CUdeviceptr address, Int bytes) {
  if (bytes > 0 && !cuda::Gpu::current().owns(address, bytes)) throw std::invalid_argument("expected memory of the GPU that has not been freed");
}

Napi::Value gpu_upload(const Napi::CallbackInfo& info) {
  const auto address = static_cast<cuda::CUdeviceptr>(number_at(info, 0, "an address"));
  if (!info[1].IsTypedArray()) throw Napi::TypeError::New(info.Env(), "upload: expected a typed array");
  const auto values = info[1].As<Napi::TypedArray>();
  return guarded(info.Env(), [&] {
    need_owned(address, static_cast<Int>(values.ByteLength()));
    cuda::Gpu::current().upload(address, start_of(values), static_cast<Int>(values.ByteLength()));
    return info.Env().Undefined();
  });
}

Napi::Value gpu_download(const Napi::CallbackInfo& info) {
  const auto address = static_cast<cuda::CUdeviceptr>(number_at(info, 0, "an address"));
  const Int bytes = static_cast<Int>(number_at(info, 1, "the bytes to copy"));
  return guarded(info.Env(), [&]() -> Napi::Value {
    need_owned(address, bytes);
    auto* const worker = new DownloadWorker(info.Env(), address, bytes);
    const Napi::Promise promise = worker->promise();
    worker->Queue();
    return promise;
  });
}

Napi::Value gpu_fill_bytes(const Napi::CallbackInfo& info) {
  const auto address = static_cast<cuda::CUdeviceptr>(number_at(info, 0, "an address"));
  const auto value = static_cast<unsigned char>(number_at(info, 1, "a byte"));
  const Int bytes = static_cast<Int>(number_at(info, 2, "a number of bytes"));
  return guarded(info.Env(), [&] {
    need_owned(address, bytes);
    cuda::Gpu::current().fill_bytes(address, value, bytes);
    return info.Env().Undefined();
  });
}

Napi::Value gpu_memory(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto memory = cuda::Gpu::current().memory();
    Napi::Object object = Napi::Object::New(info.Env());
    object.Set("freeBytes", static_cast<double>(memory.free));
    object.Set("totalBytes", static_cast<double>(memory.total));
    return object;
  });
}

/// checkOp(name) → { passed, failed, error, troubles }: the op's cases on the GPU beside the reference.
Napi::Value gpu_check_op(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string op = info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : "";
  return guarded(env, [&] {
    if (lab::op_number(op) == 0) throw std::invalid_argument("checkOp: there is no op '" + op + "'");
    const lab::Summary summary = lab::check_op(cuda::Gpu::current(), op);
    Napi::Object object = Napi::Object::New(env);
    object.Set("passed", summary.passed);
    object.Set("failed", summary.failed);
    object.Set("error", summary.error);
    Napi::Array troubles = Napi::Array::New(env);
    for (const auto& trouble : summary.troubles) troubles.Set(troubles.Length(), trouble);
    object.Set("troubles", troubles);
    return object;
  });
}

/// timeOp(name, repeats) → [{ shape, ms, flops, bytes, ofPeakFlops, ofPeakBytes }]: its case of realistic size.
Napi::Value gpu_time_op(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string op = info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : "";
  const int repeats = static_cast<int>(number_at(info, 1, "repeats"));
  return guarded(env, [&] {
    if (lab::op_number(op) == 0) throw std::invalid_argument("timeOp: there is no op '" + op + "'");
    cuda::Gpu& gpu = cuda::Gpu::current();
    const lab::Peak peak = lab::peak_of(gpu.description());
    Napi::Array rows = Napi::Array::New(env);
    for (const auto& test : lab::cases_of(op, true)) {
      const double ms = test->time(gpu, std::max(repeats, 1)), bytes = static_cast<double>(test->bytes());
      Napi::Object row = Napi::Object::New(env);
      row.Set("shape", test->shape);
      row.Set("ms", ms);
      row.Set("flops", test->flops);
      row.Set("bytes", bytes);
      row.Set("ofPeakFlops", test->flops / ms / 1e-3 / peak.flops);
      row.Set("ofPeakBytes", bytes / ms / 1e-3 / peak.bytes);
      rows.Set(rows.Length(), row);
    }
    return rows;
  });
}

/// probe() → [{ name, compared, mismatches }]: where this GPU puts the elements of matrix fragments.
Napi::Value gpu_probe(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    cuda::ProbeResult results[3];
    cuda::probe(results);
    Napi::Array found = Napi::Array::New(env);
    for (const auto& result : results) {
      Napi::Object object = Napi::Object::New(env);
      object.Set("name", result.name);
      object.Set("compared", static_cast<double>(result.compared));
      object.Set("mismatches", static_cast<double>(result.mismatches));
      found.Set(found.Length(), object);
    }
    return found;
  });
}

/// useCublasLt(least): products of at least so many rows, columns and depth go to the library; 0: none.
Napi::Value gpu_use_cublaslt(const Napi::CallbackInfo& info) {
  const Int least = static_cast<Int>(number_at(info, 0, "the least size of a product"));
  return guarded(info.Env(), [&] {
    cuda::use_blas(least);
    return info.Env().Undefined();
  });
}

/// cublasLt() → { library, version, products, trouble? }
Napi::Value gpu_cublaslt(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const cuda::BlasState state = cuda::blas_state();
    Napi::Object object = Napi::Object::New(env);
    object.Set("library", state.library);
    object.Set("version", static_cast<double>(state.version));
    object.Set("products", static_cast<double>(state.products));
    if (!state.trouble.empty()) object.Set("trouble", state.trouble);
    return object;
  });
}

Napi::Value gpu_synchronize(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    cuda::Gpu::current().synchronize();
    return info.Env().Undefined();
  });
}

Napi::Value gpu_trim(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    cuda::Gpu::current().trim();
    return info.Env().Undefined();
  });
}

Napi::Value gpu_scratch_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return Napi::Number::New(info.Env(), static_cast<double>(cuda::Gpu::current().scratch_bytes())); });
}

Napi::Value gpu_scratch_need(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return Napi::Number::New(info.Env(), static_cast<double>(cuda::Gpu::current().scratch_need())); });
}

}  // namespace

Napi::Value list_gpus(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Napi::Array found = Napi::Array::New(info.Env());
    for (const auto& gpu : cuda::list_gpus()) found.Set(found.Length(), described(info.Env(), gpu));
    return found;
  });
}

Napi::Value open_gpu(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int ordinal = static_cast<int>(number_at(info, 0, "the number of a GPU"));
  if (!info[1].IsString()) throw Napi::TypeError::New(env, "openGpu: expected a folder of compiled kernels");
  const std::string modules = info[1].As<Napi::String>().Utf8Value();
  return guarded(env, [&] {
    const cuda::Gpu& gpu = cuda::Gpu::open(ordinal, modules);
    Napi::Object object = Napi::Object::New(env);
    export_ops<OnGpu>(env, object);
    object.Set("description", described(env, gpu.description()));
    object.Set("driverVersion", gpu.driver_version());
    Napi::Array ops = Napi::Array::New(env);
    for (const auto& op : lab::all_ops()) ops.Set(ops.Length(), op);
    object.Set("ops", ops);
    const std::pair<const char*, Napi::Value (*)(const Napi::CallbackInfo&)> functions[] = {
        {"checkOp", gpu_check_op},
        {"timeOp", gpu_time_op},
        {"probe", gpu_probe},
        {"useCublasLt", gpu_use_cublaslt},
        {"cublasLt", gpu_cublaslt},
        {"allocate", gpu_allocate}, {"release", gpu_release}, {"upload", gpu_upload},           {"download", gpu_download},       {"fillBytes", gpu_fill_bytes},
        {"memory", gpu_memory},     {"trim", gpu_trim},       {"synchronize", gpu_synchronize}, {"scratchBytes", gpu_scratch_bytes},
        {"scratchNeed", gpu_scratch_need}};
    for (const auto& [name, function] : functions) object.Set(name, Napi::Function::New(env, function, name));
    return object;
  });
}

}  // namespace tacotune::addon
