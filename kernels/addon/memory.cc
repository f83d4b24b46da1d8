// SPDX-License-Identifier: Apache-2.0
#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <unordered_map>

namespace tacotune::addon {
namespace {

struct Region {
  size_t bytes;
};

// Address → region of everything handed out. It makes freeing safe whoever comes first, `release` or the garbage collector.
// All of it comes from mmap: pages arrive zeroed on first touch, so what is never used costs no memory, and munmap returns
// it to the system at once (a measured peak is then the planned one).
std::unordered_map<void*, Region> regions;
std::mutex regions_mutex;

void free_region(void* data) {
  std::lock_guard<std::mutex> lock(regions_mutex);
  const auto found = regions.find(data);
  if (found == regions.end()) return;
  munmap(data, found->second.bytes);
  regions.erase(found);
}

Napi::Value hand_out(Napi::Env env, void* data, size_t bytes) {
  {
    std::lock_guard<std::mutex> lock(regions_mutex);
    regions[data] = Region{bytes};
  }
  return Napi::ArrayBuffer::New(env, data, bytes, [](Napi::Env, void* p) { free_region(p); });
}

}  // namespace

Napi::Value allocate(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const double bytes = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : -1;
  if (!(bytes >= 0 && bytes <= 1e15)) throw Napi::RangeError::New(env, "allocate: expected a number of bytes from 0 to 1e15");
  if (bytes == 0) return Napi::ArrayBuffer::New(env, 0);
  const size_t size = static_cast<size_t>(bytes);
  void* const data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED)
    throw Napi::Error::New(env, "allocate: the system refused " + std::to_string(size) + " bytes (" + std::strerror(errno) + ")");
#ifdef MADV_HUGEPAGE
  if (size >= (8u << 20)) madvise(data, size, MADV_HUGEPAGE);  // fewer TLB misses on weights; small tensors would only round up
#endif
  return hand_out(env, data, size);
}

Napi::Value release(const Napi::CallbackInfo& info) {
  if (!info[0].IsArrayBuffer()) throw Napi::TypeError::New(info.Env(), "release: expected an ArrayBuffer of allocate or mapFile");
  Napi::ArrayBuffer buffer = info[0].As<Napi::ArrayBuffer>();
  void* const data = buffer.ByteLength() ? buffer.Data() : nullptr;
  {
    std::lock_guard<std::mutex> lock(regions_mutex);
    if (data && !regions.count(data)) throw Napi::Error::New(info.Env(), "release: this ArrayBuffer is not of allocate or mapFile");
  }
  if (!data) return info.Env().Undefined();
  buffer.Detach();
  free_region(data);
  return info.Env().Undefined();
}

Napi::Value map_file(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsString()) throw Napi::TypeError::New(env, "mapFile: expected a path");
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  const auto fail = [&](const char* what) { return Napi::Error::New(env, "mapFile: cannot " + std::string(what) + " '" + path + "': " + std::strerror(errno)); };
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw fail("open");
  struct stat status;
  if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
    if (S_ISDIR(status.st_mode)) errno = EISDIR;
    close(file);
    throw fail("map");
  }
  const size_t size = static_cast<size_t>(status.st_size);
  if (size == 0) {
    close(file);
    return Napi::ArrayBuffer::New(env, 0);
  }
  void* const data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
  close(file);
  if (data == MAP_FAILED) throw fail("map");
  return hand_out(env, data, size);
}

}  // namespace tacotune::addon
