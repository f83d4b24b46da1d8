// SPDX-License-Identifier: Apache-2.0
// Reads the PTX that nvcc writes: module tables, kernels with their parameters and arrays, and statements, which decode.cc
// turns into instructions. Line information is followed through inlining to the kernel's own line.
#include <cctype>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "kernels/lab/ptx/decode.h"

namespace tacotune::cuda::emulator::ptx {

Type type_named(const std::string& name) {
  static const std::map<std::string, Type> types = {
      {"pred", Type::PRED}, {"b8", Type::B8},   {"b16", Type::B16}, {"b32", Type::B32}, {"b64", Type::B64},   {"u8", Type::U8},         {"u16", Type::U16},
      {"u32", Type::U32},   {"u64", Type::U64}, {"s8", Type::S8},   {"s16", Type::S16}, {"s32", Type::S32},   {"s64", Type::S64},       {"f16", Type::F16},
      {"bf16", Type::BF16}, {"f32", Type::F32}, {"f64", Type::F64}, {"f16x2", Type::F16X2}, {"bf16x2", Type::BF16X2}};
  const auto found = types.find(name);
  return found == types.end() ? Type::NONE : found->second;
}

uint32_t bytes_of(Type type) {
  switch (type) {
    case Type::B8: case Type::U8: case Type::S8: return 1;
    case Type::B16: case Type::U16: case Type::S16: case Type::F16: case Type::BF16: return 2;
    case Type::B64: case Type::U64: case Type::S64: case Type::F64: return 8;
    default: return 4;
  }
}

namespace {

/// Words (with their dots, percent and dollar signs), numbers, strings, and single marks.
std::vector<std::string> tokens_of(const std::string& text) {
  std::vector<std::string> tokens;
  const auto in_word = [](char c) { return isalnum(static_cast<unsigned char>(c)) || strchr("_$%.", c); };
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (isspace(static_cast<unsigned char>(c))) {
      i++;
    } else if (text.compare(i, 2, "//") == 0) {
      i = std::min(text.find('\n', i), text.size());
    } else if (text.compare(i, 2, "/*") == 0) {
      const size_t end = text.find("*/", i);
      if (end == std::string::npos) throw std::runtime_error("PTX: a comment without an end");
      i = end + 2;
    } else if (c == '"') {
      const size_t end = text.find('"', i + 1);
      if (end == std::string::npos) throw std::runtime_error("PTX: a string without an end");
      tokens.push_back(text.substr(i, end + 1 - i));
      i = end + 1;
    } else if (in_word(c) || (c == '-' && i + 1 < text.size() && isdigit(static_cast<unsigned char>(text[i + 1])))) {
      size_t end = i + 1;
      while (end < text.size() && (in_word(text[end]) || text.compare(end, 2, "::") == 0)) end += text[end] == ':' ? 2 : 1;
      tokens.push_back(text.substr(i, end - i));
      i = end;
    } else {
      tokens.emplace_back(1, c);
      i++;
    }
  }
  return tokens;
}

class Parser {
 public:
  explicit Parser(const std::string& text) : tokens_(tokens_of(text)) {}

  Module run() {
    read_files();
    while (at_ < tokens_.size()) top_level();
    return std::move(module_);
  }

 private:
  using Line = std::array<uint32_t, 3>;  // file, line, column

  const std::string& peek() const {
    if (at_ >= tokens_.size()) throw std::runtime_error("PTX: it ends in the middle");
    return tokens_[at_];
  }
  std::string next() { return peek(), tokens_[at_++]; }
  bool take(const char* word) { return peek() == word && ++at_; }
  void expect(const char* word) {
    if (!take(word)) throw std::runtime_error(std::string("PTX: expected ") + word + ", got " + peek());
  }
  void skip_to(const char* word) {
    while (next() != word) {}
  }
  uint32_t number() { return static_cast<uint32_t>(strtoul(next().c_str(), nullptr, 0)); }

  /// Files are named at the end of the text and used before.
  void read_files() {
    for (size_t i = 0; i + 2 < tokens_.size(); i++)
      if (tokens_[i] == ".file") files_[static_cast<uint32_t>(strtoul(tokens_[i + 1].c_str(), nullptr, 0))] = tokens_[i + 2].substr(1, tokens_[i + 2].size() - 2);
  }

