// SPDX-License-Identifier: Apache-2.0
// What each opcode needs: its handler, how wide its operands are, and what it keeps busy. The only list of what is known.
#include "kernels/lab/ptx/decode.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "kernels/lab/ptx/lanes.h"

namespace tacotune::cuda::emulator::ptx {

namespace {

std::vector<std::string> split(const std::string& text, char mark) {
  std::vector<std::string> parts;
  size_t start = 0;
  for (size_t i = 0; i <= text.size(); i++) {
    if (i < text.size() && text[i] != mark) continue;
    parts.push_back(text.substr(start, i - start));
    start = i + 1;
  }
  return parts;
}

/// The parts of an opcode: its name, and its modifiers.
struct Opcode {
  std::string name;
  std::vector<std::string> modifiers;
  std::vector<Type> types;
  explicit Opcode(const std::string& text) : modifiers(split(text, '.')) {
    name = modifiers[0];
    modifiers.erase(modifiers.begin());
    for (const auto& modifier : modifiers)
      if (const Type type = type_named(modifier); type != Type::NONE) types.push_back(type);
  }
  bool has(const char* word) const { return std::find(modifiers.begin(), modifiers.end(), word) != modifiers.end(); }
  /// The place of the first of `words` that it has, or -1.
  int which(std::initializer_list<const char*> words) const {
    int place = 0;
    for (const char* word : words) {
      if (has(word)) return place;
      place++;
    }
    return -1;
  }
  Type type() const { return types.empty() ? Type::NONE : types.back(); }
};

Space space_of(const Opcode& opcode) {
  switch (opcode.which({"global", "shared", "shared::cta", "local", "param", "const"})) {
    case 0: return Space::GLOBAL;
    case 1: case 2: return Space::SHARED;
    case 3: return Space::LOCAL;
    case 4: return Space::PARAM;
    case 5: return Space::CONSTANT;
    default: return Space::GENERIC;
  }
}

Work work_of_arithmetic(const std::string& name, Type type) {
  if (name == "mov" || name == "selp") return Work::MOVE;
  if (name == "ex2" || name == "lg2" || name == "sin" || name == "cos" || name == "rcp" || name == "sqrt" || name == "rsqrt") return Work::FUNCTION;
  return type == Type::F32 || type == Type::F64 ? Work::FLOAT : Work::INTEGER;
}

[[noreturn]] void unknown(const std::string& what) { throw std::runtime_error("the interpreter does not know " + what); }

}  // namespace

int32_t Decoder::constant(uint64_t bits, bool wide) {
  const auto [found, fresh] = constants_.try_emplace({bits, wide}, static_cast<int32_t>(entry.registers));
  if (fresh) {
    entry.registers++;
    entry.constants.push_back({found->second, {bits, wide}});
  }
  return found->second;
}

int32_t Decoder::special(const std::string& name) {
  static const std::map<std::string, Special> known = {
      {"%tid.x", Special::TID_X},     {"%tid.y", Special::TID_Y},     {"%tid.z", Special::TID_Z},       {"%ntid.x", Special::NTID_X},     {"%ntid.y", Special::NTID_Y},
      {"%ntid.z", Special::NTID_Z},   {"%ctaid.x", Special::CTAID_X}, {"%ctaid.y", Special::CTAID_Y},   {"%ctaid.z", Special::CTAID_Z},   {"%nctaid.x", Special::NCTAID_X},
      {"%nctaid.y", Special::NCTAID_Y}, {"%nctaid.z", Special::NCTAID_Z}, {"%laneid", Special::LANE}, {"%warpid", Special::WARP}};
  const auto found = known.find(name);
  if (found == known.end()) return -1;
  const auto [place, fresh] = specials_.try_emplace(name, static_cast<int32_t>(entry.registers));
  if (fresh) {
    entry.registers++;
    entry.specials.push_back({place->second, found->second});
  }
  return place->second;
}

/// A register, an immediate, a special register or the value of a symbol.
int32_t Decoder::operand(const std::string& text, bool wide) {
  if (text == "_") return -1;
  if (const auto found = registers_.find(text); found != registers_.end()) return found->second.index;
  if (const int32_t index = special(text); index >= 0) return index;
  if (const auto found = symbols.find(text); found != symbols.end()) return constant(found->second.value, wide);
  const char* const start = text.c_str();
  char* end = nullptr;
  uint64_t bits = 0;
  if (text.size() > 2 && text[0] == '0' && strchr("fFdD", text[1])) bits = strtoull(start + 2, &end, 16);
  else bits = text[0] == '-' ? static_cast<uint64_t>(strtoll(start, &end, 0)) : strtoull(start, &end, 0);
  if (!end || *end != 0 || end == start) unknown("the operand " + text);
  return constant(wide ? bits : bits & 0xffffffffu, wide);
}

std::vector<std::string> Decoder::elements(const std::string& text) const {
  return text[0] == '{' ? split(text.substr(1, text.size() - 2), ',') : std::vector<std::string>{text};
}

int32_t Decoder::address(const std::string& text, Instruction& instruction) {
  const std::string inner = text.substr(1, text.size() - 2);
  const size_t plus = inner.find('+');
  const std::string base = inner.substr(0, plus);
  instruction.offset = plus == std::string::npos ? 0 : strtoll(inner.c_str() + plus + 1, nullptr, 0);
  if (const auto found = registers_.find(base); found != registers_.end()) {
    instruction.wide_base = found->second.wide;
    return found->second.index;
  }
  const auto found = symbols.find(base);
  if (found == symbols.end()) unknown("the address " + text);
  if (instruction.space == Space::GENERIC) instruction.space = found->second.space;
  instruction.wide_base = true;
  return constant(found->second.value, true);
}

void Decoder::add(const Statement& statement) {
  Instruction instruction;
  instruction.place = statement.place;
  instruction.operands.fill(-1);
  try {
    if (!statement.guard.empty()) {
      instruction.guard = operand(statement.guard, false);
      instruction.guard_negated = statement.guard_negated;
    }
    decode(statement, instruction);
    if (!instruction.run) unknown(statement.opcode);
  } catch (const std::exception& error) {
    if (entry.trouble.empty()) entry.trouble = error.what();
  }
  entry.code.push_back(instruction);
}

void Decoder::decode(const Statement& statement, Instruction& in) {
  const Opcode op(statement.opcode);
  const Type type = op.type();
  const bool wide = bytes_of(type) == 8;
  const auto& operands = statement.operands;
  const auto need = [&](size_t count) {
    if (operands.size() < count) unknown(statement.opcode + " with " + std::to_string(operands.size()) + " operands");
  };
  const auto use = [&](size_t place, size_t from, bool is_wide) { in.operands[place] = operand(operands.at(from), is_wide); };
  const auto list = [&](size_t place, size_t from, bool is_wide, size_t most) {
    const auto parts = elements(operands.at(from));
    if (parts.size() > most) unknown(statement.opcode + " of " + std::to_string(parts.size()) + " elements");
    for (const auto& part : parts) in.operands[place++] = operand(part, is_wide);
    return parts.size();
  };

  // ---- control and synchronisation ----
  if (op.name == "bra") {
    in.flow = Flow::BRANCH;
    in.run = run_nothing;
    branches_.emplace_back(entry.code.size(), operands.at(0));
  } else if (op.name == "ret" || op.name == "exit") {
    in.flow = Flow::RETURN;
    in.run = run_nothing;
  } else if ((op.name == "bar" || op.name == "barrier") && op.has("warp")) {
    in.flow = Flow::COLLECTIVE;
    in.run = run_nothing;
    in.work = Work::BARRIER;
    use(1, 0, false);
    in.members = in.operands[1];
  } else if (op.name == "bar" || op.name == "barrier") {
    const bool reduces = op.has("red");
    const std::string& number = operands.at(reduces ? 1 : 0);
    if ((!op.has("sync") && !reduces) || number != "0" || operands.size() != (reduces ? 3u : 1u)) unknown(statement.opcode + " with a number or a count of threads");
    in.flow = Flow::BARRIER;
    in.run = run_nothing;
    in.work = Work::BARRIER;
    if (!reduces) return;
    in.mode = static_cast<uint8_t>(1 + op.which({"or", "and", "popc"}));
    use(0, 0, false);
    in.flag = operands[2][0] == '!';
    in.operands[1] = operand(in.flag ? operands[2].substr(1) : operands[2], false);
  } else if (op.name == "membar" || op.name == "fence") {
    in.run = run_nothing;
  } else if (op.name == "shfl") {
    need(5);
    in.flow = Flow::COLLECTIVE;
    in.work = Work::SHUFFLE;
    in.run = run_shuffle;
    in.mode = static_cast<uint8_t>(op.which({"idx", "bfly", "down", "up"}));
    const auto results = split(operands[0], '|');
    in.operands[0] = operand(results[0], false);
    if (results.size() > 1) in.operands[5] = operand(results[1], false);
    for (size_t i = 1; i < 5; i++) use(i, i, false);
    in.members = in.operands[4];
  } else if (op.name == "vote") {
    need(3);
    in.flow = Flow::COLLECTIVE;
    in.work = Work::SHUFFLE;
    in.run = run_vote;
    in.mode = static_cast<uint8_t>(op.which({"any", "all", "ballot"}));
    use(0, 0, false);
    in.flag = operands[1][0] == '!';
    in.operands[1] = operand(in.flag ? operands[1].substr(1) : operands[1], false);
    use(2, 2, false);
    in.members = in.operands[2];
  } else if (op.name == "mma") {
    need(4);
    const bool bf16 = statement.opcode == "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32";
    if (!bf16 && statement.opcode != "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32") unknown(statement.opcode);
    in.flow = Flow::COLLECTIVE;
    in.work = Work::MMA;
    in.run = run_mma;
    in.mode = bf16 ? 0 : 1;
    list(0, 0, false, 4), list(4, 1, false, 4), list(8, 2, false, 2), list(10, 3, false, 4);
  } else if (op.name == "ldmatrix") {
    need(2);
    if (!op.has("x4") || !op.has("b16")) unknown(statement.opcode);
    in.flow = Flow::COLLECTIVE;
    in.work = Work::LDMATRIX;
    in.run = run_ldmatrix;
    in.flag = op.has("trans");
    list(0, 0, false, 4);
    in.space = Space::SHARED;
    in.operands[4] = address(operands[1], in);
    // ---- memory ----
  } else if (op.name == "ld" || op.name == "ldu" || op.name == "st") {
    need(2);
    const bool load = op.name != "st";
    in.space = space_of(op);
    in.bytes = static_cast<uint8_t>(bytes_of(type));
    in.flag = type == Type::S8 || type == Type::S16 || type == Type::S32;
    in.operands[4] = address(operands[load ? 1 : 0], in);
    in.vector = static_cast<uint8_t>(list(0, load ? 0 : 1, wide, 4));
    const auto value = registers_.find(elements(operands[load ? 0 : 1])[0]);
    in.wide_value = value == registers_.end() ? wide : value->second.wide;
    in.run = in.space == Space::PARAM ? run_load_parameter : load ? run_load : run_store;
    switch (in.space) {
      case Space::SHARED: in.work = load ? Work::SHARED_LOAD : Work::SHARED_STORE; break;
      case Space::LOCAL: in.work = Work::LOCAL; break;
      case Space::PARAM: case Space::CONSTANT: in.work = Work::MOVE; break;
      default: in.work = load ? Work::GLOBAL_LOAD : Work::GLOBAL_STORE;
    }
  } else if (op.name == "atom" || op.name == "red") {
    const bool returns = op.name == "atom";
    const int kind = op.which({"add", "min", "max", "exch", "cas", "and", "or", "xor"});
    in.space = space_of(op);
    in.bytes = static_cast<uint8_t>(bytes_of(type));
    in.work = Work::ATOMIC;
    if (returns) use(0, 0, wide);
    in.operands[4] = address(operands.at(returns ? 1 : 0), in);
    use(1, returns ? 2 : 1, wide);
    if (kind == 4) use(2, 3, wide);
    in.run = kind < 0 ? nullptr : atomic_handler(static_cast<Atomic>(kind), type);
  } else if (op.name == "cp" && op.has("async")) {
    in.work = Work::COPY_ASYNC;
    if (op.has("commit_group")) in.run = run_copy_async_commit;
    else if (op.has("wait_group")) in.run = run_copy_async_wait, in.offset = strtoll(operands.at(0).c_str(), nullptr, 0);
    else if (op.has("wait_all")) unknown(statement.opcode);
    else {
      need(3);
      Instruction source;
      source.space = Space::GLOBAL;
      in.space = Space::SHARED;
      in.operands[4] = address(operands[0], in);
      in.operands[0] = address(operands[1], source);
      if (source.offset != 0 || !source.wide_base) unknown(statement.opcode + " with an offset in global memory");
      in.bytes = static_cast<uint8_t>(strtoul(operands[2].c_str(), nullptr, 0));
      in.operands[1] = operands.size() > 3 ? operand(operands[3], false) : constant(in.bytes, false);
      in.run = run_copy_async;
    }
  } else if (op.name == "cvta") {
    // Global and constant addresses are generic as they are; the two windows are added or taken away.
    need(2);
    const Space space = space_of(op);
    const uint64_t window = space == Space::SHARED ? SHARED_WINDOW : space == Space::LOCAL ? LOCAL_WINDOW : 0;
    in.work = Work::MOVE;
    in.run = arithmetic_handler(op.has("to") ? "sub" : "add", {}, Type::U64);
    use(0, 0, true);
    use(1, 1, true);
    in.operands[2] = constant(window, true);
    // ---- arithmetic ----
  } else if (op.name == "setp") {
    need(3);
    in.work = Work::INTEGER;
    in.run = comparison_handler(op.modifiers.at(0), type);
    const auto results = split(operands[0], '|');
    in.operands[0] = operand(results[0], false);
    if (results.size() > 1) in.operands[1] = operand(results[1], false);
    use(2, 1, wide);
    use(3, 2, wide);
    if (operands.size() < 4) return;
    in.mode = static_cast<uint8_t>(1 + op.which({"and", "or", "xor"}));
    in.flag = operands[3][0] == '!';
    in.operands[4] = operand(in.flag ? operands[3].substr(1) : operands[3], false);
  } else if (op.name == "cvt") {
    need(2);
    const Type to = op.types.at(0), from = op.types.at(1);
    const bool rounds_in = op.has("rni") || op.has("rzi") || op.has("rmi") || op.has("rpi");
    in.work = Work::CONVERSION;
    in.run = op.has("relu") || op.has("rz") || op.has("rm") || op.has("rp") ? nullptr : conversion_handler(to, from);
    in.mode = static_cast<uint8_t>(rounds_in ? op.which({"rni", "rzi", "rmi", "rpi"}) : 4);
    in.flag = op.has("sat");
    use(0, 0, bytes_of(to) == 8);
    for (size_t i = 1; i < operands.size(); i++) use(i, i, bytes_of(from) == 8);
  } else if (op.name == "mov" && (operands.at(0)[0] == '{' || operands.at(1)[0] == '{')) {
    in.work = Work::MOVE;
    in.bytes = static_cast<uint8_t>(bytes_of(type));
    const bool packs = operands[1][0] == '{';
    in.vector = static_cast<uint8_t>(list(1, packs ? 1 : 0, false, 4));
    in.run = packs ? run_pack : run_unpack;
    if (in.bytes / in.vector == 8) unknown(statement.opcode + " of 16 bytes");
    use(0, packs ? 0 : 1, wide);
  } else {
    in.work = work_of_arithmetic(op.name, type);
    in.run = arithmetic_handler(op.name, op.modifiers, type);
    in.flag = op.has("wrap") || op.has("shiftamt");
    // Widening products take narrow factors; shifts and bit fields take 32-bit positions; selp ends with a predicate.
    const bool widens = op.has("wide"), shifts = op.name == "shl" || op.name == "shr", fields = op.name == "bfi" || op.name == "bfe";
    const bool counts = op.name == "popc" || op.name == "clz" || op.name == "bfind";
    for (size_t i = 0; i < operands.size(); i++) {
      bool operand_wide = wide;
      if (widens) operand_wide = bytes_of(type) == 4 && (i == 0 || i == 3);
      if (shifts && i == 2) operand_wide = false;
      if (fields && i >= (op.name == "bfi" ? 3u : 2u)) operand_wide = false;
      if (op.name == "selp" && i == 3) operand_wide = false;
      if (counts && i == 0) operand_wide = false;
      const std::string& text = operands[i];
      if (text[0] == '!') unknown(statement.opcode + " of a negated predicate");
      // A predicate is 0 or 1 here, and nvcc writes -1 for true.
      if (type == Type::PRED && (isdigit(static_cast<unsigned char>(text[0])) || text[0] == '-')) in.operands[i] = constant(text != "0", false);
      else in.operands[i] = operand(text, operand_wide);
    }
  }
}

void Decoder::finish() {
  for (const auto& [at, label] : branches_) {
    const auto found = labels_.find(label);
    if (found != labels_.end()) entry.code[at].target = found->second;
    else if (entry.trouble.empty()) entry.trouble = "a branch to " + label + ", which is nowhere";
  }
}

}  // namespace tacotune::cuda::emulator::ptx
