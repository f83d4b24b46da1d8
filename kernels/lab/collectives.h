// SPDX-License-Identifier: Apache-2.0
// What a warp computes together. Each lane brings an Exchange; the last lane to arrive computes for all that are in the
// mask. Nothing here waits or fails: emulator.cc has seen to it that all lanes are there and do the same.
#pragma once
#include "kernels/lab/emulator.h"

namespace tacotune::cuda::emulator {

struct Exchange;
using Compute = void (*)(Exchange** lanes, uint32_t mask);

struct Exchange {
  Compute compute;
  bool orders_memory = false;  // __syncwarp does, shuffles and votes do not
  bool aligned = false;        // .aligned in PTX: all lanes execute the same instruction
};

inline void compute_nothing(Exchange**, uint32_t) {}

template <class Visit>
void each_lane(uint32_t mask, Visit visit) {
  for (uint32_t rest = mask; rest; rest &= rest - 1) visit(__builtin_ctz(rest));
}

struct ShuffleExchange : Exchange {
  ShuffleExchange(Shuffle kind_, uint64_t value_, int operand_, int width_) : Exchange{run}, kind(kind_), value(value_), operand(operand_), width(width_) {}
  Shuffle kind;
  uint64_t value, result = 0;
  int operand, width;

  int source(int lane) const {
    const int first = lane & ~(width - 1), last = first + width - 1;
    switch (kind) {
      case Shuffle::INDEX: return first + (operand & (width - 1));
      case Shuffle::XOR: return (lane ^ operand) > last ? lane : lane ^ operand;
      case Shuffle::DOWN: return lane + operand > last ? lane : lane + operand;
      default: return lane - operand < first ? lane : lane - operand;
    }
  }
  static void run(Exchange** lanes, uint32_t mask) {
    each_lane(mask, [&](int lane) {
      auto& mine = *static_cast<ShuffleExchange*>(lanes[lane]);
      const int source = mine.source(lane);
      // From a lane outside the mask the value is undefined: poison, which no result should survive.
      mine.result = mask >> source & 1u ? static_cast<ShuffleExchange*>(lanes[source])->value : ~uint64_t(0);
    });
  }
};

struct BallotExchange : Exchange {
  explicit BallotExchange(bool predicate_) : Exchange{run}, predicate(predicate_) {}
  bool predicate;
  uint32_t result = 0;
  static void run(Exchange** lanes, uint32_t mask) {
    uint32_t votes = 0;
    each_lane(mask, [&](int lane) { votes |= uint32_t(static_cast<BallotExchange*>(lanes[lane])->predicate) << lane; });
    each_lane(mask, [&](int lane) { static_cast<BallotExchange*>(lanes[lane])->result = votes; });
  }
};

template <class T>
struct ReductionExchange : Exchange {
  ReductionExchange(Reduction kind_, T value_) : Exchange{run}, kind(kind_), value(value_) {}
  Reduction kind;
  T value;
  static T combine(Reduction kind, T a, T b) {
    switch (kind) {
      case Reduction::ADD: return static_cast<T>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
      case Reduction::MIN: return b < a ? b : a;
      case Reduction::MAX: return a < b ? b : a;
      case Reduction::AND: return a & b;
      case Reduction::OR: return a | b;
      default: return a ^ b;
    }
  }
  static void run(Exchange** lanes, uint32_t mask) {
    auto& first = *static_cast<ReductionExchange*>(lanes[__builtin_ctz(mask)]);
    T total = first.value;
    each_lane(mask & (mask - 1), [&](int lane) { total = combine(first.kind, total, static_cast<ReductionExchange*>(lanes[lane])->value); });
    each_lane(mask, [&](int lane) { static_cast<ReductionExchange*>(lanes[lane])->value = total; });
  }
};

// Fragment layouts of the PTX ISA for m16n8k16 and 16-bit factors, with g = lane/4 and t = lane%4:
//   a[r], half h: row g + 8·(r mod 2), column 2t + h + 8·(r div 2)
//   b[r], half h: row 2t + h + 8r, column g
//   c[i], d[i]:   row g + 8·(i div 2), column 2t + i mod 2
template <float (*value_of)(uint16_t)>
struct MmaExchange : Exchange {
  MmaExchange(float* d_, const uint32_t* a_, const uint32_t* b_, const float* c_) : Exchange{run, false, true}, d(d_), a(a_), b(b_), c(c_) {}
  float* d;
  const uint32_t *a, *b;
  const float* c;

  static void run(Exchange** lanes, uint32_t) {
    float A[16][16], B[16][8], D[16][8];
    for (int lane = 0; lane < 32; lane++) {
      const auto& mine = *static_cast<MmaExchange*>(lanes[lane]);
      const int g = lane / 4, t = lane % 4;
      for (int r = 0; r < 4; r++)
        for (int h = 0; h < 2; h++) A[g + 8 * (r % 2)][2 * t + h + 8 * (r / 2)] = value_of(static_cast<uint16_t>(mine.a[r] >> 16 * h));
      for (int r = 0; r < 2; r++)
        for (int h = 0; h < 2; h++) B[2 * t + h + 8 * r][g] = value_of(static_cast<uint16_t>(mine.b[r] >> 16 * h));
      for (int i = 0; i < 4; i++) D[g + 8 * (i / 2)][2 * t + i % 2] = mine.c[i];
    }
    for (int m = 0; m < 16; m++)
      for (int k = 0; k < 16; k++)
        for (int n = 0; n < 8; n++) D[m][n] += A[m][k] * B[k][n];
    for (int lane = 0; lane < 32; lane++) {
      const auto& mine = *static_cast<MmaExchange*>(lanes[lane]);
      for (int i = 0; i < 4; i++) mine.d[i] = D[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
    }
  }
};

/// ldmatrix: lane l receives of matrix i the elements 2·(l%4) and 2·(l%4)+1 of row l/4; transposed, the element l/4 of the
/// rows 2·(l%4) and 2·(l%4)+1.
struct MatrixExchange : Exchange {
  MatrixExchange(uint32_t* r_, const void* row_, bool transposed_) : Exchange{transposed_ ? run<true> : run<false>, false, true}, r(r_), row(row_) {}
  uint32_t* r;
  const void* row;
  const void* rows[32];  // of all lanes, for the checker

  template <bool transposed>
  static void run(Exchange** lanes, uint32_t) {
    const uint16_t* rows[32];
    for (int lane = 0; lane < 32; lane++) rows[lane] = static_cast<const uint16_t*>(static_cast<MatrixExchange*>(lanes[lane])->row);
    for (int lane = 0; lane < 32; lane++) {
      auto& mine = *static_cast<MatrixExchange*>(lanes[lane]);
      memcpy(mine.rows, rows, sizeof rows);
      for (int i = 0; i < 4; i++) {
        const uint16_t* const* matrix = rows + 8 * i;
        const int g = lane / 4, t = 2 * (lane % 4);
        const uint16_t low = transposed ? matrix[t][g] : matrix[g][t], high = transposed ? matrix[t + 1][g] : matrix[g][t + 1];
        mine.r[i] = low | static_cast<uint32_t>(high) << 16;
      }
    }
  }
};

}  // namespace tacotune::cuda::emulator
