// SPDX-License-Identifier: Apache-2.0
// One case of one op on two implementations: the reference on the host, the CUDA kernels on whatever the driver drives (a
// GPU, or the emulator). Operands lie between fences, once at multiples of 64 bytes and once one element off any alignment:
// kernels load wide in the one case and element by element in the other. Outputs start as NaN.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/cuda/gpu.h"
#include "kernels/ops.h"

namespace tacotune::lab {

/// An input.
template <class T>
struct Given {
  std::vector<T> values;
};
/// An output: what it holds before matters only where it is updated.
template <class T>
struct Written {
  std::vector<T> values;
};

/// How far an output may be from the reference: `error` times the root mean square of what is wanted. Bytes may differ in
/// `codes` of their number, each by one.
struct Tolerance {
  double error = 0;
  double codes = 0;
};

struct Outcome {
  bool passed = true;
  double error = 0;     // largest, in units of the root mean square
  std::string trouble;  // the first one, in words
};

class Case {
 public:
  std::string op, shape;
  Tolerance tolerance;
  double flops = 0;  // of one call, where a product makes the time
  virtual ~Case() = default;
  virtual Outcome check(cuda::Gpu& gpu) = 0;
  /// Median milliseconds of a call, by events on the stream.
  virtual double time(cuda::Gpu& gpu, int repeats) = 0;
  virtual Int bytes() const = 0;
};

/// An operand of a call in its two places.
class Placed {
 public:
  /// Bytes before and behind an operand that a call must leave alone. 0 makes allocations exact, so that a driver which
  /// checks bounds (libcuda-checked.so) sees a read too far as well.
  static inline Int fence = 64;

  template <class T>
  Placed(const std::vector<T>& values, bool output)
      : size_(sizeof(T)), step_(sizeof(T)), output_(output), host_(values.size() * sizeof(T)) {
    std::memcpy(host_.data(), values.data(), host_.size());
    before_ = host_;
  }

  /// Bytes that hold elements of a storage type are aligned to the largest of them.
  void holds_elements() { step_ = sizeof(float); }

  /// @param shift elements by which it is off an alignment
  void place(cuda::Gpu& gpu, Int shift) {
    start_ = fence + shift * static_cast<Int>(step_);
    std::vector<unsigned char> all(static_cast<size_t>(start_ + bytes() + fence), 0xff);
    std::memcpy(all.data() + start_, before_.data(), before_.size());
    address_ = gpu.allocate(static_cast<Int>(all.size()));
    gpu.upload(address_, all.data(), static_cast<Int>(all.size()));
  }
  void remove(cuda::Gpu& gpu) {
    if (address_) gpu.free(address_);
    address_ = 0;
  }
  /// Values after the call; says what was touched that should not have been.
  std::string fetch(cuda::Gpu& gpu, std::vector<unsigned char>& values) const {
    std::vector<unsigned char> all(static_cast<size_t>(start_ + bytes() + fence));
    gpu.download(all.data(), address_, static_cast<Int>(all.size()));
    values.assign(all.begin() + start_, all.begin() + start_ + bytes());
    for (Int i = 0; i < static_cast<Int>(all.size()); i++)
      if ((i < start_ || i >= start_ + bytes()) && all[static_cast<size_t>(i)] != 0xff) return "wrote outside of its operand, at byte " + std::to_string(i - start_);
    if (!output_ && values != before_) return "changed an input";
    return "";
  }

  void* on_host() { return host_.empty() ? nullptr : host_.data(); }
  void* on_device() const { return host_.empty() ? nullptr : reinterpret_cast<void*>(address_ + static_cast<cuda::CUdeviceptr>(start_)); }
  void rewind() { host_ = before_; }
  const std::vector<unsigned char>& host() const { return host_; }
  Int bytes() const { return static_cast<Int>(host_.size()); }
  Int count() const { return bytes() / static_cast<Int>(size_); }
  bool output() const { return output_; }
  bool floats() const { return size_ == 4; }

 private:
  size_t size_, step_;
  bool output_;
  std::vector<unsigned char> host_, before_;
  Int start_ = 0;
  cuda::CUdeviceptr address_ = 0;
};

/// Compares one output. Returns the largest error in units of the root mean square of `want`.
double compare(const Placed& operand, const std::vector<unsigned char>& got, const Tolerance& tolerance, std::string& trouble);
int32_t op_number(const std::string& name);

template <class... P>
class Trial : public Case {
 public:
  using Function = void (*)(P...);

  template <class... A>
  Trial(const char* name, const char* sizes, Function reference, Function device, Tolerance allowed, const A&... arguments)
      : reference_(reference), device_(device) {
    static_assert(sizeof...(A) == sizeof...(P), "as many arguments as the op has");
    op = name;
    shape = sizes;
    tolerance = allowed;
    (add(arguments), ...);
    size_t next = 0;
    (mark<P>(next), ...);
  }

