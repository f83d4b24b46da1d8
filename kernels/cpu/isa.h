// SPDX-License-Identifier: Apache-2.0
// Everything that the .inc kernels may use from outside, included before any target pragma (see simd.inc for why).
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
#include "../quant.h"
#include "dispatch.h"
#include "threads.h"
