// SPDX-License-Identifier: Apache-2.0
// Arithmetic of PTX over the lanes of a warp. Where PTX and C++ differ (shifts by too much, division by zero, the minimum of
// a NaN) PTX is followed; approximate functions are exact.
#include <cfenv>

#include "kernels/lab/ptx/lanes.h"

namespace tacotune::cuda::emulator::ptx {

namespace {

template <class T, class F>
void unary(Warp& warp, const Instruction& i, uint32_t mask) {
  Register &d = warp.reg(i.operands[0]), &a = warp.reg(i.operands[1]);
  for_lanes(mask, [&](uint32_t lane) { set<T>(d, lane, F::apply(get<T>(a, lane))); });
}
template <class T, class F>
void binary(Warp& warp, const Instruction& i, uint32_t mask) {
  Register &d = warp.reg(i.operands[0]), &a = warp.reg(i.operands[1]), &b = warp.reg(i.operands[2]);
  for_lanes(mask, [&](uint32_t lane) { set<T>(d, lane, F::apply(get<T>(a, lane), get<T>(b, lane))); });
}
template <class T, class F>
void ternary(Warp& warp, const Instruction& i, uint32_t mask) {
  Register &d = warp.reg(i.operands[0]), &a = warp.reg(i.operands[1]), &b = warp.reg(i.operands[2]), &c = warp.reg(i.operands[3]);
  for_lanes(mask, [&](uint32_t lane) { set<T>(d, lane, F::apply(get<T>(a, lane), get<T>(b, lane), get<T>(c, lane))); });
}
/// Shifts: the amount has 32 bits whatever the type.
template <class T, class F>
void shift(Warp& warp, const Instruction& i, uint32_t mask) {
  Register &d = warp.reg(i.operands[0]), &a = warp.reg(i.operands[1]), &b = warp.reg(i.operands[2]);
  for_lanes(mask, [&](uint32_t lane) { set<T>(d, lane, F::apply(get<T>(a, lane), b.w[lane])); });
}
/// The product of halves as wide as both, and with a third operand added.
template <class T, class Wide, bool adds>
void wide(Warp& warp, const Instruction& i, uint32_t mask) {
  Register &d = warp.reg(i.operands[0]), &a = warp.reg(i.operands[1]), &b = warp.reg(i.operands[2]);
  for_lanes(mask, [&](uint32_t lane) {
    Wide product = static_cast<Wide>(static_cast<Wide>(get<T>(a, lane)) * static_cast<Wide>(get<T>(b, lane)));
    if (adds) product = static_cast<Wide>(product + get<Wide>(warp.reg(i.operands[3]), lane));
    set<Wide>(d, lane, product);
  });
}

template <class T>
using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

// Sums and products in unsigned arithmetic, where they wrap.
struct Add {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) return a + b;
    else return static_cast<T>(static_cast<Bits<T>>(a) + static_cast<Bits<T>>(b));
  }
};
struct Subtract {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) return a - b;
    else return static_cast<T>(static_cast<Bits<T>>(a) - static_cast<Bits<T>>(b));
  }
};
struct Multiply {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) return a * b;
    else return static_cast<T>(static_cast<Bits<T>>(a) * static_cast<Bits<T>>(b));
  }
};
struct MultiplyHigh {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (sizeof(T) == 8) {
      using Wide = std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>;
      return static_cast<T>(static_cast<Wide>(a) * static_cast<Wide>(b) >> 64);
    } else {
      using Wide = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
      return static_cast<T>(static_cast<Wide>(a) * static_cast<Wide>(b) >> 8 * sizeof(T));
    }
  }
};
struct MultiplyAdd {
  template <class T>
  static T apply(T a, T b, T c) { return Add::apply(Multiply::apply(a, b), c); }
};
struct Fma {
  template <class T>
  static T apply(T a, T b, T c) { return std::fma(a, b, c); }
};
/// Rounded down: nvcc's expf counts on it.
struct FmaDown {
  __attribute__((noinline, optimize("rounding-math"))) static float apply(float a, float b, float c) {
    const int before = fegetround();
    fesetround(FE_DOWNWARD);
    volatile float va = a, vb = b, vc = c;
    const volatile float result = fmaf(va, vb, vc);
    fesetround(before);
    return result;
  }
};
struct Divide {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) {
      return a / b;
    } else {
      if (b == 0) return static_cast<T>(-1);  // all bits set, as NVIDIA's do; PTX leaves it open
      if constexpr (std::is_signed_v<T>)
        if (b == -1) return Subtract::apply(T(0), a);
      return static_cast<T>(a / b);
    }
  }
};
struct Remainder {
  template <class T>
  static T apply(T a, T b) {
    if (b == 0) return a;
    if constexpr (std::is_signed_v<T>)
      if (b == -1) return 0;
    return static_cast<T>(a % b);
  }
};
struct Minimum {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) return std::fmin(a, b);
    else return b < a ? b : a;
  }
};
struct Maximum {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) return std::fmax(a, b);
    else return a < b ? b : a;
  }
};
struct Negate {
  template <class T>
  static T apply(T a) {
    if constexpr (std::is_floating_point_v<T>) return -a;
    else return Subtract::apply(T(0), a);
  }
};
struct Absolute {
  template <class T>
  static T apply(T a) {
    if constexpr (std::is_floating_point_v<T>) return std::fabs(a);
    else return a < 0 ? Negate::apply(a) : a;
  }
};
struct And {
  template <class T>
  static T apply(T a, T b) { return a & b; }
};
struct Or {
  template <class T>
  static T apply(T a, T b) { return a | b; }
};
struct Xor {
  template <class T>
  static T apply(T a, T b) { return a ^ b; }
};
struct Not {
  template <class T>
  static T apply(T a) { return static_cast<T>(~a); }
};
struct NotPredicate {
  static uint32_t apply(uint32_t a) { return a ^ 1u; }
};
struct Move {
  template <class T>
  static T apply(T a) { return a; }
};
struct ShiftLeft {
  template <class T>
  static T apply(T a, uint32_t n) { return n >= 8 * sizeof(T) ? 0 : static_cast<T>(static_cast<Bits<T>>(a) << n); }
};
struct ShiftRight {
  template <class T>
  static T apply(T a, uint32_t n) {
    const uint32_t bits = 8 * sizeof(T);
    if constexpr (std::is_signed_v<T>) return static_cast<T>(a >> (n >= bits ? bits - 1 : n));
    else return n >= bits ? 0 : static_cast<T>(a >> n);
  }
};
struct Exp2 {
  static float apply(float a) { return exp2f(a); }
};
struct Log2 {
  static float apply(float a) { return log2f(a); }
};
struct Sine {
  static float apply(float a) { return sinf(a); }
};
struct Cosine {
  static float apply(float a) { return cosf(a); }
};
struct Reciprocal {
  template <class T>
  static T apply(T a) { return 1 / a; }
};
struct SquareRoot {
  template <class T>
  static T apply(T a) { return std::sqrt(a); }
};
struct ReciprocalRoot {
  static float apply(float a) { return __frsqrt_rn(a); }
};
struct CopySign {  // d = the sign of a, the value of b
  template <class T>
  static T apply(T a, T b) { return std::copysign(b, a); }
};
struct BytePermute {
  static uint32_t apply(uint32_t a, uint32_t b, uint32_t c) { return __byte_perm(a, b, c); }
};
struct Reverse {
  static uint32_t apply(uint32_t a) { return __brev(a); }
};

