// SPDX-License-Identifier: Apache-2.0
// What a kernel that met a bad index leaves behind: ids, labels and positions lie on the device, where the host's checks do
// not reach. The host reads it with every download. The first one to come stays.
#pragma once
#include <cstdint>

namespace tacotune::cuda {

struct Fault {
  int32_t op;     // 1 + the op's place in TACOTUNE_OPS; 0: none
  int32_t value;  // what was found
  int64_t index;  // where
};

}  // namespace tacotune::cuda
