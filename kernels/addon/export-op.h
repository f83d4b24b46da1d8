// SPDX-License-Identifier: Apache-2.0
// Exports a native op to JavaScript. The argument list is deduced from the op's C++ signature: numbers are checked to be
// numbers, spans to be memory of the right element type; then the op's check runs (checks.h) and the implementation is
// called. Every failure becomes one JavaScript error that names op and argument: a wrong call throws, it never crashes.
// Where operands lie is a parameter, the place: OnHost (typed arrays, here) or OnGpu (gpu.cc).
#pragma once
#include <napi.h>

#include <cctype>
#include <cmath>
#include <mutex>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

#include "checks.h"
#include "kernels/ops.h"

namespace tacotune::addon {

/// The CPU implementation in use; set by selectInstructionSet.
const Kernels& active_kernels();

/// Held while an op runs or its surroundings change. The addon is loaded once for all of a process's JavaScript threads,
/// and an op has the thread pool and the scratch memory to itself.
inline std::mutex op_mutex;

/// The k-th word of a blank-separated list.
inline std::string word(const char* list, size_t k) {
  std::string text(list), item;
  size_t start = 0;
  for (size_t i = 0;; i++) {
    const size_t end = text.find(' ', start);
    item = text.substr(start, end == std::string::npos ? end : end - start);
    if (i == k) return item;
    if (end == std::string::npos) return "?";
    start = end + 1;
  }
}

constexpr size_t count_words(const char* list) {
  size_t count = 1;
  for (; *list; list++) count += *list == ' ';
  return count;
}

/// rmsnorm_forward → rmsnormForward: the one rule by which names cross the border.
inline std::string camel_case(const char* name) {
  std::string out;
  for (; *name; name++) {
    if (*name == '_' && name[1]) out += static_cast<char>(std::toupper(static_cast<unsigned char>(*++name)));
    else out += *name;
  }
  return out;
}

struct Argument {
  const Napi::CallbackInfo& info;
  const char* names;
  size_t index;

  Napi::Value value() const { return info[index]; }

  [[noreturn]] void refuse(const std::string& expected) const {
    throw std::invalid_argument("expected " + expected + " for " + word(names, index) + ", got " + describe());
  }

  std::string describe() const {
    const Napi::Value v = value();
    if (v.IsTypedArray()) {
      static const char* const kinds[] = {"Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array", "Int32Array",
                                          "Uint32Array", "Float32Array", "Float64Array", "BigInt64Array", "BigUint64Array"};
      const auto array = v.As<Napi::TypedArray>();
      const size_t kind = static_cast<size_t>(array.TypedArrayType());
      return std::string(kind < 11 ? kinds[kind] : "a typed array") + " of " + std::to_string(array.ElementLength());
    }
    if (v.IsNumber()) return std::to_string(v.As<Napi::Number>().DoubleValue());
    return v.IsUndefined() ? "nothing" : v.IsNull() ? "null" : v.IsString() ? "a string" : v.IsObject() ? "an object" : "another type";
  }
};

inline double number_from(const Argument& a) {
  if (!a.value().IsNumber()) a.refuse("a number");
  return a.value().As<Napi::Number>().DoubleValue();
}
inline Int whole_number_from(const Argument& a) {
  const double v = number_from(a);
  if (!(v >= 0 && v <= 9007199254740991.0) || v != std::floor(v)) a.refuse("a whole number from 0 to 2^53-1");
  return static_cast<Int>(v);
}

// A detached array reports length 0, which some arguments may have: freed memory must not pass for an empty tensor.
inline Napi::TypedArray alive(const Argument& a, const Napi::TypedArray& array) {
  if (array.ByteLength() == 0 && array.ArrayBuffer().IsDetached()) a.refuse("memory that has not been freed");
  return array;
}
inline Napi::TypedArray typed_array(const Argument& a, napi_typedarray_type type, const char* expected) {
  if (!a.value().IsTypedArray()) a.refuse(expected);
  const auto array = a.value().As<Napi::TypedArray>();
  if (array.TypedArrayType() != type) a.refuse(expected);
  return alive(a, array);
}
inline void* start_of(const Napi::TypedArray& array) {
  return array.ByteLength() ? static_cast<uint8_t*>(array.ArrayBuffer().Data()) + array.ByteOffset() : nullptr;
}

template <class T>
constexpr napi_typedarray_type element_type() {
  using E = std::remove_const_t<T>;
  if constexpr (std::is_same_v<E, float>) return napi_float32_array;
  else if constexpr (std::is_same_v<E, int32_t>) return napi_int32_array;
  else return napi_uint8_array;
}
template <class T>
constexpr const char* element_name() {
  using E = std::remove_const_t<T>;
  if constexpr (std::is_same_v<E, float>) return "a Float32Array";
  else if constexpr (std::is_same_v<E, int32_t>) return "an Int32Array";
  else return "a Uint8Array";
}

/// Operands are typed arrays; the CPU's kernels run at once.
struct OnHost {
  static const Kernels& kernels() { return active_kernels(); }

