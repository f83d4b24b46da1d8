// SPDX-License-Identifier: Apache-2.0
// Behind gpu.h: streams and their order, staged copies, scratch memory, launches by name, errors that name their op.
#include "gpu.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "fault.h"

namespace tacotune::cuda {
namespace {

constexpr Int STAGING_BYTES = Int{16} << 20;
constexpr Int SMALL_DOWNLOAD_BYTES = 4096;
constexpr Int SCRATCH_STEP = Int{1} << 20;

// Never destroyed: at the end of a process the driver may be gone before us, and takes everything back by itself.
Gpu* opened = nullptr;
thread_local const Gpu* current_here = nullptr;

const char* const OP_NAMES[] = {
#define TACOTUNE_NAME(op, arguments) #op,
    TACOTUNE_OPS(TACOTUNE_NAME)
#undef TACOTUNE_NAME
};

Int rounded(Int bytes, Int step) { return (bytes + step - 1) / step * step; }

int attribute(CUdevice device, int which) {
  int value = 0;
  require(driver().cuDeviceGetAttribute(&value, which, device), "cuDeviceGetAttribute");
  return value;
}

GpuDescription describe(CUdevice device) {
  char name[256] = "";
  size_t bytes = 0;
  require(driver().cuDeviceGetName(name, sizeof(name), device), "cuDeviceGetName");
  require(driver().cuDeviceTotalMem_v2(&bytes, device), "cuDeviceTotalMem");
  return {name,
          10 * attribute(device, number::COMPUTE_CAPABILITY_MAJOR) + attribute(device, number::COMPUTE_CAPABILITY_MINOR),
          attribute(device, number::MULTIPROCESSORS),
          static_cast<Int>(bytes),
          attribute(device, number::SHARED_BYTES_OPT_IN),
          attribute(device, number::CLOCK_KHZ),
          attribute(device, number::MEMORY_CLOCK_KHZ),
          attribute(device, number::MEMORY_BUS_BITS)};
}

CUdevice device_at(int ordinal) {
  CUdevice device = 0;
  require(driver().cuDeviceGet(&device, ordinal), "cuDeviceGet");
  return device;
}

CUevent new_event(unsigned flags) {
  CUevent event = nullptr;
  require(driver().cuEventCreate(&event, flags), "cuEventCreate");
  return event;
}

/// `later` waits for all that was given to `earlier` so far.
void order(CUstream earlier, CUevent event, CUstream later) {
  require(driver().cuEventRecord(event, earlier), "cuEventRecord");
  require(driver().cuStreamWaitEvent(later, event, 0), "cuStreamWaitEvent");
}

CUdeviceptr allocate_on_device(Int bytes, const char* what) {
  CUdeviceptr address = 0;
  require(driver().cuMemAlloc_v2(&address, static_cast<size_t>(bytes)), what);
  return address;
}

void* allocate_pinned(Int bytes) {
  void* memory = nullptr;
  require(driver().cuMemHostAlloc(&memory, static_cast<size_t>(bytes), number::HOST_PORTABLE), "cuMemHostAlloc");
  return memory;
}

}  // namespace

std::vector<GpuDescription> list_gpus() {
  int count = 0;
  require(driver().cuDeviceGetCount(&count), "cuDeviceGetCount");
  std::vector<GpuDescription> found;
  for (int i = 0; i < count; i++) found.push_back(describe(device_at(i)));
  return found;
}

Gpu& Gpu::open(int ordinal, const std::string& modules) {
  if (!opened) opened = new Gpu(ordinal, modules);
  return *opened;
}

Gpu& Gpu::current() {
  if (!opened) throw Unavailable("no GPU has been opened");
  return *opened;
}

Gpu::Gpu(int ordinal, const std::string& modules) : launched_(REMEMBERED) {
  const auto gpus = list_gpus();
  if (gpus.empty()) throw Unavailable("the NVIDIA driver sees no GPU");
  if (ordinal < 0 || ordinal >= static_cast<int>(gpus.size()))
    throw Unavailable("there is no GPU " + std::to_string(ordinal) + ": the driver sees " + std::to_string(gpus.size()));
  description_ = gpus[static_cast<size_t>(ordinal)];
  info_ = {description_.multiprocessors, description_.compute_capability, description_.shared_bytes_per_block};
  if (description_.compute_capability < 80)
    throw Unavailable(description_.name + " has compute capability " + std::to_string(description_.compute_capability / 10) + "." +
                      std::to_string(description_.compute_capability % 10) + ", and 8.0 (Ampere) or later is needed");
  require(driver().cuDriverGetVersion(&driver_version_), "cuDriverGetVersion");
  const CUdevice device = device_at(ordinal);
  require(driver().cuDevicePrimaryCtxRetain(&context_, device), "cuDevicePrimaryCtxRetain");
  be_current();
  load_modules(modules);
  require(driver().cuStreamCreate(&compute_, number::STREAM_NON_BLOCKING), "cuStreamCreate");
  require(driver().cuStreamCreate(&copies_, number::STREAM_NON_BLOCKING), "cuStreamCreate");
  compute_reached_ = new_event(number::EVENT_WITHOUT_TIMES);
  copies_reached_ = new_event(number::EVENT_WITHOUT_TIMES);
  fault_ = allocate_on_device(256, "cuMemAlloc");
  require(driver().cuMemsetD8Async(fault_, 0, sizeof(Fault), compute_), "cuMemsetD8Async");
  mark_ = static_cast<uint32_t*>(allocate_pinned(64));
  *mark_ = 1;
  // Under unified addressing the GPU writes pinned memory under its host address; where it does not, errors name no op.
  marks_work_ = driver().cuMemsetD32Async(reinterpret_cast<CUdeviceptr>(mark_), 0, 1, compute_) == number::SUCCESS;
  synchronize();
  marks_work_ = marks_work_ && *static_cast<volatile uint32_t*>(mark_) == 0;
}

void Gpu::be_current() {
  if (current_here == this) return;
  require(driver().cuCtxSetCurrent(context_), "cuCtxSetCurrent");
  current_here = this;
}

void Gpu::load_modules(const std::string& folder) {
  std::vector<std::filesystem::path> files;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored))
    if (entry.path().extension() == ".fatbin") files.push_back(entry.path());
  if (files.empty()) throw Unavailable("no compiled kernels (*.fatbin) in " + folder + ": 'npm run build:cuda' makes them where nvcc is");
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    std::ifstream stream(file, std::ios::binary);
    std::string image((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    if (image.empty()) throw Unavailable(file.string() + " is empty or cannot be read");
    CUmodule module = nullptr;
    require(driver().cuModuleLoadData(&module, image.data()), ("loading " + file.string()).c_str());
    modules_.push_back(module);
  }
}