// Four operands or results of another width than their operands.
template <class T>
void bit_field_insert(Warp& warp, const Instruction& i, uint32_t mask) {
  for_lanes(mask, [&](uint32_t lane) {
    const T a = get<T>(warp.reg(i.operands[1]), lane), b = get<T>(warp.reg(i.operands[2]), lane);
    const uint32_t bits = 8 * sizeof(T), position = warp.reg(i.operands[3]).w[lane] & 0xff, length = warp.reg(i.operands[4]).w[lane] & 0xff;
    const T ones = length >= bits ? static_cast<T>(~T(0)) : static_cast<T>((T(1) << length) - 1);
    const T field = position >= bits ? T(0) : static_cast<T>(ones << position);
    set<T>(warp.reg(i.operands[0]), lane, static_cast<T>((b & ~field) | (position >= bits ? T(0) : static_cast<T>(a << position) & field)));
  });
}
template <class T>
void bit_field_extract(Warp& warp, const Instruction& i, uint32_t mask) {
  for_lanes(mask, [&](uint32_t lane) {
    const T a = get<T>(warp.reg(i.operands[1]), lane);
    const uint32_t bits = 8 * sizeof(T), position = warp.reg(i.operands[2]).w[lane] & 0xff, length = std::min(warp.reg(i.operands[3]).w[lane] & 0xff, bits);
    T result = 0;
    if (length > 0) {
      const uint32_t top = std::min(position + length, bits) - 1;
      const T sign = std::is_signed_v<T> ? static_cast<T>(a >> top & 1) : T(0);
      for (uint32_t bit = 0; bit < bits; bit++)
        if (bit < length && position + bit < bits ? a >> (position + bit) & 1 : sign) result = static_cast<T>(result | T(1) << bit);
    }
    set<T>(warp.reg(i.operands[0]), lane, result);
  });
}
void logic3(Warp& warp, const Instruction& i, uint32_t mask) {
  for_lanes(mask, [&](uint32_t lane) {
    const uint32_t a = warp.reg(i.operands[1]).w[lane], b = warp.reg(i.operands[2]).w[lane], c = warp.reg(i.operands[3]).w[lane], table = warp.reg(i.operands[4]).w[lane];
    uint32_t result = 0;
    for (uint32_t row = 0; row < 8; row++)
      if (table >> row & 1u) result |= (row & 4 ? a : ~a) & (row & 2 ? b : ~b) & (row & 1 ? c : ~c);
    warp.reg(i.operands[0]).w[lane] = result;
  });
}
template <bool left>
void funnel_shift(Warp& warp, const Instruction& i, uint32_t mask) {  // flag: the amount wraps, else it is at most 32
  for_lanes(mask, [&](uint32_t lane) {
    const uint64_t pair = static_cast<uint64_t>(warp.reg(i.operands[2]).w[lane]) << 32 | warp.reg(i.operands[1]).w[lane];
    const uint32_t amount = warp.reg(i.operands[3]).w[lane], n = i.flag ? amount & 31 : std::min(amount, 32u);
    warp.reg(i.operands[0]).w[lane] = static_cast<uint32_t>(left ? pair << n >> 32 : pair >> n);
  });
}
template <class T>
void count_ones(Warp& warp, const Instruction& i, uint32_t mask) {
  for_lanes(mask, [&](uint32_t lane) { warp.reg(i.operands[0]).w[lane] = static_cast<uint32_t>(__builtin_popcountll(get<T>(warp.reg(i.operands[1]), lane))); });
}
template <class T>
void leading_zeros(Warp& warp, const Instruction& i, uint32_t mask) {
  for_lanes(mask, [&](uint32_t lane) {
    const uint64_t a = get<T>(warp.reg(i.operands[1]), lane);
    warp.reg(i.operands[0]).w[lane] = static_cast<uint32_t>(a == 0 ? 8 * sizeof(T) : static_cast<size_t>(__builtin_clzll(a)) - (64 - 8 * sizeof(T)));
  });
}
template <class T>
void find_leading(Warp& warp, const Instruction& i, uint32_t mask) {  // flag: counted from the top
  for_lanes(mask, [&](uint32_t lane) {
    T a = get<T>(warp.reg(i.operands[1]), lane);
    if (std::is_signed_v<T> && a < 0) a = static_cast<T>(~a);
    const uint32_t top = a == 0 ? 0xffffffffu : 63u - static_cast<uint32_t>(__builtin_clzll(static_cast<uint64_t>(static_cast<std::make_unsigned_t<T>>(a))));
    warp.reg(i.operands[0]).w[lane] = i.flag && a != 0 ? static_cast<uint32_t>(8 * sizeof(T)) - 1 - top : top;
  });
}
template <class T>
void select(Warp& warp, const Instruction& i, uint32_t mask) {
  Register &d = warp.reg(i.operands[0]), &a = warp.reg(i.operands[1]), &b = warp.reg(i.operands[2]), &p = warp.reg(i.operands[3]);
  for_lanes(mask, [&](uint32_t lane) { set<T>(d, lane, p.w[lane] ? get<T>(a, lane) : get<T>(b, lane)); });
}