  Outcome check(cuda::Gpu& gpu) override {
    Outcome outcome;
    for (auto& operand : operands_) operand->rewind();
    call(reference_, true, std::index_sequence_for<P...>());
    for (const Int shift : {0, 1}) {
      for (auto& operand : operands_) operand->place(gpu, shift);
      enqueue(gpu);
      for (size_t i = 0; i < operands_.size(); i++) {
        std::vector<unsigned char> got;
        std::string trouble = operands_[i]->fetch(gpu, got);
        if (trouble.empty() && operands_[i]->output()) outcome.error = std::max(outcome.error, compare(*operands_[i], got, tolerance, trouble));
        if (!trouble.empty() && outcome.trouble.empty()) outcome.trouble = (shift ? "unaligned, operand " : "aligned, operand ") + std::to_string(i) + ": " + trouble;
      }
      for (auto& operand : operands_) operand->remove(gpu);
    }
    outcome.passed = outcome.trouble.empty();
    return outcome;
  }

  double time(cuda::Gpu& gpu, int repeats) override {
    for (auto& operand : operands_) operand->place(gpu, 0);
    std::vector<float> times;
    for (int i = -2; i < repeats; i++) {
      const cuda::CUevent start = gpu.record();
      enqueue(gpu);
      const float elapsed = gpu.milliseconds(start, gpu.record());
      if (i >= 0) times.push_back(elapsed);
    }
    for (auto& operand : operands_) operand->remove(gpu);
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

  Int bytes() const override {
    Int total = 0;
    for (const auto& operand : operands_) total += operand->bytes();
    return total;
  }

 private:
  template <class T>
  void add(const Given<T>& a) { operands_.push_back(std::make_unique<Placed>(a.values, false)); }
  template <class T>
  void add(const Written<T>& a) { operands_.push_back(std::make_unique<Placed>(a.values, true)); }
  template <class N>
  std::enable_if_t<std::is_arithmetic_v<N>> add(N a) {
    numbers_.push_back(static_cast<double>(a));
    if (std::is_integral_v<N>) sizes_.push_back(static_cast<Int>(a));
  }

  void enqueue(cuda::Gpu& gpu) {
    gpu.begin_op(op_number(op), op.c_str(), sizes_.data(), sizes_.size());
    call(device_, false, std::index_sequence_for<P...>());
    gpu.end_op();
  }

  template <class Q>
  void mark(size_t& next) {
    if constexpr (!std::is_arithmetic_v<Q>) {
      if (std::is_same_v<Q, BytesIn> || std::is_same_v<Q, BytesOut>) operands_[next]->holds_elements();
      next++;
    }
  }
  struct Next {
    size_t operand = 0, number = 0;
  };
  template <class Q>
  Q argument(Next& next, bool host) {
    if constexpr (std::is_arithmetic_v<Q>) {
      return static_cast<Q>(numbers_[next.number++]);
    } else {
      Placed& operand = *operands_[next.operand++];
      void* const data = host ? operand.on_host() : operand.on_device();
      if constexpr (std::is_same_v<Q, BytesIn> || std::is_same_v<Q, BytesOut>) return Q{data, operand.bytes()};
      else return Q{static_cast<decltype(Q::data)>(data), operand.count()};
    }
  }
  template <size_t... I>
  void call(Function function, bool host, std::index_sequence<I...>) {
    Next next;
    std::tuple<P...> arguments{argument<P>(next, host)...};  // braces: left to right
    function(std::get<I>(arguments)...);
  }

  Function reference_, device_;
  std::vector<std::unique_ptr<Placed>> operands_;
  std::vector<double> numbers_;
  std::vector<Int> sizes_;
};

template <class... P, class... A>
std::unique_ptr<Case> trial(const char* name, const std::string& shape, void (*reference)(P...), void (*device)(P...), Tolerance tolerance, double flops,
                            const A&... arguments) {
  auto made = std::make_unique<Trial<P...>>(name, shape.c_str(), reference, device, tolerance, arguments...);
  made->flops = flops;
  return made;
}

/// Agreement of all cases of an op.
struct Summary {
  int passed = 0, failed = 0;
  double error = 0;                   // largest, in units of the root mean square
  std::vector<std::string> troubles;  // the first ones: shape and what was wrong
};
Summary check_op(cuda::Gpu& gpu, const std::string& op);

/// What a card could do in a second: dense bf16 products with f32 sums, and bytes of memory.
struct Peak {
  double flops, bytes;
};
Peak peak_of(const cuda::GpuDescription& gpu);

/// Every case of every op; `typical` ones are of realistic size, for times.
std::vector<std::unique_ptr<Case>> cases_of(const std::string& op, bool typical);
std::vector<std::string> all_ops();

}  // namespace tacotune::lab
