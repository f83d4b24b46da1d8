// SPDX-License-Identifier: Apache-2.0
// Planted mistakes of host code, one a run: `misuse NAME` makes the mistake, `misuse NAME fixed` does it right, and both print
// what the host saw. On a real driver most of these mistakes work nearly always; on the stand-in they must show every time.
// test/cuda/emulator.test.ts judges. `misuse probe` prints the mismatches of the fragment probes instead.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cuda/driver.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/probe.h"

using namespace tacotune::cuda;

namespace {

constexpr size_t WORDS = 128, BYTES = 4 * WORDS;

/// A context with two streams and the kernel that copies `inp` to `out`, backwards in pieces of four words and every second one.
struct Host {
  CUcontext context = nullptr;
  CUfunction kernel = nullptr;
  CUstream copies = nullptr, compute = nullptr;

  Host() {
    require(driver().cuDevicePrimaryCtxRetain(&context, 0), "cuDevicePrimaryCtxRetain");
    require(driver().cuCtxSetCurrent(context), "cuCtxSetCurrent");
    const char* const folder = getenv("TACOTUNE_CUDA_MODULES");
    std::ifstream file(std::string(folder ? folder : "build/cuda") + "/probe.fatbin", std::ios::binary);
    const std::string image((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    CUmodule module = nullptr;
    require(driver().cuModuleLoadData(&module, image.data()), "cuModuleLoadData");
    require(driver().cuModuleGetFunction(&kernel, module, "copy_async_probe_kernel"), "cuModuleGetFunction");
    require(driver().cuStreamCreate(&copies, number::STREAM_NON_BLOCKING), "cuStreamCreate");
    require(driver().cuStreamCreate(&compute, number::STREAM_NON_BLOCKING), "cuStreamCreate");
  }

  CUdeviceptr allocate(size_t bytes = BYTES) {
    CUdeviceptr address = 0;
    require(driver().cuMemAlloc_v2(&address, bytes), "cuMemAlloc");
    return address;
  }
  uint32_t* pinned() {
    void* memory = nullptr;
    require(driver().cuMemHostAlloc(&memory, BYTES, number::HOST_PORTABLE), "cuMemHostAlloc");
    return static_cast<uint32_t*>(memory);
  }
  void launch(CUdeviceptr out, CUdeviceptr inp, unsigned shared_bytes = 0) {
    void* arguments[] = {&out, &inp};
    require(driver().cuLaunchKernel(kernel, 1, 1, 1, 32, 1, 1, shared_bytes, compute, arguments, nullptr), "cuLaunchKernel");
  }
  void upload(CUdeviceptr to, const void* from, size_t bytes = BYTES) { require(driver().cuMemcpyHtoDAsync_v2(to, from, bytes, copies), "cuMemcpyHtoDAsync"); }
  void order(CUstream earlier, CUstream later) {
    CUevent event = nullptr;
    require(driver().cuEventCreate(&event, number::EVENT_WITHOUT_TIMES), "cuEventCreate");
    require(driver().cuEventRecord(event, earlier), "cuEventRecord");
    require(driver().cuStreamWaitEvent(later, event, 0), "cuStreamWaitEvent");
    require(driver().cuEventDestroy_v2(event), "cuEventDestroy");
  }
  void wait(CUstream stream) { require(driver().cuStreamSynchronize(stream), "cuStreamSynchronize"); }
  /// What lies at `from`, when all that was given to `stream` has run.
  std::vector<uint32_t> download(CUdeviceptr from, CUstream stream) {
    std::vector<uint32_t> values(WORDS);
    require(driver().cuMemcpyDtoHAsync_v2(values.data(), from, BYTES, stream), "cuMemcpyDtoHAsync");
    return values;
  }
};

void fill(uint32_t* words, uint32_t value) {
  for (size_t i = 0; i < WORDS; i++) words[i] = value;
}
/// The kernel has copied `value`, and zeros to the places of odd pieces.
std::string copied(const std::vector<uint32_t>& out, uint32_t value) { return out[4] == value && out[0] == 0 ? "right" : "wrong"; }

using Case = std::function<std::string(Host&, bool fixed)>;

const std::map<std::string, Case> CASES = {
    {"kernel-before-its-input",
     [](Host& host, bool fixed) {
       const CUdeviceptr inp = host.allocate(), out = host.allocate();
       uint32_t* const values = host.pinned();
       fill(values, 7);
       host.upload(inp, values);
       if (fixed) host.order(host.copies, host.compute);
       host.launch(out, inp);
       return copied(host.download(out, host.compute), 7);
     }},
    {"input-overwritten-too-early",
     [](Host& host, bool fixed) {
       const CUdeviceptr inp = host.allocate(), out = host.allocate();
       uint32_t *const first = host.pinned(), *const second = host.pinned();
       fill(first, 7), fill(second, 8);
       host.upload(inp, first);
       host.wait(host.copies);
       host.launch(out, inp);
       if (fixed) host.order(host.compute, host.copies);
       host.upload(inp, second);
       return copied(host.download(out, host.compute), 7);
     }},
    {"pinned-memory-reused",
     [](Host& host, bool fixed) {
       const CUdeviceptr inp = host.allocate();
       uint32_t* const values = host.pinned();
       fill(values, 7);
       host.upload(inp, values);
       if (fixed) host.wait(host.copies);
       fill(values, 8);
       return host.download(inp, host.copies)[0] == 7 ? "right" : "wrong";
     }},
    {"pageable-memory-reused",  // no mistake: the driver has taken a copy
     [](Host& host, bool) {
       const CUdeviceptr inp = host.allocate();
       std::vector<uint32_t> values(WORDS, 7);
       host.upload(inp, values.data());
       fill(values.data(), 8);
       return host.download(inp, host.copies)[0] == 7 ? "right" : "wrong";
     }},
    {"result-read-too-early",
     [](Host& host, bool fixed) {
       const CUdeviceptr inp = host.allocate();
       uint32_t* const result = host.pinned();
       require(driver().cuMemsetD32Async(inp, 7, WORDS, host.compute), "cuMemsetD32Async");
       require(driver().cuMemcpyDtoHAsync_v2(result, inp, BYTES, host.compute), "cuMemcpyDtoHAsync");
       if (fixed) host.wait(host.compute);
       return std::string(result[0] == 7 ? "right" : "wrong");
     }},
    {"fresh-memory",
     [](Host& host, bool fixed) {
       const CUdeviceptr memory = host.allocate();
       if (fixed) require(driver().cuMemsetD8Async(memory, 0, BYTES, host.compute), "cuMemsetD8Async");
       return host.download(memory, host.compute)[5] == 0 ? "right" : "wrong";
     }},
    {"copy-too-long",
     [](Host& host, bool fixed) {
       const CUdeviceptr inp = host.allocate();
       const std::vector<uint32_t> values(WORDS + 1);
       host.upload(inp, values.data(), fixed ? BYTES : BYTES + 1);
       return std::string("right");
     }},
    {"kernel-writes-too-far",
     [](Host& host, bool fixed) {
       const CUdeviceptr inp = host.allocate(), out = host.allocate(fixed ? BYTES : BYTES - 4);
       require(driver().cuMemsetD32Async(inp, 7, WORDS, host.compute), "cuMemsetD32Async");
       host.launch(out, inp);
       host.wait(host.compute);
       return std::string("right");
     }},
    {"host-touches-device-memory",
     [](Host& host, bool fixed) {
       const CUdeviceptr memory = host.allocate();
       std::vector<uint32_t> elsewhere(WORDS);
       const pid_t child = fork();
       if (child == 0) {
         *reinterpret_cast<volatile uint32_t*>(fixed ? reinterpret_cast<CUdeviceptr>(elsewhere.data()) : memory) = 1;
         _exit(0);
       }
       int status = 0;
       waitpid(child, &status, 0);
       return WIFSIGNALED(status) ? std::string("signal ") + std::to_string(WTERMSIG(status)) : std::string("right");
     }},
    {"managed-memory",
     [](Host& host, bool) {
       CUdeviceptr inp = 0;
       require(driver().cuMemAllocManaged(&inp, BYTES, number::MANAGED_GLOBAL), "cuMemAllocManaged");
       fill(reinterpret_cast<uint32_t*>(inp), 7);
       const CUdeviceptr out = host.allocate();
       host.launch(out, inp);
       return copied(host.download(out, host.compute), 7);
     }},
    {"shared-memory-not-asked-for",
     [](Host& host, bool fixed) {
       const CUdeviceptr inp = host.allocate(), out = host.allocate();
       if (fixed) require(driver().cuFuncSetAttribute(host.kernel, number::FUNCTION_DYNAMIC_SHARED_BYTES, 60000), "cuFuncSetAttribute");
       host.launch(out, inp, 60000);
       host.wait(host.compute);
       return std::string("right");
     }},
    {"no-context",
     [](Host& host, bool fixed) {
       std::string seen = "right";
       std::thread([&] {
         if (fixed) driver().cuCtxSetCurrent(host.context);
         CUdeviceptr memory = 0;
         const CUresult result = driver().cuMemAlloc_v2(&memory, BYTES);
         if (result != 0) seen = "error " + std::to_string(result);
       }).join();
       return seen;
     }},
    {"a-file-that-is-no-module",
     [](Host&, bool fixed) {
       CUmodule module = nullptr;
       require(driver().cuModuleLoadData(&module, fixed ? "tacotune emulated module probe\n" : "\x50\xed\x55\xba garbage"), "cuModuleLoadData");
       return std::string("right");
     }},
    {"out-of-memory",
     [](Host& host, bool fixed) {
       CUdeviceptr memory = 0;
       size_t free = 0, total = 0;
       require(driver().cuMemGetInfo_v2(&free, &total), "cuMemGetInfo");
       const CUresult result = driver().cuMemAlloc_v2(&memory, fixed ? BYTES : total + 1);
       if (result != 0) return "error " + std::to_string(result);
       const CUdeviceptr more = host.allocate();
       return std::string(more ? "right" : "wrong");
     }},
    {"freed-twice",
     [](Host& host, bool fixed) {
       const CUdeviceptr memory = host.allocate();
       require(driver().cuMemFree_v2(memory), "cuMemFree");
       if (!fixed) require(driver().cuMemFree_v2(memory), "cuMemFree");
       return std::string("right");
     }},
    {"wild-pointer",
     [](Host& host, bool fixed) {
       const CUdeviceptr inp = host.allocate(), out = host.allocate();
       host.launch(fixed ? out : 4096, inp);
       const CUresult result = driver().cuStreamSynchronize(host.compute);
       CUdeviceptr memory = 0;
       const CUresult later = driver().cuMemAlloc_v2(&memory, BYTES);  // a context does not recover
       return result == 0 && later == 0 ? std::string("right") : "errors " + std::to_string(result) + " " + std::to_string(later);
     }},
    {"polling",  // no mistake: a host that asks again and again gets there
     [](Host& host, bool) {
       const CUdeviceptr inp = host.allocate(), middle = host.allocate(), out = host.allocate();
       void* const library = dlopen(getenv("TACOTUNE_CUDA_DRIVER"), RTLD_NOW);
       const auto query = reinterpret_cast<CUresult (*)(CUstream)>(dlsym(library, "cuStreamQuery"));
       const auto copy = reinterpret_cast<CUresult (*)(CUdeviceptr, CUdeviceptr, size_t, CUstream)>(dlsym(library, "cuMemcpyDtoDAsync_v2"));
       const auto finish = reinterpret_cast<CUresult (*)()>(dlsym(library, "cuCtxSynchronize"));
       require(driver().cuMemsetD32Async(inp, 7, WORDS, host.compute), "cuMemsetD32Async");
       require(copy(middle, inp, BYTES, host.compute), "cuMemcpyDtoDAsync");
       host.launch(out, middle);
       int asked = 1;
       while (query(host.compute) == 600) asked++;
       require(finish(), "cuCtxSynchronize");
       return copied(host.download(out, host.compute), 7) + " after " + std::to_string(asked);
     }},
};

int print_probes() {
  const char* const folder = getenv("TACOTUNE_CUDA_MODULES");
  Gpu::open(0, folder ? folder : "build/cuda");
  ProbeResult results[3];
  probe(results);
  for (const ProbeResult& result : results) printf("%s: %lld of %lld wrong\n", result.name, static_cast<long long>(result.mismatches), static_cast<long long>(result.compared));
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string name = count > 1 ? arguments[1] : "";
  try {
    if (name == "probe") return print_probes();
    const auto found = CASES.find(name);
    if (found == CASES.end()) {
      for (const auto& known : CASES) printf("%s\n", known.first.c_str());
      return name.empty() ? 0 : 2;
    }
    Host host;
    printf("%s\n", found->second(host, count > 2 && strcmp(arguments[2], "fixed") == 0).c_str());
  } catch (const std::exception& error) {
    printf("%s\n", error.what());
  }
}