template <class F>
Handler of_integers(Type type) {
  switch (type) {
    case Type::S16: return binary<int16_t, F>;
    case Type::S32: return binary<int32_t, F>;
    case Type::S64: return binary<int64_t, F>;
    case Type::U16: case Type::B16: return binary<uint16_t, F>;
    case Type::U32: case Type::B32: return binary<uint32_t, F>;
    case Type::U64: case Type::B64: return binary<uint64_t, F>;
    default: return nullptr;
  }
}
template <class F>
Handler of_numbers(Type type) {
  return type == Type::F32 ? binary<float, F> : type == Type::F64 ? binary<double, F> : of_integers<F>(type);
}
template <class F>
Handler of_bits(Type type) {
  return type == Type::PRED ? binary<uint32_t, F> : of_integers<F>(type);
}
template <class F>
Handler of_floats(Type type) {
  return type == Type::F32 ? unary<float, F> : type == Type::F64 ? unary<double, F> : nullptr;
}
template <class F>
Handler of_shift(Type type) {
  switch (type) {
    case Type::S16: return shift<int16_t, F>;
    case Type::S32: return shift<int32_t, F>;
    case Type::S64: return shift<int64_t, F>;
    case Type::U16: case Type::B16: return shift<uint16_t, F>;
    case Type::U32: case Type::B32: return shift<uint32_t, F>;
    case Type::U64: case Type::B64: return shift<uint64_t, F>;
    default: return nullptr;
  }
}
template <class F>
Handler of_signed(Type type) {
  return type == Type::S16 ? unary<int16_t, F> : type == Type::S32 ? unary<int32_t, F> : type == Type::S64 ? unary<int64_t, F> : of_floats<F>(type);
}
template <bool adds>
Handler of_wide(Type type) {
  switch (type) {
    case Type::U16: return wide<uint16_t, uint32_t, adds>;
    case Type::S16: return wide<int16_t, int32_t, adds>;
    case Type::U32: return wide<uint32_t, uint64_t, adds>;
    case Type::S32: return wide<int32_t, int64_t, adds>;
    default: return nullptr;
  }
}
Handler by_size(Type type, Handler two, Handler four, Handler eight) { return bytes_of(type) == 8 ? eight : bytes_of(type) == 2 ? two : four; }

}  // namespace