Gpu::Function& Gpu::find(const char* kernel) {
  const auto known = functions_.find(kernel);
  if (known != functions_.end()) return known->second;
  for (const CUmodule module : modules_) {
    CUfunction function = nullptr;
    if (driver().cuModuleGetFunction(&function, module, kernel) != number::SUCCESS) continue;
    return functions_[kernel] = {function, number::DEFAULT_SHARED_BYTES};
  }
  throw Unavailable(std::string("no module has the kernel ") + kernel + ": the compiled kernels are of another version ('npm run build:cuda')");
}

Gpu::Memory Gpu::memory() const {
  size_t free = 0, total = 0;
  require(driver().cuMemGetInfo_v2(&free, &total), "cuMemGetInfo");
  return {static_cast<Int>(free), static_cast<Int>(total)};
}

CUdeviceptr Gpu::allocate(Int bytes, bool paged) {
  be_current();
  const auto size = static_cast<size_t>(std::max<Int>(bytes, 1));
  CUdeviceptr address = 0;
  const CUresult result = paged ? driver().cuMemAllocManaged(&address, size, number::MANAGED_GLOBAL) : driver().cuMemAlloc_v2(&address, size);
  if (result == number::OUT_OF_MEMORY) {
    const Memory left = memory();
    throw DriverError(result, "out of GPU memory: " + std::to_string(bytes) + " bytes were asked for, " + std::to_string(left.free) + " of " +
                                  std::to_string(left.total) + " are free");
  }
  require(result, paged ? "cuMemAllocManaged" : "cuMemAlloc");
  allocations_[address] = std::max<Int>(bytes, 1);
  return address;
}

void Gpu::free(CUdeviceptr address) {
  be_current();
  if (!allocations_.erase(address)) throw std::invalid_argument("no memory of this GPU begins at that address");
  synchronize();  // kernels that were launched may still read it
  require(driver().cuMemFree_v2(address), "cuMemFree");
}

bool Gpu::owns(CUdeviceptr address, Int bytes) const {
  auto next = allocations_.upper_bound(address);
  if (bytes < 0 || next == allocations_.begin()) return false;
  const auto& [start, size] = *--next;
  return address - start <= static_cast<CUdeviceptr>(size) && static_cast<Int>(address - start) + bytes <= size;
}

