// SPDX-License-Identifier: Apache-2.0
// The state behind the stand-in driver's calls, and what every call begins with: driver.cc has the device, its kernels and
// errors, driver_memory.cc memory, copies, streams and events.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "kernels/lab/device_memory.h"
#include "kernels/lab/settings.h"
#include "kernels/lab/streams.h"

#define ENTRY extern "C" __attribute__((visibility("default"))) int

namespace tacotune::cuda::emulator {

using Address = unsigned long long;

/// Numbers of cuda.h.
enum Result : int {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  INVALID_CONTEXT = 201,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  INVALID_LAUNCH = 701,
  MISALIGNED_ADDRESS = 716,
  LAUNCH_FAILED = 719,
};

struct Module {
  std::string name;
};
struct Function {
  const Kernel* kernel;
  std::string module;
  uint32_t dynamic_limit = 48 * 1024;
};

/// The one GPU and all that was made on it.
class Gpu {
 public:
  explicit Gpu(const Settings& settings_) : settings(settings_), memory(settings_.memory_bytes), streams(settings_.streams), null_stream(streams.create(true)) {
    streams.open_memory = [this] { memory.open(); };
    streams.close_memory = [this] { memory.close(); };
    streams.failed = [this] { return sticky != SUCCESS; };
  }
  Settings settings;
  DeviceMemory memory;
  Streams streams;
  std::shared_ptr<Stream> null_stream;
  std::set<std::unique_ptr<Module>> modules;
  std::map<const void*, std::unique_ptr<Function>> functions;
  std::map<const void*, std::shared_ptr<Stream>> named_streams;
  std::map<const void*, std::shared_ptr<Event>> events;
  Result sticky = SUCCESS;  // a context is dead after a kernel has failed
};

// Never destroyed: a host may call while the process ends, after the destructors of this library.
extern std::mutex mutex;
extern Gpu* gpu;
extern Settings& settings;
extern bool initialized;
extern thread_local bool context_is_current;

/// Says the sentence, keeps it for cuGetErrorString, and gives the result back.
Result refuse(Result result, const std::string& sentence);
/// Ends the context: every later call gets this result.
void die(Result result, const std::string& sentence);

/// What stands before every call that needs a context. Holds the lock while it lives.
class Call {
 public:
  explicit Call(const char* name) : lock_(mutex) {
    if (!initialized) result_ = refuse(NOT_INITIALIZED, std::string(name) + " before cuInit");
    else if (!gpu || !context_is_current) result_ = refuse(INVALID_CONTEXT, std::string(name) + " on a thread without a current context");
    else result_ = gpu->sticky;
  }
  explicit operator bool() const { return result_ == SUCCESS; }
  Result result() const { return result_; }

 private:
  std::unique_lock<std::mutex> lock_;
  Result result_ = SUCCESS;
};
#define CALL(name)        \
  const Call call(name);  \
  if (!call) return call.result()

std::shared_ptr<Stream> stream_of(const void* handle);
/// Queues an operation. What goes to the null stream runs at once, after all that is queued in streams that block.
Result give(const void* handle, Operation operation, const char* name);

}  // namespace tacotune::cuda::emulator
