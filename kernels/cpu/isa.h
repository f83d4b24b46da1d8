// SPDX-License-Identifier: Apache-2.0
// Everything that the .inc kernels may use from outside, included before any target pragma (see simd.inc for why).
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#pragma GCC diagnostic push
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 says it of its own header's undefined vectors
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
#include "../quant.h"
#include "dispatch.h"
#include "threads.h"