void Gpu::upload(CUdeviceptr to, const void* from, Int bytes) {
  if (bytes == 0) return;
  be_current();
  order(compute_, compute_reached_, copies_);
  for (Int done = 0; done < bytes;) {
    Staging& staging = staging_[next_staging_++ % staging_.size()];
    if (!staging.pinned) {
      staging.pinned = allocate_pinned(STAGING_BYTES);
      staging.free = new_event(number::EVENT_WITHOUT_TIMES);
    } else {
      require(driver().cuEventSynchronize(staging.free), "cuEventSynchronize");
    }
    const Int piece = std::min(STAGING_BYTES, bytes - done);
    std::memcpy(staging.pinned, static_cast<const char*>(from) + done, static_cast<size_t>(piece));
    require(driver().cuMemcpyHtoDAsync_v2(to + static_cast<CUdeviceptr>(done), staging.pinned, static_cast<size_t>(piece), copies_), "cuMemcpyHtoDAsync");
    require(driver().cuEventRecord(staging.free, copies_), "cuEventRecord");
    done += piece;
  }
  order(copies_, copies_reached_, compute_);
}

void Gpu::fill_bytes(CUdeviceptr to, unsigned char value, Int bytes) {
  if (bytes == 0) return;
  be_current();
  require(driver().cuMemsetD8Async(to, value, static_cast<size_t>(bytes), compute_), "cuMemsetD8Async");
}

Gpu::Download Gpu::begin_download(CUdeviceptr from, Int bytes) {
  be_current();
  const Int behind = rounded(bytes, alignof(Fault));  // the fault travels behind the values
  const bool small = behind + static_cast<Int>(sizeof(Fault)) <= SMALL_DOWNLOAD_BYTES;
  Download download{nullptr, bytes, new_event(number::EVENT_WITHOUT_TIMES), !small};
  if (small && !small_pinned_.empty()) {
    download.pinned = small_pinned_.back();
    small_pinned_.pop_back();
  } else {
    download.pinned = allocate_pinned(small ? SMALL_DOWNLOAD_BYTES : behind + static_cast<Int>(sizeof(Fault)));
  }
  order(compute_, compute_reached_, copies_);
  if (bytes) require(driver().cuMemcpyDtoHAsync_v2(download.pinned, from, static_cast<size_t>(bytes), copies_), "cuMemcpyDtoHAsync");
  require(driver().cuMemcpyDtoHAsync_v2(static_cast<char*>(download.pinned) + behind, fault_, sizeof(Fault), copies_), "cuMemcpyDtoHAsync");
  order(copies_, download.done, compute_);
  return download;
}

void Gpu::wait(const Download& download) {
  be_current();
  try {
    require(driver().cuEventSynchronize(download.done), "waiting for the GPU");
  } catch (const DriverError& error) {
    explain(error);
  }
  check_fault(static_cast<const char*>(download.pinned) + rounded(download.bytes, alignof(Fault)));
}

void Gpu::end_download(const Download& download) {
  be_current();
  driver().cuEventDestroy_v2(download.done);
  if (download.owned) driver().cuMemFreeHost(download.pinned);
  else small_pinned_.push_back(download.pinned);
}

void Gpu::download(void* to, CUdeviceptr from, Int bytes) {
  const Download download = begin_download(from, bytes);
  try {
    wait(download);
    std::memcpy(to, download.pinned, static_cast<size_t>(bytes));
  } catch (...) {
    end_download(download);
    throw;
  }
  end_download(download);
}

void Gpu::check_fault(const void* pinned) const {
  Fault fault;
  std::memcpy(&fault, pinned, sizeof(fault));
  if (fault.op == 0) return;
  driver().cuMemsetD8Async(fault_, 0, sizeof(Fault), compute_);
  const bool known = fault.op > 0 && static_cast<size_t>(fault.op) <= std::size(OP_NAMES);
  throw std::out_of_range(std::string(known ? OP_NAMES[fault.op - 1] : "a kernel") + ": the index at position " + std::to_string(fault.index) + " is " +
                          std::to_string(fault.value) + ", which is out of range");
}

void Gpu::begin_op(int32_t op, const char* name, const Int* sizes, size_t count) {
  be_current();
  op_ = op;
  Launched& entry = launched_[++sequence_ % REMEMBERED];
  entry.name = name;
  entry.count = std::min(count, entry.sizes.size());
  std::copy_n(sizes, entry.count, entry.sizes.begin());
  if (!scratch_overflow_.empty()) {  // the last op needed more than there was: make one piece of it
    trim();
    scratch_capacity_ = rounded(scratch_wanted_, SCRATCH_STEP);
    scratch_ = allocate_on_device(scratch_capacity_, "memory for an op's scratch");
  }
  scratch_used_ = scratch_wanted_ = 0;
}

