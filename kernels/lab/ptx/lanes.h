// SPDX-License-Identifier: Apache-2.0
// A warp while it runs, and how instructions reach its lanes.
#pragma once
#include <cstring>

#include "kernels/lab/arithmetic.h"
#include "kernels/lab/ptx/module.h"

namespace tacotune::cuda::emulator::ptx {

constexpr uint32_t ALL_LANES = 0xffffffffu;

struct AsyncCopy {
  uint32_t lane, shared;
  const char* global;
  uint32_t bytes, valid_bytes, place;
};

/// Lanes that stand at the same instruction.
struct Group {
  enum class State : uint8_t { RUNNING, AT_BARRIER, WAITING } state = State::RUNNING;
  uint32_t pc = 0, mask = 0;
};

class Block;

class Warp {
 public:
  Block* block = nullptr;
  uint32_t index = 0, alive = 0;
  std::vector<Register> registers;
  std::vector<Group> groups;
  std::vector<char> local;  // (32, local bytes)
  // cp.async: group_ends[g] copies belong to the groups 0 … g.
  std::vector<AsyncCopy> copies[32];
  std::vector<uint32_t> group_ends[32];

  Register& reg(int32_t i) { return registers[static_cast<size_t>(i)]; }
};

template <class T>
inline T get(const Register& r, uint32_t lane) {
  if constexpr (sizeof(T) == 8) return bits_as<T>(r.q[lane]);
  else if constexpr (sizeof(T) == 4) return bits_as<T>(r.w[lane]);
  else return static_cast<T>(r.w[lane]);
}

template <class T>
inline void set(Register& r, uint32_t lane, T value) {
  if constexpr (sizeof(T) == 8) r.q[lane] = bits_as<uint64_t>(value);
  else if constexpr (sizeof(T) == 4) r.w[lane] = bits_as<uint32_t>(value);
  else r.w[lane] = static_cast<std::make_unsigned_t<T>>(value);
}

template <class Visit>
inline void for_lanes(uint32_t mask, Visit visit) {
  if (mask == ALL_LANES) {
    for (uint32_t lane = 0; lane < 32; lane++) visit(lane);
  } else {
    for (uint32_t rest = mask; rest; rest &= rest - 1) visit(static_cast<uint32_t>(__builtin_ctz(rest)));
  }
}

// ---- what decode.cc asks for ---------------------------------------------------------------------------------------------
/// Handlers by opcode and type; null where there is none. Operands are registers, destination first.
Handler arithmetic_handler(const std::string& name, const std::vector<std::string>& modifiers, Type type);
Handler comparison_handler(const std::string& comparison, Type type);
/// mode: 0 nearest even, 1 towards zero, 2 down, 3 up, 4 to nothing (keeps fractions). flag: saturate to [0, 1].
Handler conversion_handler(Type to, Type from);

// Instruction::mode of handlers in warp.cc.
void run_shuffle(Warp&, const Instruction&, uint32_t mask);  // mode: Shuffle
void run_vote(Warp&, const Instruction&, uint32_t mask);     // mode: 0 any, 1 all, 2 ballot
void run_mma(Warp&, const Instruction&, uint32_t mask);      // mode: 0 bf16, 1 f16
void run_pack(Warp&, const Instruction&, uint32_t mask);      // bytes of the whole, vector elements
void run_unpack(Warp&, const Instruction&, uint32_t mask);
void run_nothing(Warp&, const Instruction&, uint32_t mask);
// memory.cc
void run_load(Warp&, const Instruction&, uint32_t mask);     // flag: sign-extend
void run_store(Warp&, const Instruction&, uint32_t mask);
void run_load_parameter(Warp&, const Instruction&, uint32_t mask);
void run_ldmatrix(Warp&, const Instruction&, uint32_t mask);  // flag: transposed
void run_copy_async(Warp&, const Instruction&, uint32_t mask);
void run_copy_async_commit(Warp&, const Instruction&, uint32_t mask);
void run_copy_async_wait(Warp&, const Instruction&, uint32_t mask);  // offset: groups that may stay
enum class Atomic : uint8_t { ADD, MIN, MAX, EXCH, CAS, AND, OR, XOR };
Handler atomic_handler(Atomic kind, Type type);

}  // namespace tacotune::cuda::emulator::ptx