Handler arithmetic_handler(const std::string& name, const std::vector<std::string>& modifiers, Type type) {
  const auto has = [&](const char* word) {
    for (const auto& modifier : modifiers)
      if (modifier == word) return true;
    return false;
  };
  const bool down = has("rm");
  if (has("rp") || has("rz") || has("sat") || (down && name != "fma")) return nullptr;  // nvcc's code has not used them so far
  if (name == "add") return of_numbers<Add>(type);
  if (name == "sub") return of_numbers<Subtract>(type);
  if (name == "mul") return has("wide") ? of_wide<false>(type) : has("hi") ? of_integers<MultiplyHigh>(type) : of_numbers<Multiply>(type);
  if (name == "mad") {
    if (has("wide")) return of_wide<true>(type);
    if (has("hi")) return nullptr;
    return bytes_of(type) == 8 ? ternary<uint64_t, MultiplyAdd> : bytes_of(type) == 4 ? ternary<uint32_t, MultiplyAdd> : ternary<uint16_t, MultiplyAdd>;
  }
  if (name == "fma") return type == Type::F64 ? ternary<double, Fma> : type != Type::F32 ? nullptr : down ? ternary<float, FmaDown> : ternary<float, Fma>;
  if (name == "div") return of_numbers<Divide>(type);
  if (name == "rem") return of_integers<Remainder>(type);
  if (name == "min") return of_numbers<Minimum>(type);
  if (name == "max") return of_numbers<Maximum>(type);
  if (name == "neg") return of_signed<Negate>(type);
  if (name == "abs") return of_signed<Absolute>(type);
  if (name == "and") return of_bits<And>(type);
  if (name == "or") return of_bits<Or>(type);
  if (name == "xor") return of_bits<Xor>(type);
  if (name == "not") return type == Type::PRED ? unary<uint32_t, NotPredicate> : by_size(type, unary<uint16_t, Not>, unary<uint32_t, Not>, unary<uint64_t, Not>);
  if (name == "mov") return by_size(type, unary<uint32_t, Move>, unary<uint32_t, Move>, unary<uint64_t, Move>);
  if (name == "shl") return of_shift<ShiftLeft>(type);
  if (name == "shr") return of_shift<ShiftRight>(type);
  if (name == "selp") return by_size(type, select<uint32_t>, select<uint32_t>, select<uint64_t>);
  if (name == "bfi") return by_size(type, nullptr, bit_field_insert<uint32_t>, bit_field_insert<uint64_t>);
  if (name == "bfe")
    return type == Type::S32 ? bit_field_extract<int32_t> : type == Type::S64 ? bit_field_extract<int64_t> : by_size(type, nullptr, bit_field_extract<uint32_t>, bit_field_extract<uint64_t>);
  if (name == "lop3") return logic3;
  if (name == "shf") return has("l") ? funnel_shift<true> : funnel_shift<false>;
  if (name == "prmt") return modifiers.size() == 1 ? ternary<uint32_t, BytePermute> : nullptr;
  if (name == "popc") return by_size(type, nullptr, count_ones<uint32_t>, count_ones<uint64_t>);
  if (name == "clz") return by_size(type, nullptr, leading_zeros<uint32_t>, leading_zeros<uint64_t>);
  if (name == "brev") return type == Type::B32 ? unary<uint32_t, Reverse> : nullptr;
  if (name == "bfind")
    return type == Type::U32 ? find_leading<uint32_t> : type == Type::S32 ? find_leading<int32_t> : type == Type::U64 ? find_leading<uint64_t> : type == Type::S64 ? find_leading<int64_t> : nullptr;
  if (name == "copysign") return type == Type::F64 ? binary<double, CopySign> : binary<float, CopySign>;
  if (name == "ex2") return unary<float, Exp2>;
  if (name == "lg2") return unary<float, Log2>;
  if (name == "sin") return unary<float, Sine>;
  if (name == "cos") return unary<float, Cosine>;
  if (name == "rcp") return of_floats<Reciprocal>(type);
  if (name == "sqrt") return of_floats<SquareRoot>(type);
  if (name == "rsqrt") return type == Type::F32 ? unary<float, ReciprocalRoot> : nullptr;
  return nullptr;
}

}  // namespace tacotune::cuda::emulator::ptx
