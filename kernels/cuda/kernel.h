// SPDX-License-Identifier: Apache-2.0
// How a CUDA kernel is declared, once for three readers: nvcc, the emulator (kernels/lab), and the host code that launches
// it. Each op's header lists its kernels with their parameters:
//
//     #define TACOTUNE_SWIGLU_KERNELS(KERNEL)
//       KERNEL(swiglu_forward_kernel, (float* out, const float* gate, const float* up, Int n))
//     TACOTUNE_DECLARE_KERNELS(TACOTUNE_SWIGLU_KERNELS)
//
// In device code that is a forward declaration, so a definition with other parameters does not compile; in host code it is
// a type that carries name and signature, so launch<swiglu_forward_kernel>(…) converts and counts its arguments.
// bf16 and f16 travel as uint16_t or as raw bytes: host code needs no CUDA header.
#pragma once
#include "kernels/types.h"

#if defined(__CUDACC__) || defined(TACOTUNE_EMULATED_KERNELS)
#include "device.cuh"
#define TACOTUNE_KERNEL(name, parameters) extern "C" __global__ void name parameters;
#else
#define TACOTUNE_KERNEL(name, parameters)        \
  struct name {                                  \
    static constexpr const char* symbol = #name; \
    using Signature = void parameters;           \
  };
#endif

#define TACOTUNE_DECLARE_KERNELS(LIST) \
  namespace tacotune::cuda {           \
  LIST(TACOTUNE_KERNEL)                \
  }
