// SPDX-License-Identifier: Apache-2.0
// Statements of a kernel into instructions. Names mean what they mean where the statement stands; only labels come later.
#pragma once
#include "kernels/lab/ptx/module.h"

namespace tacotune::cuda::emulator::ptx {

struct Symbol {
  Space space;
  uint64_t value;  // an offset in its space, or an address
};

struct Statement {
  std::string guard, opcode;
  bool guard_negated = false;
  std::vector<std::string> operands;
  uint32_t place = 0;
};

class Decoder {
 public:
  Decoder(Entry& entry_, const std::map<std::string, Symbol>& module_symbols) : entry(entry_), symbols(module_symbols) {}

  Entry& entry;
  std::map<std::string, Symbol> symbols;

  /// A name declared again, as inline assembly does in its own braces, means the new register from there on.
  void declare(const std::string& name, bool wide) { registers_[name] = {static_cast<int32_t>(entry.registers++), wide}; }
  void label(const std::string& name) { labels_[name] = static_cast<uint32_t>(entry.code.size()); }
  /// What it does not know becomes the kernel's trouble; the first one stays.
  void add(const Statement& statement);
  void finish();

 private:
  void decode(const Statement& statement, Instruction& instruction);
  int32_t operand(const std::string& text, bool wide);
  std::vector<std::string> elements(const std::string& text) const;
  int32_t constant(uint64_t bits, bool wide);
  int32_t special(const std::string& name);
  /// `[%rd1+16]` or `[symbol+16]`: returns the base register, and sets offset, space and wide_base.
  int32_t address(const std::string& text, Instruction& instruction);

  struct Named {
    int32_t index;
    bool wide;
  };
  std::map<std::string, Named> registers_;
  std::map<std::string, int32_t> specials_;
  std::map<std::pair<uint64_t, bool>, int32_t> constants_;
  std::map<std::string, uint32_t> labels_;
  std::vector<std::pair<size_t, std::string>> branches_;  // instruction, label
};

}  // namespace tacotune::cuda::emulator::ptx