  void top_level() {
    const std::string word = next();
    if (word == ".version" || word == ".target" || word == ".address_size") {
      next();
      while (at_ < tokens_.size() && peek() == ",") next(), next();  // .target sm_80, debug
    } else if (word == ".file") {
      at_ += 2;
      while (at_ + 1 < tokens_.size() && peek() == ",") next(), next();
    } else if (word == ".section") {
      skip_to("}");
    } else if (word == ".visible" || word == ".weak") {
      // what follows is what counts
    } else if (word == ".entry") {
      entry();
    } else if (word == ".extern") {
      expect(".shared");
      variable(Space::SHARED, true);
    } else if (word == ".shared") {
      variable(Space::SHARED, false);
    } else if (word == ".const" || word == ".global") {
      variable(Space::CONSTANT, false);
    } else {
      throw std::runtime_error("PTX: what is " + word + "?");
    }
  }

  /// `.align 4 .b8 name[32] = {1, 2};` after its state space.
  void variable(Space space, bool is_extern) {
    uint32_t alignment = 1, count = 1;
    Type type = Type::B8;
    std::string name;
    for (std::string word = next(); word != ";"; word = next()) {
      if (word == ".align") alignment = number();
      else if (word == "[") count = take("]") ? 0 : number(), count ? expect("]") : void();
      else if (word == "=") { initial_values(name, type, count); return; }
      else if (word[0] == '.') type = type_named(word.substr(1));
      else name = word;
    }
    alignment = std::max(alignment, bytes_of(type));
    const uint32_t bytes = count * bytes_of(type);
    if (is_extern) dynamic_shared_ = name;
    else if (space == Space::CONSTANT) initial_values(name, type, count, {});
    else if (!decoder_) module_shared_[name] = {alignment, bytes};
    else place_array(space, name, alignment, bytes);
  }

  void initial_values(const std::string& name, Type type, uint32_t count) {
    std::vector<uint64_t> values;
    if (take("{")) {
      while (!take("}"))
        if (!take(",")) values.push_back(value_of(next()));
    } else {
      values.push_back(value_of(next()));
    }
    expect(";");
    initial_values(name, type, count, values);
  }
  void initial_values(const std::string& name, Type type, uint32_t count, const std::vector<uint64_t>& values) {
    auto bytes = std::make_unique<std::vector<char>>(count * bytes_of(type) + 16);
    for (size_t i = 0; i < values.size(); i++) memcpy(bytes->data() + i * bytes_of(type), &values[i], bytes_of(type));
    symbols_[name] = {Space::CONSTANT, reinterpret_cast<uint64_t>(bytes->data())};
    module_.tables.push_back(std::move(bytes));
  }
  static uint64_t value_of(const std::string& word) {
    if (word.size() > 2 && word[0] == '0' && strchr("fFdD", word[1])) return strtoull(word.c_str() + 2, nullptr, 16);
    return word[0] == '-' ? static_cast<uint64_t>(strtoll(word.c_str(), nullptr, 0)) : strtoull(word.c_str(), nullptr, 0);
  }

  void place_array(Space space, const std::string& name, uint32_t alignment, uint32_t bytes) {
    Entry& entry = decoder_->entry;
    uint32_t& top = space == Space::SHARED ? entry.shared_bytes : entry.local_bytes;
    top = (top + alignment - 1) / alignment * alignment;
    // An array that is not said to be aligned is put where it is not, and behind each is a gap: both show in the kernel.
    if (space == Space::SHARED && alignment < 16 && top % (2 * alignment) == 0) top += alignment;
    decoder_->symbols[name] = {space, top};
    if (space == Space::SHARED) entry.shared.push_back({name, top, bytes});
    top += bytes + (space == Space::SHARED ? 16 : 0);
  }

  void entry() {
    Entry entry;
    entry.name = next();
    decoder_ = std::make_unique<Decoder>(entry, symbols_);
    lines_.clear();
    if (take("(")) parameters(entry);
    while (!take("{")) {
      const std::string word = next();
      if (word != ".maxntid" && word != ".reqntid") continue;
      entry.most_threads = number();
      while (take(",")) entry.most_threads *= number();
    }
    place_module_shared();
    body(entry);
    decoder_->finish();
    decoder_.reset();
    module_.entries[entry.name] = std::move(entry);
  }

  void parameters(Entry& entry) {
    while (!take(")")) {
      uint32_t alignment = 1, count = 1;
      Type type = Type::B8;
      std::string name;
      for (std::string word = next(); word != ","; word = next()) {
        if (word == ".align") alignment = number();
        else if (word == "[") count = number(), expect("]");
        else if (word[0] == '.') type = word == ".param" || word == ".ptr" ? type : type_named(word.substr(1));
        else name = word;
        if (peek() == ")") break;
      }
      alignment = std::max(alignment, bytes_of(type));
      entry.parameter_bytes = (entry.parameter_bytes + alignment - 1) / alignment * alignment;
      decoder_->symbols[name] = {Space::PARAM, entry.parameter_bytes};
      entry.parameters.push_back({entry.parameter_bytes, count * bytes_of(type)});
      entry.parameter_bytes += count * bytes_of(type);
    }
  }

