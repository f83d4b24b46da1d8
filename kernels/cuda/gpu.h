// SPDX-License-Identifier: Apache-2.0
// One GPU: its memory, its two streams (compute, copies), its kernels, and what is under way on it. Host code of ops reaches
// it through launch.h; the addon and the harness of kernels/lab open it. One thread at a time may call it.
//
// Order: kernels run in the order of their launch. A copy waits for all kernels launched before it, and kernels launched
// after it wait for it; so memory may be given back and used again without a thought of what is still running.
#pragma once
#include <array>
#include <map>
#include <string>
#include <vector>

#include "driver.h"
#include "launch.h"

namespace tacotune::cuda {

/// A GPU as the driver tells it, before it is opened.
struct GpuDescription {
  std::string name;
  int compute_capability;  // 80, 89, 90 …
  int multiprocessors;
  Int memory_bytes;
  Int shared_bytes_per_block;
  int clock_khz, memory_clock_khz, memory_bus_bits;
};

/// The GPUs of this machine. @throws Unavailable
std::vector<GpuDescription> list_gpus();

class Gpu {
 public:
  /// Opens a GPU and loads every module (*.fatbin) of a folder. @throws Unavailable, DriverError
  static Gpu& open(int ordinal, const std::string& modules);
  /// The open one. @throws Unavailable when there is none
  static Gpu& current();

  const GpuDescription& description() const { return description_; }
  const DeviceInfo& info() const { return info_; }
  int driver_version() const { return driver_version_; }

  struct Memory {
    Int free, total;
  };
  Memory memory() const;

  /// @param paged memory that the driver moves between host and GPU as it is used (cuMemAllocManaged)
  CUdeviceptr allocate(Int bytes, bool paged = false);
  /// @throws std::invalid_argument when it is no start of an allocation
  void free(CUdeviceptr address);
  /// Whether all of [address, address + bytes) is ours. Nothing else is ever handed to a kernel.
  bool owns(CUdeviceptr address, Int bytes) const;

  /// Copies to the GPU through pinned memory; `from` may change when the call returns.
  void upload(CUdeviceptr to, const void* from, Int bytes);
  void fill_bytes(CUdeviceptr to, unsigned char value, Int bytes);

  /// A copy to the host under way; what is launched later does not change it.
  struct Download {
    void* pinned;
    Int bytes;
    CUevent done;
    bool owned;  // `pinned` was allocated for it
  };
  Download begin_download(CUdeviceptr from, Int bytes);
  /// Waits (on any thread). @throws DriverError that names the op that failed, std::out_of_range for a bad index in an op
  void wait(const Download& download);
  void end_download(const Download& download);
  /// Both together, into `to`.
  void download(void* to, CUdeviceptr from, Int bytes);

  /// Between these two the host half of an op launches its kernels. `sizes` only describe it in errors.
  void begin_op(int32_t op, const char* name, const Int* sizes, size_t count);
  void end_op();
  void synchronize();

  /// Gives scratch memory back.
  void trim();
  Int scratch_bytes() const { return scratch_capacity_; }
  /// What the op that ran last took of it.
  Int scratch_need() const { return scratch_wanted_; }

  // For launch.h.
  void launch(const char* kernel, Grid grid, int threads, Int shared_bytes, void** arguments);
  void* scratch(Int bytes);
  Fault* fault_slot() const { return reinterpret_cast<Fault*>(fault_); }
  int32_t op() const { return op_; }
  CUstream compute_stream() const { return compute_; }  // for a library that enqueues by itself

  /// Events around work on the compute stream, for measurements.
  CUevent record();
  float milliseconds(CUevent start, CUevent end);

 private:
  Gpu(int ordinal, const std::string& modules);
  void load_modules(const std::string& folder);
  struct Function {
    CUfunction handle;
    Int shared_bytes_allowed;
  };
  Function& find(const char* kernel);
  void be_current();
  [[noreturn]] void explain(const DriverError& error) const;
  std::string op_that_failed() const;
  void check_fault(const void* pinned) const;

  GpuDescription description_;
  DeviceInfo info_;
  int driver_version_ = 0;
  CUcontext context_ = nullptr;
  CUstream compute_ = nullptr, copies_ = nullptr;
  CUevent compute_reached_ = nullptr, copies_reached_ = nullptr;
  std::vector<CUmodule> modules_;
  std::map<std::string, Function> functions_;
  std::map<CUdeviceptr, Int> allocations_;

  struct Staging {
    void* pinned = nullptr;
    CUevent free = nullptr;
  };
  std::array<Staging, 2> staging_;
  size_t next_staging_ = 0;
  std::vector<void*> small_pinned_;  // for downloads of a few bytes, the usual ones

  CUdeviceptr scratch_ = 0;
  Int scratch_capacity_ = 0, scratch_used_ = 0, scratch_wanted_ = 0;
  std::vector<CUdeviceptr> scratch_overflow_;

  CUdeviceptr fault_ = 0;
  int32_t op_ = 0;
  // Every op leaves its number in `mark_` (pinned memory that outlives a failed context) when it has run, so that an error
  // which comes later can name the op that did not.
  struct Launched {
    const char* name = "";
    std::array<Int, 8> sizes{};
    size_t count = 0;
  };
  static constexpr size_t REMEMBERED = 4096;
  std::vector<Launched> launched_;
  uint32_t sequence_ = 0;
  uint32_t* mark_ = nullptr;
  bool marks_work_ = false;
};

}  // namespace tacotune::cuda