void Gpu::end_op() {
  op_ = 0;
  if (marks_work_) require(driver().cuMemsetD32Async(reinterpret_cast<CUdeviceptr>(mark_), sequence_, 1, compute_), "cuMemsetD32Async");
}

void Gpu::synchronize() {
  be_current();
  try {
    require(driver().cuStreamSynchronize(compute_), "waiting for the GPU");
    require(driver().cuStreamSynchronize(copies_), "waiting for the GPU's copies");
  } catch (const DriverError& error) {
    explain(error);
  }
}

std::string Gpu::op_that_failed() const {
  if (!marks_work_) return "";
  const uint32_t failed = *static_cast<const volatile uint32_t*>(mark_) + 1;
  if (failed > sequence_ || sequence_ - failed >= REMEMBERED) return "";
  const Launched& entry = launched_[failed % REMEMBERED];
  std::string text = std::string("; it happened in ") + entry.name + " (";
  for (size_t i = 0; i < entry.count; i++) text += (i ? ", " : "") + std::to_string(entry.sizes[i]);
  return text + ")";
}

void Gpu::explain(const DriverError& error) const { throw DriverError(error.code, error.what() + op_that_failed()); }

void* Gpu::scratch(Int bytes) {
  const Int size = rounded(std::max<Int>(bytes, 1), 256);
  scratch_wanted_ += size;
  if (scratch_overflow_.empty() && scratch_used_ + size <= scratch_capacity_) {
    const CUdeviceptr at = scratch_ + static_cast<CUdeviceptr>(scratch_used_);
    scratch_used_ += size;
    return reinterpret_cast<void*>(at);
  }
  const CUdeviceptr piece = allocate_on_device(size, "memory for an op's scratch");
  scratch_overflow_.push_back(piece);
  return reinterpret_cast<void*>(piece);
}

void Gpu::trim() {
  if (!scratch_ && scratch_overflow_.empty()) return;
  synchronize();
  if (scratch_) require(driver().cuMemFree_v2(scratch_), "cuMemFree");
  for (const CUdeviceptr piece : scratch_overflow_) require(driver().cuMemFree_v2(piece), "cuMemFree");
  scratch_overflow_.clear();
  scratch_ = 0;
  scratch_capacity_ = 0;
}

void Gpu::launch(const char* kernel, Grid grid, int threads, Int shared_bytes, void** arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535)
    throw std::invalid_argument(std::string(kernel) + ": a grid of " + std::to_string(grid.x) + "×" + std::to_string(grid.y) + "×" + std::to_string(grid.z) + " blocks is too large");
  Function& function = find(kernel);
  if (shared_bytes > function.shared_bytes_allowed) {
    require(driver().cuFuncSetAttribute(function.handle, number::FUNCTION_DYNAMIC_SHARED_BYTES, static_cast<int>(shared_bytes)), kernel);
    function.shared_bytes_allowed = shared_bytes;
  }
  require(driver().cuLaunchKernel(function.handle, static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y), static_cast<unsigned>(grid.z),
                                  static_cast<unsigned>(threads), 1, 1, static_cast<unsigned>(shared_bytes), compute_, arguments, nullptr),
          kernel);
}

CUevent Gpu::record() {
  const CUevent event = new_event(number::EVENT_DEFAULT);
  require(driver().cuEventRecord(event, compute_), "cuEventRecord");
  return event;
}

float Gpu::milliseconds(CUevent start, CUevent end) {
  float elapsed = 0;
  require(driver().cuEventSynchronize(end), "cuEventSynchronize");
  require(driver().cuEventElapsedTime(&elapsed, start, end), "cuEventElapsedTime");
  driver().cuEventDestroy_v2(start);
  driver().cuEventDestroy_v2(end);
  return elapsed;
}

// ---- launch.h ----

const DeviceInfo& device_info() { return Gpu::current().info(); }
void launch_by_name(const char* kernel, Grid grid, int threads, Int shared_bytes, void** arguments) {
  Gpu::current().launch(kernel, grid, threads, shared_bytes, arguments);
}
void* scratch(Int bytes) { return Gpu::current().scratch(bytes); }
Fault* fault_slot() { return Gpu::current().fault_slot(); }
int32_t current_op() { return Gpu::current().op(); }

}  // namespace tacotune::cuda
