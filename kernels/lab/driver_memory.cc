// SPDX-License-Identifier: Apache-2.0
// The stand-in driver's memory, copies, streams and events.
#include <cstdio>
#include <cstring>

#include "kernels/lab/driver.h"
#include "kernels/lab/driver_state.h"

namespace tacotune::cuda::emulator {

namespace {

std::shared_ptr<Event> event_of(const void* handle) {
  const auto found = gpu->events.find(handle);
  return found == gpu->events.end() ? nullptr : found->second;
}

Result check_range(Address address, size_t bytes, const char* name) {
  if (gpu->memory.holds(address, bytes)) return SUCCESS;
  char text[160];
  snprintf(text, sizeof text, "%s: %zu bytes at %#llx are not within one allocation", name, bytes, address);
  return refuse(INVALID_VALUE, text);
}

/// A copy or fill of device memory; memory that was freed meanwhile is an error here, as it would be a fault there.
Operation on_memory(Address address, size_t bytes, bool writes, std::function<void(char*)> work) {
  return {Operation::Kind::COPY,
          [=] {
            if (!gpu->memory.holds(address, bytes)) return die(ILLEGAL_ADDRESS, "a copy reaches memory that was freed while it was queued");
            work(gpu->memory.reach(address));
            if (writes && memory_observer) memory_observer->written(address, bytes);
          },
          nullptr,
          {}};
}

}  // namespace

int run_in_stream(const char* name, const void* stream, std::vector<Use> uses, std::function<void(const std::vector<char*>&)> work) {
  CALL(name);
  const auto address_of = [](const Use& use) { return reinterpret_cast<Address>(use.address); };
  for (const Use& use : uses)
    if (const Result result = check_range(address_of(use), use.bytes, name)) return result;
  const auto run = [=] {
    std::vector<char*> places;
    for (const Use& use : uses) {
      if (!gpu->memory.holds(address_of(use), use.bytes)) return die(ILLEGAL_ADDRESS, std::string(name) + " reaches memory that was freed while it was queued");
      places.push_back(gpu->memory.reach(address_of(use)));
    }
    work(places);
    for (const Use& use : uses)
      if (use.writes && memory_observer) memory_observer->written(address_of(use), use.bytes);
  };
  return give(stream, {Operation::Kind::KERNEL, run, nullptr, {}}, name);
}

// ---- memory --------------------------------------------------------------------------------------------------------------
ENTRY cuMemAlloc_v2(Address* address, size_t bytes) {
  CALL("cuMemAlloc");
  if (bytes == 0) return refuse(INVALID_VALUE, "cuMemAlloc of 0 bytes");
  *address = gpu->memory.allocate(bytes);
  return *address ? SUCCESS : OUT_OF_MEMORY;
}

ENTRY cuMemAllocManaged(Address* address, size_t bytes, unsigned flags) {
  CALL("cuMemAllocManaged");
  if (bytes == 0 || (flags != 1 && flags != 2)) return refuse(INVALID_VALUE, "cuMemAllocManaged: 0 bytes, or flags that are neither global nor host");
  *address = gpu->memory.allocate_managed(bytes);
  return SUCCESS;
}

ENTRY cuMemFree_v2(Address address) {
  CALL("cuMemFree");
  if (address == 0) return SUCCESS;
  gpu->streams.finish_all();  // as the driver does
  return gpu->memory.release(address, false) ? gpu->sticky : refuse(INVALID_VALUE, "cuMemFree: no allocation begins there");
}

ENTRY cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
  CALL("cuMemHostAlloc");
  *memory = reinterpret_cast<void*>(gpu->memory.allocate_pinned(bytes));
  return *memory ? SUCCESS : OUT_OF_MEMORY;
}

ENTRY cuMemFreeHost(void* memory) {
  CALL("cuMemFreeHost");
  gpu->streams.finish_all();
  return gpu->memory.release(reinterpret_cast<Address>(memory), true) ? gpu->sticky : refuse(INVALID_VALUE, "cuMemFreeHost: that was not allocated by cuMemHostAlloc");
}

// From pinned memory the copy happens in its turn, so a host that writes there too early is found out; from any other
// memory the driver takes a copy before it returns.
ENTRY cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void* stream) {
  CALL("cuMemcpyHtoDAsync");
  if (bytes == 0) return SUCCESS;
  if (const Result result = check_range(to, bytes, "cuMemcpyHtoDAsync")) return result;
  if (gpu->memory.is_pinned(reinterpret_cast<Address>(from), bytes))
    return give(stream, on_memory(to, bytes, true, [=](char* target) { memcpy(target, from, bytes); }), "cuMemcpyHtoDAsync");
  const auto staged = std::make_shared<std::vector<char>>(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
  return give(stream, on_memory(to, bytes, true, [=](char* target) { memcpy(target, staged->data(), bytes); }), "cuMemcpyHtoDAsync");
}

// To pinned memory it returns at once; to any other it has copied when it returns.
ENTRY cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void* stream) {
  CALL("cuMemcpyDtoHAsync");
  if (bytes == 0) return SUCCESS;
  if (const Result result = check_range(from, bytes, "cuMemcpyDtoHAsync")) return result;
  const Result result = static_cast<Result>(give(stream, on_memory(from, bytes, false, [=](char* source) { memcpy(to, source, bytes); }), "cuMemcpyDtoHAsync"));
  if (result != SUCCESS) return result;
  if (!gpu->memory.is_pinned(reinterpret_cast<Address>(to), bytes)) gpu->streams.finish(stream_of(stream));
  return gpu->sticky;
}