  void body(Entry& entry) {
    bool began = false;
    for (int depth = 1; depth > 0;) {
      const std::string word = next();
      if (word == "{") depth++;
      else if (word == "}") depth--;
      else if (word == ".reg") registers();
      else if (word == ".shared") variable(Space::SHARED, false);
      else if (word == ".local") variable(Space::LOCAL, false);
      else if (word == ".loc") location(entry);
      else if (word[0] == '.') skip_to(";");  // .pragma
      else if (peek() == ":") next(), decoder_->label(word);
      else {
        if (!std::exchange(began, true)) place_dynamic_shared(entry);
        statement(word);
      }
    }
  }

  /// Arrays that several kernels of the module name: a kernel has those that stand in its text.
  void place_module_shared() {
    size_t depth = 1;
    for (size_t i = at_; depth > 0 && i < tokens_.size(); i++) {
      depth += tokens_[i] == "{";
      depth -= tokens_[i] == "}";
      const auto found = module_shared_.find(tokens_[i]);
      if (found != module_shared_.end() && !decoder_->symbols.count(found->first)) place_array(Space::SHARED, found->first, found->second.first, found->second.second);
    }
  }

  /// Behind the other arrays, as on the device. nvcc declares all of them before the first statement.
  void place_dynamic_shared(Entry& entry) {
    entry.shared_bytes = (entry.shared_bytes + 127) / 128 * 128;
    if (!dynamic_shared_.empty()) decoder_->symbols[dynamic_shared_] = {Space::SHARED, entry.shared_bytes};
  }

  void registers() {
    const bool wide = bytes_of(type_named(next().substr(1))) == 8;
    do {
      const std::string name = next();
      if (!take("<")) {
        decoder_->declare(name, wide);
        continue;
      }
      const uint32_t count = number();
      expect(">");
      for (uint32_t i = 0; i < count; i++) decoder_->declare(name + std::to_string(i), wide);
    } while (take(","));
    expect(";");
  }

  /// `.loc 1 23 3` or `.loc 2 40 5, function_name $L__info_string0, inlined_at 1 23 3`.
  void location(Entry& entry) {
    const auto read = [&] { return Line{number(), number(), number()}; };
    const Line here = read();
    while (take(",")) {
      const std::string word = next();
      if (word == "inlined_at") {
        const Line caller = read();
        if (caller != here) lines_[here] = caller;
      } else {
        skip_operand();
      }
    }
    Line line = here;
    for (int steps = 0; steps < 16 && is_wrapper(line) && lines_.count(line); steps++) line = lines_[line];
    if (line[1] == 0) return;  // nvcc's word for "no line of the source"
    const std::string& path = files_[line[0]];
    entry.places.push_back({path.substr(path.rfind('/') + 1), line[1]});
  }
  void skip_operand() {
    next();
    while (peek() == "+") next(), next();
  }
  bool is_wrapper(const Line& line) { return line[1] == 0 || files_[line[0]].find("device.cuh") != std::string::npos || files_[line[0]].find("/include/") != std::string::npos; }

  /// Up to its semicolon: an optional guard, an opcode, operands between commas.
  void statement(std::string word) {
    Statement statement;
    if (word == "@") {
      statement.guard_negated = take("!");
      statement.guard = next();
      word = next();
    }
    statement.opcode = word;
    std::string operand;
    int depth = 0;
    for (std::string token = next(); token != ";"; token = next()) {
      if (token == "{" || token == "[") depth++;
      if (token == "}" || token == "]") depth--;
      if (token == "," && depth == 0) statement.operands.push_back(std::exchange(operand, ""));
      else operand += token;
    }
    if (!operand.empty()) statement.operands.push_back(operand);
    if (decoder_->entry.places.empty()) decoder_->entry.places.push_back({"?", 0});
    statement.place = static_cast<uint32_t>(decoder_->entry.places.size() - 1);
    decoder_->add(statement);
  }

  const std::vector<std::string> tokens_;
  size_t at_ = 0;
  Module module_;
  std::map<uint32_t, std::string> files_;
  std::map<std::string, Symbol> symbols_;
  std::string dynamic_shared_;
  std::map<std::string, std::pair<uint32_t, uint32_t>> module_shared_;  // alignment, bytes
  std::map<Line, Line> lines_;  // where an inlined line was called
  std::unique_ptr<Decoder> decoder_;
};

}  // namespace

Module parse(const std::string& text) { return Parser(text).run(); }

}  // namespace tacotune::cuda::emulator::ptx
