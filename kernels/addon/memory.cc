// SPDX-License-Identifier: Apache-2.0
// Behind memory.h: everything handed out, by address and id, freed by whoever comes first.
#include "memory.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>
#include <unordered_map>

namespace tacotune::addon {
namespace {

struct Region {
  void* base;  // what mmap returned; what JavaScript sees may start inside the first page
  size_t bytes;
  uintptr_t id;
  bool of_file;
};

// Address → region of everything handed out. It makes freeing safe whoever comes first, `release` or the garbage collector:
// the system gives a freed address out again, so the collector names the region it means by its id, never by address alone.
// All of it comes from mmap: pages arrive zeroed on first touch, so what is never used costs no memory, and munmap returns
// it to the system at once (a measured peak is then the planned one).
std::unordered_map<void*, Region> regions;
std::mutex regions_mutex;
uintptr_t last_id = 0;

/// Frees the region at `data` if it is still the one with this id (0: whichever is there).
void free_region(void* data, uintptr_t id) {
  std::lock_guard<std::mutex> lock(regions_mutex);
  const auto found = regions.find(data);
  if (found == regions.end() || (id != 0 && found->second.id != id)) return;
  munmap(found->second.base, found->second.bytes);
  regions.erase(found);
}

/// An ArrayBuffer of `bytes` at `data`, which lies in the mapping of `mapped` bytes at `base`.
Napi::Value hand_out(Napi::Env env, void* data, size_t bytes, void* base, size_t mapped, bool of_file) {
  uintptr_t id;
  {
    std::lock_guard<std::mutex> lock(regions_mutex);
    id = ++last_id;
    regions[data] = Region{base, mapped, id, of_file};
  }
  // The plain C call: node-addon-api's wrapper frees its own bookkeeping twice when Node refuses the size.
  napi_value buffer;
  const auto finalize = [](napi_env, void* p, void* hint) { free_region(p, reinterpret_cast<uintptr_t>(hint)); };
  if (napi_create_external_arraybuffer(env, data, bytes, finalize, reinterpret_cast<void*>(id), &buffer) != napi_ok) {
    free_region(data, id);
    if (env.IsExceptionPending()) throw env.GetAndClearPendingException();
    throw Napi::Error::New(env, "Node refused an ArrayBuffer of " + std::to_string(bytes) + " bytes");
  }
  return Napi::Value(env, buffer);
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
  if (size >= (2u << 20)) madvise(data, size, MADV_HUGEPAGE);  // fewer TLB misses; the tail below 2 MiB stays in small pages
#endif
  return hand_out(env, data, size, data, size, false);
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
  free_region(data, 0);
  return info.Env().Undefined();
}

Napi::Value map_file(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto number = [&](size_t i) { return info[i].IsNumber() ? info[i].As<Napi::Number>().DoubleValue() : -1; };
  const double file = number(0), offset = number(1), bytes = number(2);
  const auto whole = [](double x, double limit) { return x >= 0 && x <= limit && x == std::floor(x); };
  if (!whole(file, 1 << 30) || !whole(offset, 1e15) || !whole(bytes, 1e15))
    throw Napi::TypeError::New(env, "mapFile: expected an open file, an offset and a number of bytes");
  struct stat status;
  if (fstat(static_cast<int>(file), &status) != 0) throw Napi::Error::New(env, std::string("mapFile: ") + std::strerror(errno));
  if (!S_ISREG(status.st_mode)) throw Napi::Error::New(env, "mapFile: not a regular file");
  // Memory mapped beyond the end of a file kills the process that reads it.
  if (offset + bytes > static_cast<double>(status.st_size))
    throw Napi::RangeError::New(env, "mapFile: the range ends behind the file's end at " + std::to_string(status.st_size) + " bytes");
  if (bytes == 0) return Napi::ArrayBuffer::New(env, 0);
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t begin = static_cast<size_t>(offset), inside = begin % page, size = static_cast<size_t>(bytes) + inside;
  // Copy-on-write pages are not reserved ahead: the system would refuse a file larger than memory, though nothing is written.
  void* const base =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, static_cast<int>(file), static_cast<off_t>(begin - inside));
  if (base == MAP_FAILED)
    throw Napi::Error::New(env, "mapFile: cannot map " + std::to_string(size) + " bytes: " + std::strerror(errno));
  return hand_out(env, static_cast<char*>(base) + inside, size - inside, base, size, true);
}

Napi::Value drop_pages(const Napi::CallbackInfo& info) {
  if (!info[0].IsArrayBuffer()) throw Napi::TypeError::New(info.Env(), "dropPages: expected an ArrayBuffer of mapFile");
  Napi::ArrayBuffer buffer = info[0].As<Napi::ArrayBuffer>();
  if (buffer.ByteLength() == 0) return info.Env().Undefined();
  std::lock_guard<std::mutex> lock(regions_mutex);
  const auto found = regions.find(buffer.Data());
  // Dropping the pages of `allocate` would lose what is in them.
  if (found == regions.end() || !found->second.of_file) throw Napi::Error::New(info.Env(), "dropPages: this ArrayBuffer is not of mapFile");
  madvise(found->second.base, found->second.bytes, MADV_DONTNEED);
  return info.Env().Undefined();
}

Napi::Value copy_range(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  double arguments[5];
  for (size_t i = 0; i < 5; i++) {
    arguments[i] = info[i].IsNumber() ? info[i].As<Napi::Number>().DoubleValue() : -1;
    if (!(arguments[i] >= 0 && arguments[i] <= 1e15 && arguments[i] == std::floor(arguments[i])))
      throw Napi::TypeError::New(env, "copyRange: expected two open files with offsets, and a number of bytes");
  }
#ifdef __linux__
  loff_t from = static_cast<loff_t>(arguments[1]), to = static_cast<loff_t>(arguments[3]);
  const ssize_t copied = copy_file_range(static_cast<int>(arguments[0]), &from, static_cast<int>(arguments[2]), &to,
                                         static_cast<size_t>(arguments[4]), 0);
  return Napi::Number::New(env, static_cast<double>(copied < 0 ? -errno : copied));
#else
  return Napi::Number::New(env, -ENOSYS);
#endif
}

}  // namespace tacotune::addon