ENTRY cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void* stream) {
  CALL("cuMemcpyDtoDAsync");
  if (bytes == 0) return SUCCESS;
  if (const Result result = check_range(to, bytes, "cuMemcpyDtoDAsync")) return result;
  if (const Result result = check_range(from, bytes, "cuMemcpyDtoDAsync")) return result;
  return give(stream, on_memory(to, bytes, true, [=](char* target) {
                if (!gpu->memory.holds(from, bytes)) return die(ILLEGAL_ADDRESS, "a copy reads memory that was freed while it was queued");
                memmove(target, gpu->memory.reach(from), bytes);
              }), "cuMemcpyDtoDAsync");
}

ENTRY cuMemsetD8Async(Address to, unsigned char value, size_t bytes, void* stream) {
  CALL("cuMemsetD8Async");
  if (bytes == 0) return SUCCESS;
  if (const Result result = check_range(to, bytes, "cuMemsetD8Async")) return result;
  return give(stream, on_memory(to, bytes, true, [=](char* target) { memset(target, value, bytes); }), "cuMemsetD8Async");
}

ENTRY cuMemsetD32Async(Address to, unsigned value, size_t words, void* stream) {
  CALL("cuMemsetD32Async");
  if (words == 0) return SUCCESS;
  if (to % 4 != 0) return refuse(INVALID_VALUE, "cuMemsetD32Async: the address is no multiple of 4");
  if (const Result result = check_range(to, 4 * words, "cuMemsetD32Async")) return result;
  return give(stream, on_memory(to, 4 * words, true, [=](char* target) {
                for (size_t i = 0; i < words; i++) memcpy(target + 4 * i, &value, 4);
              }), "cuMemsetD32Async");
}

// ---- streams and events --------------------------------------------------------------------------------------------------
ENTRY cuStreamCreate(void** stream, unsigned flags) {
  CALL("cuStreamCreate");
  auto made = gpu->streams.create(flags == 0);
  *stream = made.get();
  gpu->named_streams[made.get()] = std::move(made);
  return SUCCESS;
}

ENTRY cuStreamDestroy_v2(void* stream) {
  CALL("cuStreamDestroy");
  const auto found = gpu->named_streams.find(stream);
  if (found == gpu->named_streams.end()) return refuse(INVALID_HANDLE, "cuStreamDestroy: that is no stream");
  gpu->streams.destroy(found->second);
  gpu->named_streams.erase(found);
  return gpu->sticky;
}

ENTRY cuStreamSynchronize(void* handle) {
  CALL("cuStreamSynchronize");
  const auto stream = stream_of(handle);
  if (!stream) return refuse(INVALID_HANDLE, "cuStreamSynchronize: that is no stream");
  gpu->streams.finish(stream);
  return gpu->sticky;
}

ENTRY cuStreamQuery(void* handle) {
  CALL("cuStreamQuery");
  const auto stream = stream_of(handle);
  if (!stream) return refuse(INVALID_HANDLE, "cuStreamQuery: that is no stream");
  const bool done = gpu->streams.poll(stream, stream->given);
  return gpu->sticky != SUCCESS ? gpu->sticky : done ? SUCCESS : NOT_READY;
}

ENTRY cuStreamWaitEvent(void* stream, void* handle, unsigned) {
  CALL("cuStreamWaitEvent");
  const auto event = event_of(handle);
  if (!event) return refuse(INVALID_HANDLE, "cuStreamWaitEvent: that is no event");
  if (!event->mark.stream) return SUCCESS;  // never recorded: nothing to wait for
  return give(stream, {Operation::Kind::WAIT, nullptr, nullptr, event->mark}, "cuStreamWaitEvent");
}

ENTRY cuEventCreate(void** handle, unsigned flags) {
  CALL("cuEventCreate");
  auto made = std::make_shared<Event>();
  made->keeps_time = !(flags & 2);
  *handle = made.get();
  gpu->events[made.get()] = std::move(made);
  return SUCCESS;
}

ENTRY cuEventRecord(void* handle, void* stream_handle) {
  CALL("cuEventRecord");
  const auto event = event_of(handle);
  const auto stream = stream_of(stream_handle);
  if (!event || !stream) return refuse(INVALID_HANDLE, "cuEventRecord: that is no event or no stream");
  gpu->streams.record(event, stream);
  if (!stream_handle) gpu->streams.finish(stream);
  return gpu->sticky;
}

ENTRY cuEventSynchronize(void* handle) {
  CALL("cuEventSynchronize");
  const auto event = event_of(handle);
  if (!event) return refuse(INVALID_HANDLE, "cuEventSynchronize: that is no event");
  gpu->streams.finish(event->mark);
  return gpu->sticky;
}

ENTRY cuEventQuery(void* handle) {
  CALL("cuEventQuery");
  const auto event = event_of(handle);
  if (!event) return refuse(INVALID_HANDLE, "cuEventQuery: that is no event");
  const bool done = !event->mark.stream || gpu->streams.poll(event->mark.stream, event->mark.number);
  return gpu->sticky != SUCCESS ? gpu->sticky : done ? SUCCESS : NOT_READY;
}

ENTRY cuEventElapsedTime(float* milliseconds, void* start_handle, void* end_handle) {
  CALL("cuEventElapsedTime");
  const auto start = event_of(start_handle), end = event_of(end_handle);
  if (!start || !end || !start->keeps_time || !end->keeps_time || !start->mark.stream || !end->mark.stream)
    return refuse(INVALID_HANDLE, "cuEventElapsedTime: events that keep time and were recorded are needed");
  for (const auto& event : {start, end})
    if (event->mark.stream->done < event->mark.number) return NOT_READY;
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return SUCCESS;
}

ENTRY cuEventDestroy_v2(void* handle) {
  CALL("cuEventDestroy");
  return gpu->events.erase(handle) ? SUCCESS : refuse(INVALID_HANDLE, "cuEventDestroy: that is no event");
}

}  // namespace tacotune::cuda::emulator
