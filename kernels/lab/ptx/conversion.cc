// SPDX-License-Identifier: Apache-2.0
// Comparisons and conversions of PTX over the lanes of a warp. A conversion out of range saturates and a NaN becomes 0, which
// C++ leaves open.
#include <limits>

#include "kernels/lab/ptx/lanes.h"

namespace tacotune::cuda::emulator::ptx {

// ---- setp ----------------------------------------------------------------------------------------------------------------
namespace {

enum class Compare : uint8_t { EQ, NE, LT, LE, GT, GE, EQU, NEU, LTU, LEU, GTU, GEU, NUM, NAN_ };

template <Compare how, class T>
bool holds(T a, T b) {
  bool unordered = false;
  if constexpr (std::is_floating_point_v<T>) unordered = std::isnan(a) || std::isnan(b);
  switch (how) {
    case Compare::EQ: return !unordered && a == b;
    case Compare::NE: return !unordered && a != b;
    case Compare::LT: return a < b;
    case Compare::LE: return a <= b;
    case Compare::GT: return a > b;
    case Compare::GE: return a >= b;
    case Compare::EQU: return unordered || a == b;
    case Compare::NEU: return unordered || a != b;
    case Compare::LTU: return unordered || a < b;
    case Compare::LEU: return unordered || a <= b;
    case Compare::GTU: return unordered || a > b;
    case Compare::GEU: return unordered || a >= b;
    case Compare::NUM: return !unordered;
    default: return unordered;
  }
}

/// Operands: p, the other predicate or -1, a, b, and a predicate that is combined or -1 (mode: 1 and, 2 or, 3 xor).
template <Compare how, class T>
void compare(Warp& warp, const Instruction& i, uint32_t mask) {
  Register &a = warp.reg(i.operands[2]), &b = warp.reg(i.operands[3]);
  for_lanes(mask, [&](uint32_t lane) {
    const auto combined = [&](bool value) {
      if (i.mode == 0) return value;
      const bool other = (warp.reg(i.operands[4]).w[lane] != 0) != i.flag;
      return i.mode == 1 ? value && other : i.mode == 2 ? value || other : value != other;
    };
    const bool result = holds<how>(get<T>(a, lane), get<T>(b, lane));
    warp.reg(i.operands[0]).w[lane] = combined(result);
    if (i.operands[1] >= 0) warp.reg(i.operands[1]).w[lane] = combined(!result);
  });
}
template <Compare how>
Handler of_comparison(Type type) {
  switch (type) {
    case Type::S16: return compare<how, int16_t>;
    case Type::S32: return compare<how, int32_t>;
    case Type::S64: return compare<how, int64_t>;
    case Type::U16: case Type::B16: return compare<how, uint16_t>;
    case Type::U32: case Type::B32: return compare<how, uint32_t>;
    case Type::U64: case Type::B64: return compare<how, uint64_t>;
    case Type::F32: return compare<how, float>;
    case Type::F64: return compare<how, double>;
    default: return nullptr;
  }
}

}  // namespace

Handler comparison_handler(const std::string& comparison, Type type) {
  static const std::map<std::string, Handler (*)(Type)> known = {
      {"eq", of_comparison<Compare::EQ>},   {"ne", of_comparison<Compare::NE>},   {"lt", of_comparison<Compare::LT>},   {"le", of_comparison<Compare::LE>},   {"gt", of_comparison<Compare::GT>},
      {"ge", of_comparison<Compare::GE>},   {"lo", of_comparison<Compare::LT>},   {"ls", of_comparison<Compare::LE>},   {"hi", of_comparison<Compare::GT>},   {"hs", of_comparison<Compare::GE>},
      {"equ", of_comparison<Compare::EQU>}, {"neu", of_comparison<Compare::NEU>}, {"ltu", of_comparison<Compare::LTU>}, {"leu", of_comparison<Compare::LEU>}, {"gtu", of_comparison<Compare::GTU>},
      {"geu", of_comparison<Compare::GEU>}, {"num", of_comparison<Compare::NUM>}, {"nan", of_comparison<Compare::NAN_>}};
  const auto found = known.find(comparison);
  return found == known.end() ? nullptr : found->second(type);
}

// ---- cvt -----------------------------------------------------------------------------------------------------------------
namespace {

template <class T>
T rounded(T x, uint8_t mode) {
  switch (mode) {
    case 0: return std::rint(x);
    case 1: return std::trunc(x);
    case 2: return std::floor(x);
    case 3: return std::ceil(x);
    default: return x;
  }
}

template <class To, class From>
To converted(From x, const Instruction& i) {
  if constexpr (std::is_floating_point_v<To>) {
    To y = static_cast<To>(x);
    if constexpr (std::is_floating_point_v<From>) y = rounded(y, i.mode);
    return i.flag ? (y > To(0) ? (y < To(1) ? y : To(1)) : To(0)) : y;  // a NaN saturates to 0
  } else if constexpr (std::is_floating_point_v<From>) {
    const From r = rounded(x, i.mode);
    if (r != r) return 0;
    constexpr double low = static_cast<double>(std::numeric_limits<To>::min()), beyond = 2.0 * static_cast<double>(std::numeric_limits<To>::max() / 2 + 1);
    return r < low ? std::numeric_limits<To>::min() : r >= beyond ? std::numeric_limits<To>::max() : static_cast<To>(r);
  } else if (i.flag) {
    const __int128 wide = x;
    return wide < std::numeric_limits<To>::min() ? std::numeric_limits<To>::min() : wide > std::numeric_limits<To>::max() ? std::numeric_limits<To>::max() : static_cast<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

// A result narrower than its register is extended to it by its sign.
template <class To, class From>
void convert(Warp& warp, const Instruction& i, uint32_t mask) {
  Register &d = warp.reg(i.operands[0]), &a = warp.reg(i.operands[1]);
  for_lanes(mask, [&](uint32_t lane) {
    const To value = converted<To>(get<From>(a, lane), i);
    if constexpr (sizeof(To) < 4 && std::is_signed_v<To>) d.w[lane] = static_cast<uint32_t>(static_cast<int32_t>(value));
    else set<To>(d, lane, value);
  });
}

template <class From>
Handler convert_from(Type to) {
  switch (to) {
    case Type::U8: return convert<uint8_t, From>;
    case Type::U16: return convert<uint16_t, From>;
    case Type::U32: return convert<uint32_t, From>;
    case Type::U64: return convert<uint64_t, From>;
    case Type::S8: return convert<int8_t, From>;
    case Type::S16: return convert<int16_t, From>;
    case Type::S32: return convert<int32_t, From>;
    case Type::S64: return convert<int64_t, From>;
    case Type::F32: return convert<float, From>;
    case Type::F64: return convert<double, From>;
    default: return nullptr;
  }
}

template <uint16_t (*bits)(float)>
void narrow(Warp& warp, const Instruction& i, uint32_t mask) {
  for_lanes(mask, [&](uint32_t lane) { warp.reg(i.operands[0]).w[lane] = bits(get<float>(warp.reg(i.operands[1]), lane)); });
}
template <uint16_t (*bits)(float)>
void narrow_two(Warp& warp, const Instruction& i, uint32_t mask) {  // the first source goes into the upper half
  for_lanes(mask, [&](uint32_t lane) {
    const uint32_t high = bits(get<float>(warp.reg(i.operands[1]), lane)), low = bits(get<float>(warp.reg(i.operands[2]), lane));
    warp.reg(i.operands[0]).w[lane] = high << 16 | low;
  });
}
template <float (*value)(uint16_t)>
void widen(Warp& warp, const Instruction& i, uint32_t mask) {
  for_lanes(mask, [&](uint32_t lane) { set<float>(warp.reg(i.operands[0]), lane, value(static_cast<uint16_t>(warp.reg(i.operands[1]).w[lane]))); });
}

}  // namespace

Handler conversion_handler(Type to, Type from) {
  if (from == Type::F32 && to == Type::BF16) return narrow<bf16_bits>;
  if (from == Type::F32 && to == Type::F16) return narrow<f16_bits>;
  if (from == Type::F32 && to == Type::BF16X2) return narrow_two<bf16_bits>;
  if (from == Type::F32 && to == Type::F16X2) return narrow_two<f16_bits>;
  if (from == Type::BF16 && to == Type::F32) return widen<bf16_value>;
  if (from == Type::F16 && to == Type::F32) return widen<f16_value>;
  switch (from) {
    case Type::U8: case Type::B8: return convert_from<uint8_t>(to);
    case Type::U16: case Type::B16: return convert_from<uint16_t>(to);
    case Type::U32: case Type::B32: return convert_from<uint32_t>(to);
    case Type::U64: case Type::B64: return convert_from<uint64_t>(to);
    case Type::S8: return convert_from<int8_t>(to);
    case Type::S16: return convert_from<int16_t>(to);
    case Type::S32: return convert_from<int32_t>(to);
    case Type::S64: return convert_from<int64_t>(to);
    case Type::F32: return convert_from<float>(to);
    case Type::F64: return convert_from<double>(to);
    default: return nullptr;
  }
}

}  // namespace tacotune::cuda::emulator::ptx
