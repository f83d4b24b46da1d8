// SPDX-License-Identifier: Apache-2.0
// A PTX module as the interpreter keeps it: each instruction decoded once into a function over the lanes of a warp. Operands
// are registers throughout; immediates and special registers are registers that were filled beforehand.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace tacotune::cuda::emulator::ptx {

enum class Type : uint8_t { NONE, PRED, B8, B16, B32, B64, U8, U16, U32, U64, S8, S16, S32, S64, F16, BF16, F16X2, BF16X2, F32, F64 };
Type type_named(const std::string& name);
uint32_t bytes_of(Type type);

/// 32 lanes of up to 8 bytes. Types of 1, 2 and 4 bytes, and predicates, live in `w`.
struct alignas(64) Register {
  union {
    uint32_t w[32];
    uint64_t q[32];
  };
};

class Warp;
struct Instruction;
using Handler = void (*)(Warp&, const Instruction&, uint32_t mask);

enum class Flow : uint8_t { NEXT, BRANCH, RETURN, BARRIER, COLLECTIVE };
enum class Space : uint8_t { GENERIC, GLOBAL, SHARED, LOCAL, PARAM, CONSTANT };

/// What an instruction keeps busy, for the mix of a kernel's instructions.
enum class Work : uint8_t { MMA, LDMATRIX, SHARED_LOAD, SHARED_STORE, GLOBAL_LOAD, GLOBAL_STORE, COPY_ASYNC, LOCAL, ATOMIC, FLOAT, INTEGER, CONVERSION, FUNCTION, SHUFFLE, BARRIER, CONTROL, MOVE };
constexpr const char* WORK_NAMES[] = {"mma",   "ldmatrix", "sharedLoad", "sharedStore", "globalLoad", "globalStore", "copyAsync", "local", "atomic",
                                      "float", "integer",  "conversion", "function",    "shuffle",    "barrier",     "control",   "move"};
constexpr size_t WORKS = sizeof WORK_NAMES / sizeof *WORK_NAMES;

struct Instruction {
  Handler run = nullptr;
  Flow flow = Flow::NEXT;
  Work work = Work::CONTROL;
  int32_t guard = -1;  // a predicate register
  bool guard_negated = false;
  // Variations of one handler:
  uint8_t mode = 0, vector = 1, bytes = 4;
  bool flag = false, wide_base = false, wide_value = false;  // registers of 8 bytes as the address, as what is loaded or stored
  Space space = Space::GENERIC;
  int64_t offset = 0;
  uint32_t target = 0;
  int32_t members = -1;                // of a collective: the register of its mask; -1: all lanes
  std::array<int32_t, 14> operands{};  // registers, destination first; -1: none
  uint32_t place = 0;                  // in Entry::places
};

struct Place {
  std::string file;
  uint32_t line = 0;
};

struct Constant {
  uint64_t bits;
  bool wide;  // 8 bytes
};

struct Parameter {
  uint32_t offset, bytes;
};

struct SharedArray {
  std::string name;
  uint32_t offset, bytes;
};

enum class Special : uint8_t { TID_X, TID_Y, TID_Z, NTID_X, NTID_Y, NTID_Z, CTAID_X, CTAID_Y, CTAID_Z, NCTAID_X, NCTAID_Y, NCTAID_Z, LANE, WARP };

/// One kernel.
struct Entry {
  std::string name, trouble;  // `trouble`: why it cannot be interpreted
  std::vector<Instruction> code;
  std::vector<Place> places;
  std::vector<Parameter> parameters;
  uint32_t parameter_bytes = 0, registers = 0, shared_bytes = 0, local_bytes = 0, most_threads = 1024;
  std::vector<SharedArray> shared;
  std::vector<std::pair<int32_t, Constant>> constants;  // register, value
  std::vector<std::pair<int32_t, Special>> specials;
};

struct Module {
  std::map<std::string, Entry> entries;
  std::vector<std::unique_ptr<std::vector<char>>> tables;  // .const and .global arrays; their addresses are in the code
};

/// @throws std::runtime_error where the text is no PTX. A kernel with an unknown instruction is kept with its trouble.
Module parse(const std::string& text);

/// Generic addresses of shared and local memory lie in windows that no host address reaches.
constexpr uint64_t SHARED_WINDOW = uint64_t(1) << 60, LOCAL_WINDOW = uint64_t(1) << 61, WINDOW_BYTES = uint64_t(1) << 32;

}  // namespace tacotune::cuda::emulator::ptx