  template <class T>
  static Span<T> span(const Argument& a) {
    const auto array = typed_array(a, element_type<T>(), element_name<T>());
    return {static_cast<T*>(start_of(array)), static_cast<Int>(array.ElementLength())};
  }
  static BytesOut bytes(const Argument& a) {
    if (!a.value().IsTypedArray()) a.refuse("a typed array");
    const auto array = alive(a, a.value().As<Napi::TypedArray>());
    return {start_of(array), static_cast<Int>(array.ByteLength())};
  }
  /// What the checks may see of an operand: all of it.
  template <class T>
  static const T& checked(const T& operand) { return operand; }

  template <class Run, class... Args>
  static void run(Int, const char*, const Run& run, const Args&...) { run(); }
};

template <class T>
struct IsSpan : std::false_type {};
template <class T>
struct IsSpan<Span<T>> : std::true_type {};

template <class Place, class T>
T convert(const Argument& a) {
  if constexpr (std::is_same_v<T, Int>) return whole_number_from(a);
  else if constexpr (std::is_arithmetic_v<T>) return static_cast<T>(number_from(a));
  else if constexpr (IsSpan<T>::value) return Place::template span<std::remove_pointer_t<decltype(T::data)>>(a);
  else {
    const BytesOut bytes = Place::bytes(a);
    return T{bytes.data, bytes.count};
  }
}

template <class Place, class... Args, size_t... I>
void call(const Napi::CallbackInfo& info, Int number, const char* name, const char* names, void (*check)(Args...), void (*op)(Args...),
          std::index_sequence<I...>) {
  // Braces make the conversions run left to right, so the first bad argument is the one reported.
  const std::tuple<Args...> arguments{convert<Place, Args>(Argument{info, names, I})...};
  check(Place::checked(std::get<I>(arguments))...);
  Place::run(number, name, [&] { op(std::get<I>(arguments)...); }, std::get<I>(arguments)...);
}

/// @param number 1 + the op's place in TACOTUNE_OPS
template <class Place, class... Args>
void export_op(Napi::Env env, Napi::Object exports, Int number, const char* name, const char* names, void (*check)(Args...),
               void (*Kernels::*member)(Args...)) {
  exports.Set(camel_case(name), Napi::Function::New(env, [=](const Napi::CallbackInfo& info) {
    try {
      if (info.Length() != sizeof...(Args))
        throw std::invalid_argument("expected " + std::to_string(sizeof...(Args)) + " arguments (" + names + "), got " + std::to_string(info.Length()));
      const Kernels& kernels = Place::kernels();
      auto* op = kernels.*member;
      if (!op) throw std::runtime_error(std::string("unsupported by '") + kernels.name + "'");
      const std::lock_guard<std::mutex> lock(op_mutex);
      call<Place>(info, number, name, names, check, op, std::index_sequence_for<Args...>());
    } catch (const std::invalid_argument& e) {
      throw Napi::RangeError::New(info.Env(), std::string(name) + ": " + e.what());
    } catch (const std::exception& e) {
      throw Napi::Error::New(info.Env(), std::string(name) + ": " + e.what());
    }
  }, name));
}

/// Every op of ops.h, over operands of one place.
template <class Place>
void export_ops(Napi::Env env, Napi::Object exports) {
  Int number = 0;
#define TACOTUNE_EXPORT(op, arguments) export_op<Place>(env, exports, ++number, #op, arguments, &check_##op, &Kernels::op);
  TACOTUNE_OPS(TACOTUNE_EXPORT)
#undef TACOTUNE_EXPORT
}

}  // namespace tacotune::addon
