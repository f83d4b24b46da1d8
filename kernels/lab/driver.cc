// SPDX-License-Identifier: Apache-2.0
// A library with libcuda's symbols that runs kernels on the emulator: what the addon opens in place of libcuda.so.1, so that
// tests go through the code that users run. It is stricter than a driver: wrong arguments are refused with a sentence,
// copies are checked against allocations, and the order of streams is as hostile as their events allow.
// It knows the kernels that were linked in, and nothing of tacotune's ops. One lock; any thread may call.
#include <cstdio>
#include <cstring>

#include "kernels/lab/driver.h"
#include "kernels/lab/driver_state.h"
#include "kernels/lab/engine.h"

namespace tacotune::cuda::emulator {

std::mutex mutex;
Gpu* gpu = nullptr;
Settings& settings = *new Settings;
bool initialized = false;
thread_local bool context_is_current = false;

namespace {

std::string& details = *new std::string;  // of the latest error, shown by cuGetErrorString

struct Name {
  Result result;
  const char *name, *text;
};
constexpr Name NAMES[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {INVALID_LAUNCH, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {MISALIGNED_ADDRESS, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
};

Result result_of(Failure failure) {
  switch (failure) {
    case Failure::INVALID_LAUNCH: return INVALID_LAUNCH;
    case Failure::ILLEGAL_ADDRESS: return ILLEGAL_ADDRESS;
    case Failure::MISALIGNED: return MISALIGNED_ADDRESS;
    default: return LAUNCH_FAILED;
  }
}

/// A launch with its own copy of the arguments, as the driver makes one when the kernel is queued.
struct Launch {
  const Function* function;
  dim3 grid, block;
  uint32_t dynamic_bytes;
  std::vector<std::vector<unsigned char>> values;

  void run() {
    std::vector<void*> arguments;
    for (auto& value : values) arguments.push_back(value.data());
    const Outcome outcome = run_on_engine(gpu->settings, gpu->memory, function->module, *function->kernel, grid, block, dynamic_bytes, arguments.data());
    const std::string overrun = gpu->memory.overrun();
    if (outcome.failure != Failure::NONE) die(result_of(outcome.failure), outcome.message);
    else if (!overrun.empty()) die(ILLEGAL_ADDRESS, std::string(function->kernel->name) + " " + overrun);
  }
};

std::string stem(const char* file) {
  const std::string path = file;
  const size_t slash = path.rfind('/') + 1;  // npos + 1 is 0
  return path.substr(slash, path.rfind('.') - slash);
}

}  // namespace

Result refuse(Result result, const std::string& sentence) {
  details = sentence;
  fprintf(stderr, "emulated GPU: %s\n", sentence.c_str());
  return result;
}

void die(Result result, const std::string& sentence) { gpu->sticky = refuse(result, sentence); }

std::shared_ptr<Stream> stream_of(const void* handle) {
  if (!handle) return gpu->null_stream;
  const auto found = gpu->named_streams.find(handle);
  return found == gpu->named_streams.end() ? nullptr : found->second;
}

Result give(const void* handle, Operation operation, const char* name) {
  const auto stream = stream_of(handle);
  if (!stream) return refuse(INVALID_HANDLE, std::string(name) + " on a stream that is none");
  if (!handle)
    for (const auto& [_, other] : gpu->named_streams)
      if (other->blocking) gpu->streams.finish(other);
  gpu->streams.give(stream, std::move(operation));
  if (!handle) gpu->streams.finish(stream);
  return gpu->sticky;
}

const Settings& settings_in_use() { return settings; }

ENTRY cuInit(unsigned) {
  const std::lock_guard lock(mutex);
  const std::string trouble = read_environment(settings);
  if (!trouble.empty()) return refuse(INVALID_VALUE, trouble);
  initialized = true;
  return SUCCESS;
}

ENTRY cuDriverGetVersion(int* version) {
  *version = settings.driver_version;
  return SUCCESS;
}

ENTRY cuDeviceGetCount(int* count) {
  if (!initialized) return refuse(NOT_INITIALIZED, "cuDeviceGetCount before cuInit");
  *count = 1;
  return SUCCESS;
}

ENTRY cuDeviceGet(int* device, int ordinal) {
  if (ordinal != 0) return refuse(INVALID_DEVICE, "device " + std::to_string(ordinal) + " of 1");
  *device = 0;
  return SUCCESS;
}

ENTRY cuDeviceGetName(char* name, int size, int) {
  snprintf(name, static_cast<size_t>(size), "emulated GPU");
  return SUCCESS;
}

ENTRY cuDeviceTotalMem_v2(size_t* bytes, int) {
  *bytes = settings.memory_bytes;
  return SUCCESS;
}

ENTRY cuDeviceGetAttribute(int* value, int attribute, int) {
  const int shared = static_cast<int>(settings.options.shared_limit);
  const std::map<int, int> attributes = {
      {1, 1024},                // threads per block
      {2, 1024}, {3, 1024}, {4, 64},                 // … in each direction
      {5, 0x7fffffff}, {6, 65535}, {7, 65535},       // blocks in each direction
      {8, 48 * 1024},           // shared memory per block
      {10, 32},                 // warp size
      {12, 65536},              // registers per block
      {13, 1'000'000},          // clock, kHz
      {16, settings.multiprocessors},
      {18, 0},                  // integrated
      {19, 1},                  // can map host memory
      {31, 1},                  // concurrent kernels
      {36, 1'000'000},          // memory clock, kHz
      {37, 512},                // width of the memory bus, bits
      {38, 4 << 20},            // bytes of level 2 cache
      {39, 2048},               // threads per multiprocessor
      {40, 2},                  // copy engines
      {41, 1},                  // unified addressing
      {75, settings.compute_capability / 10},
      {76, settings.compute_capability % 10},
      {81, shared + 1024},      // shared memory per multiprocessor
      {82, 65536},              // registers per multiprocessor
      {83, 1},                  // managed memory
      {89, 1},                  // … while the host uses it too
      {97, shared},             // shared memory per block, opted in
  };
  const auto found = attributes.find(attribute);
  if (found == attributes.end()) return refuse(INVALID_VALUE, "the emulated GPU has no attribute " + std::to_string(attribute));
  *value = found->second;
  return SUCCESS;
}

ENTRY cuDevicePrimaryCtxRetain(void** context, int) {
  const std::lock_guard lock(mutex);
  if (!initialized) return refuse(NOT_INITIALIZED, "cuDevicePrimaryCtxRetain before cuInit");
  if (!gpu) gpu = new Gpu(settings);
  *context = gpu;
  return SUCCESS;
}

// The GPU's memory stays mapped: the process ends soon, and a late pointer should meet a closed page rather than nothing.
ENTRY cuDevicePrimaryCtxRelease_v2(int) {
  const std::lock_guard lock(mutex);
  if (gpu && gpu->sticky == SUCCESS) gpu->streams.finish_all();
  return SUCCESS;
}

ENTRY cuCtxSetCurrent(void* context) {
  const std::lock_guard lock(mutex);
  if (context && context != gpu) return refuse(INVALID_CONTEXT, "cuCtxSetCurrent: that is no context");
  context_is_current = context != nullptr;
  return SUCCESS;
}

ENTRY cuCtxSynchronize() {
  CALL("cuCtxSynchronize");
  gpu->streams.finish_all();
  return gpu->sticky;
}

ENTRY cuMemGetInfo_v2(size_t* free, size_t* total) {
  CALL("cuMemGetInfo");
  *free = gpu->memory.free_bytes();
  *total = gpu->memory.capacity();
  return SUCCESS;
}

// ---- modules and functions -----------------------------------------------------------------------------------------------
ENTRY cuModuleLoadData(void** module, const void* image) {
  CALL("cuModuleLoadData");
  static const char prefix[] = "tacotune emulated module ";
  const char* const text = static_cast<const char*>(image);
  if (strncmp(text, prefix, sizeof prefix - 1) != 0)
    return refuse(INVALID_IMAGE, "cuModuleLoadData: expected the text that scripts/build-emulator.mjs writes, got something else");
  std::string name = text + sizeof prefix - 1;
  name = name.substr(0, name.find('\n'));
  bool known = false;
  for (const Kernel* kernel = kernels; kernel; kernel = kernel->next) known = known || stem(kernel->file) == name;
  if (!known) return refuse(INVALID_IMAGE, "cuModuleLoadData: no kernels of a module '" + name + "' are in this library");
  auto made = std::make_unique<Module>(Module{name});
  *module = made.get();
  gpu->modules.insert(std::move(made));
  return SUCCESS;
}

ENTRY cuModuleUnload(void* module) {
  CALL("cuModuleUnload");
  for (auto it = gpu->modules.begin(); it != gpu->modules.end(); ++it)
    if (it->get() == module) return gpu->modules.erase(it), SUCCESS;
  return refuse(INVALID_HANDLE, "cuModuleUnload: that is no module");
}

ENTRY cuModuleGetFunction(void** function, void* module, const char* name) {
  CALL("cuModuleGetFunction");
  const std::string& of = static_cast<Module*>(module)->name;
  for (const Kernel* kernel = kernels; kernel; kernel = kernel->next) {
    if (strcmp(kernel->name, name) != 0 || stem(kernel->file) != of) continue;
    auto made = std::make_unique<Function>(Function{kernel, of});
    *function = made.get();
    gpu->functions[made.get()] = std::move(made);
    return SUCCESS;
  }
  return NOT_FOUND;  // without a word: hosts look through several modules
}

ENTRY cuFuncSetAttribute(void* handle, int attribute, int value) {
  CALL("cuFuncSetAttribute");
  const auto function = gpu->functions.find(handle);
  if (function == gpu->functions.end()) return refuse(INVALID_HANDLE, "cuFuncSetAttribute: that is no function");
  if (attribute == 9) return SUCCESS;  // preferred share of L1 cache: a hint
  if (attribute != 8) return refuse(INVALID_VALUE, "cuFuncSetAttribute: attribute " + std::to_string(attribute) + " cannot be set");
  if (value < 0 || static_cast<uint32_t>(value) > settings.options.shared_limit)
    return refuse(INVALID_VALUE, std::string(function->second->kernel->name) + ": " + std::to_string(value) + " bytes of dynamic shared memory, the GPU has " +
                                     std::to_string(settings.options.shared_limit));
  function->second->dynamic_limit = static_cast<uint32_t>(value);
  return SUCCESS;
}

ENTRY cuFuncGetAttribute(int* value, int attribute, void* handle) {
  CALL("cuFuncGetAttribute");
  const auto function = gpu->functions.find(handle);
  if (function == gpu->functions.end()) return refuse(INVALID_HANDLE, "cuFuncGetAttribute: that is no function");
  // Threads per block and the dynamic limit; registers, static shared, constant and local memory are unknown here: 0.
  *value = attribute == 0 ? 1024 : attribute == 8 ? static_cast<int>(function->second->dynamic_limit) : 0;
  return attribute >= 0 && attribute <= 9 ? SUCCESS : refuse(INVALID_VALUE, "cuFuncGetAttribute: no attribute " + std::to_string(attribute));
}

ENTRY cuLaunchKernel(void* handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z, unsigned dynamic_bytes,
                     void* stream, void** parameters, void** extra) {
  CALL("cuLaunchKernel");
  const auto found = gpu->functions.find(handle);
  if (found == gpu->functions.end()) return refuse(INVALID_HANDLE, "cuLaunchKernel: that is no function");
  const Function& function = *found->second;
  const std::string name = function.kernel->name;
  if (extra) return refuse(INVALID_VALUE, name + ": arguments as one packed buffer are not emulated");
  if (dynamic_bytes > function.dynamic_limit)
    return refuse(INVALID_VALUE, name + ": " + std::to_string(dynamic_bytes) + " bytes of dynamic shared memory, allowed are " + std::to_string(function.dynamic_limit) +
                                     " (cuFuncSetAttribute raises it)");
  if (!grid_x || !grid_y || !grid_z || !block_x || !block_y || !block_z || grid_x > 0x7fffffffu || grid_y > 65535 || grid_z > 65535 ||
      uint64_t(block_x) * block_y * block_z > 1024)
    return refuse(INVALID_VALUE, name + ": a grid of (" + std::to_string(grid_x) + "," + std::to_string(grid_y) + "," + std::to_string(grid_z) + ") blocks of (" +
                                     std::to_string(block_x) + "," + std::to_string(block_y) + "," + std::to_string(block_z) + ") threads");
  auto launch = std::make_shared<Launch>(Launch{&function, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, dynamic_bytes, {}});
  for (uint32_t i = 0; i < function.kernel->parameters; i++) {
    const auto* bytes = static_cast<const unsigned char*>(parameters[i]);
    launch->values.emplace_back(bytes, bytes + function.kernel->parameter_bytes[i]);
  }
  return give(stream, {Operation::Kind::KERNEL, [launch] { launch->run(); }, nullptr, {}}, "cuLaunchKernel");
}

// ---- errors --------------------------------------------------------------------------------------------------------------
ENTRY cuGetErrorName(int result, const char** name) {
  *name = nullptr;
  for (const Name& known : NAMES)
    if (known.result == result) *name = known.name;
  return *name ? SUCCESS : INVALID_VALUE;
}

/// The driver's text, and behind it what this emulator knows about the latest error.
ENTRY cuGetErrorString(int result, const char** text) {
  const std::lock_guard lock(mutex);
  static std::string& kept = *new std::string;
  *text = nullptr;
  for (const Name& known : NAMES)
    if (known.result == result) kept = known.text + (result == SUCCESS || details.empty() ? "" : ": " + details), *text = kept.c_str();
  return *text ? SUCCESS : INVALID_VALUE;
}
}  // namespace tacotune::cuda::emulator
