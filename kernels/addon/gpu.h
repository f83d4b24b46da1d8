// SPDX-License-Identifier: Apache-2.0
// GPUs as JavaScript sees them. An operand is an object { address, count, elementBytes } over memory that this module gave
// out; every call checks that all of it still is, so a wrong call throws and no address is ever trusted.
#pragma once
#include <napi.h>

namespace tacotune::addon {

/// listGpus() → [{ name, computeCapability, multiprocessors, memoryBytes, … }]. Throws where there is no usable driver.
Napi::Value list_gpus(const Napi::CallbackInfo& info);
/// openGpu(ordinal, folder of modules) → an object with every op of ops.h, and memory, copies and facts.
Napi::Value open_gpu(const Napi::CallbackInfo& info);

}  // namespace tacotune::addon
