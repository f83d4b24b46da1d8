// SPDX-License-Identifier: Apache-2.0
// The CUDA driver as we need it: own prototypes (CUDA Driver API 13.0), found by name at run time, so that neither building
// nor starting needs the CUDA toolkit. Another library with the same symbols can stand in: TACOTUNE_CUDA_DRIVER names it
// (the emulator of kernels/lab is one).
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace tacotune::cuda {

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = struct ContextOfDriver*;
using CUmodule = struct ModuleOfDriver*;
using CUfunction = struct FunctionOfDriver*;
using CUstream = struct StreamOfDriver*;
using CUevent = struct EventOfDriver*;

#define TACOTUNE_DRIVER_FUNCTIONS(F)                                                                                      \
  F(cuInit, (unsigned flags))                                                                                             \
  F(cuDriverGetVersion, (int* version))                                                                                   \
  F(cuDeviceGetCount, (int* count))                                                                                       \
  F(cuDeviceGet, (CUdevice * device, int ordinal))                                                                        \
  F(cuDeviceGetAttribute, (int* value, int attribute, CUdevice device))                                                   \
  F(cuDeviceGetName, (char* name, int size, CUdevice device))                                                             \
  F(cuDeviceTotalMem_v2, (size_t * bytes, CUdevice device))                                                               \
  F(cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))                                                     \
  F(cuCtxSetCurrent, (CUcontext context))                                                                                 \
  F(cuMemGetInfo_v2, (size_t * free, size_t* total))                                                                      \
  F(cuModuleLoadData, (CUmodule * module, const void* image))                                                             \
  F(cuModuleGetFunction, (CUfunction * function, CUmodule module, const char* name))                                      \
  F(cuFuncSetAttribute, (CUfunction function, int attribute, int value))                                                  \
  F(cuFuncGetAttribute, (int* value, int attribute, CUfunction function))                                                 \
  F(cuMemAlloc_v2, (CUdeviceptr * address, size_t bytes))                                                                 \
  F(cuMemAllocManaged, (CUdeviceptr * address, size_t bytes, unsigned flags))                                             \
  F(cuMemFree_v2, (CUdeviceptr address))                                                                                  \
  F(cuMemHostAlloc, (void** memory, size_t bytes, unsigned flags))                                                        \
  F(cuMemFreeHost, (void* memory))                                                                                        \
  F(cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void* from, size_t bytes, CUstream stream))                              \
  F(cuMemcpyDtoHAsync_v2, (void* to, CUdeviceptr from, size_t bytes, CUstream stream))                                    \
  F(cuMemsetD8Async, (CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream))                                \
  F(cuMemsetD32Async, (CUdeviceptr to, unsigned value, size_t words, CUstream stream))                                    \
  F(cuStreamCreate, (CUstream * stream, unsigned flags))                                                                  \
  F(cuStreamSynchronize, (CUstream stream))                                                                               \
  F(cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned flags))                                                  \
  F(cuEventCreate, (CUevent * event, unsigned flags))                                                                     \
  F(cuEventRecord, (CUevent event, CUstream stream))                                                                      \
  F(cuEventSynchronize, (CUevent event))                                                                                  \
  F(cuEventElapsedTime, (float* milliseconds, CUevent start, CUevent end))                                                \
  F(cuEventDestroy_v2, (CUevent event))                                                                                   \
  F(cuLaunchKernel, (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,            \
                     unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void** parameters,       \
                     void** extra))                                                                                       \
  F(cuGetErrorName, (CUresult result, const char** name))                                                                 \
  F(cuGetErrorString, (CUresult result, const char** text))

struct Driver {
#define TACOTUNE_MEMBER(name, parameters) CUresult(*name) parameters;
  TACOTUNE_DRIVER_FUNCTIONS(TACOTUNE_MEMBER)
#undef TACOTUNE_MEMBER
};

/// Numbers of the driver's interface that we use (cuda.h of CUDA 13.0).
namespace number {
constexpr CUresult SUCCESS = 0, OUT_OF_MEMORY = 2;
constexpr int MULTIPROCESSORS = 16, COMPUTE_CAPABILITY_MAJOR = 75, COMPUTE_CAPABILITY_MINOR = 76, SHARED_BYTES_OPT_IN = 97;
constexpr int CLOCK_KHZ = 13, MEMORY_CLOCK_KHZ = 36, MEMORY_BUS_BITS = 37;
constexpr int FUNCTION_DYNAMIC_SHARED_BYTES = 8, FUNCTION_REGISTERS = 4, FUNCTION_STATIC_SHARED_BYTES = 1;
constexpr unsigned HOST_PORTABLE = 1, MANAGED_GLOBAL = 1, STREAM_NON_BLOCKING = 1;
constexpr unsigned EVENT_DEFAULT = 0, EVENT_WITHOUT_TIMES = 2;
constexpr int DEFAULT_SHARED_BYTES = 48 * 1024;  // beyond it a kernel must ask
}  // namespace number

/// Why there is no CUDA here, in words for the user.
struct Unavailable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A call of the driver that failed.
struct DriverError : std::runtime_error {
  CUresult code;
  DriverError(CUresult code, const std::string& text) : std::runtime_error(text), code(code) {}
};

/// Opens the driver at the first call. @throws Unavailable when it is missing, too old, or lacks a function
const Driver& driver();

/// The oldest driver that loads what nvcc 13 makes (CUDA 13 needs driver 580 or later: NVIDIA's compatibility table).
constexpr int LEAST_DRIVER_VERSION = 13000;

/// @throws DriverError with the name of what was tried unless `result` says success
void require(CUresult result, const char* tried);

}  // namespace tacotune::cuda
