// SPDX-License-Identifier: Apache-2.0
// Memory that JavaScript sees as ArrayBuffers but that lives and dies by our calls: aligned allocations, and files mapped
// into memory. Freeing detaches the ArrayBuffer, so a use after it is an error about a count of 0, not a crash.
#pragma once
#include <napi.h>

namespace tacotune::addon {

/// allocate(bytes) → ArrayBuffer, 64-byte aligned, zeroed.
Napi::Value allocate(const Napi::CallbackInfo& info);
/// release(buffer): frees memory of `allocate` or `mapFile` now and detaches the buffer.
Napi::Value release(const Napi::CallbackInfo& info);
/// mapFile(file, offset, bytes) → ArrayBuffer of that part of an open file, copy-on-write: a stray write changes neither the
/// file nor other readers. A part and not the whole, since Node 20 allows no ArrayBuffer over 4 GB and model files are larger.
Napi::Value map_file(const Napi::CallbackInfo& info);
/// dropPages(buffer): gives the memory behind a mapped file back; it is read from the file again when next touched.
Napi::Value drop_pages(const Napi::CallbackInfo& info);
/// copyRange(from, fromOffset, to, toOffset, bytes) → bytes copied from one open file to another within the kernel, which costs
/// a third of reading and writing them; or minus the system's error number, -ENOSYS where there is no such call.
Napi::Value copy_range(const Napi::CallbackInfo& info);

}  // namespace tacotune::addon
