// SPDX-License-Identifier: Apache-2.0
// A library with the symbols of cuBLASLt that kernels/cuda/blas.cc uses, beside the driver's in one file: bf16 products with
// f32 results on the emulated GPU's memory, in the order of its streams. It takes fewer kinds of products than the library
// and is stricter: descriptors, sizes, leading dimensions, alignments, workspace and the algorithm are checked against
// each other, and what is wrong is said in a sentence. It shares no declaration with the caller it judges.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/lab/driver.h"
#include "kernels/lab/settings.h"

namespace tacotune::cuda::emulator {
namespace {

/// Numbers of cublas_api.h, cublasLt.h and library_types.h.
enum Status : int { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
constexpr int F32 = 0, BF16 = 14, COMPUTE_32F = 68;

struct Handle {};
struct Operation {
  int compute_type, scale_type;
  int32_t transposed[2];  // A, B
};
struct Layout {  // column after column
  int type;
  uint64_t rows, columns;
  int64_t leading;
};
struct Preference {
  uint64_t workspace_bytes = 0;
  uint32_t reductions = 7;
  uint32_t alignments[4] = {256, 256, 256, 256};  // A, B, C, D
};
struct Algorithm {
  uint64_t of_product, workspace_bytes, alignments[4], unused[2];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace_bytes;
  int status;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Algorithm) == 64 && sizeof(Heuristic) == 96, "as in cublasLt.h");

std::mutex& mutex = *new std::mutex;
std::string& details = *new std::string;  // of the latest refusal, shown by cublasLtGetStatusString

int refuse(Status status, const std::string& sentence) {
  details = sentence;
  fprintf(stderr, "emulated cuBLASLt: %s\n", sentence.c_str());
  return status;
}

/// What was created of one kind and not destroyed.
template <class T>
std::map<const void*, std::unique_ptr<T>>& all() {
  static auto& things = *new std::map<const void*, std::unique_ptr<T>>;
  return things;
}
template <class T>
int create(void** handle, T value) {
  const std::lock_guard lock(mutex);
  auto made = std::make_unique<T>(std::move(value));
  *handle = made.get();
  all<T>()[*handle] = std::move(made);
  return SUCCESS;
}
template <class T>
T* find(const void* handle) {
  const auto found = all<T>().find(handle);
  return found == all<T>().end() ? nullptr : found->second.get();
}

/// Copies an attribute's value, whose size must be that of `to`.
template <class T>
int assign(T& to, const void* value, size_t bytes, const char* name) {
  if (!value || bytes != sizeof(T)) return refuse(INVALID_VALUE, std::string(name) + ": expected " + std::to_string(sizeof(T)) + " bytes, got " + std::to_string(bytes));
  memcpy(&to, value, bytes);
  return SUCCESS;
}

/// A product as its descriptors say it.
struct Shape {
  const Operation* operation;
  const Layout* layouts[4];  // A, B, C, D
  uint64_t m, n, k;
};

constexpr const char* NAMES = "ABCD";

std::string text(const Layout& x) {
  return std::to_string(x.rows) + "×" + std::to_string(x.columns) + " with leading dimension " + std::to_string(x.leading);
}

/// Finds what the handles are. Returns a sentence about what is wrong, or nothing.
std::string read_shape(Shape& shape, const void* operation, const void* const (&layouts)[4]) {
  shape.operation = find<Operation>(operation);
  if (!shape.operation) return "the operation is no descriptor that was created";
  if (shape.operation->compute_type != COMPUTE_32F || shape.operation->scale_type != F32) return "only sums and factors of f32 are emulated";
  for (int i = 0; i < 4; i++) {
    const Layout* const x = shape.layouts[i] = find<Layout>(layouts[i]);
    const std::string name = std::string("the layout of ") + NAMES[i];
    if (!x) return name + " is no descriptor that was created";
    if (x->type != (i < 2 ? BF16 : F32)) return name + " has type " + std::to_string(x->type) + ": A and B are bf16 (14) here, C and D f32 (0)";
    if (x->rows == 0 || x->columns == 0) return name + " is empty: " + text(*x);
    if (x->leading < static_cast<int64_t>(x->rows)) return name + " overlaps itself: " + text(*x);
  }
  const auto [a, b, c, d] = shape.layouts;
  const bool turn_a = shape.operation->transposed[0], turn_b = shape.operation->transposed[1];
  shape.m = turn_a ? a->columns : a->rows, shape.k = turn_a ? a->rows : a->columns;
  shape.n = turn_b ? b->rows : b->columns;
  if ((turn_b ? b->columns : b->rows) != shape.k) return "A and B differ in their depth: " + text(*a) + ", " + text(*b);
  for (const Layout* x : {c, d})
    if (x->rows != shape.m || x->columns != shape.n) return "the result is " + std::to_string(shape.m) + "×" + std::to_string(shape.n) + ", its layout " + text(*x);
  return "";
}

/// A number that tells products of different descriptors apart.
uint64_t fingerprint(const Shape& shape) {
  uint64_t hash = 1469598103934665603u;
  const auto mix = [&](uint64_t value) { hash = (hash ^ value) * 1099511628211u; };
  for (const int32_t turned : shape.operation->transposed) mix(static_cast<uint64_t>(turned));
  for (const Layout* x : shape.layouts) mix(x->rows), mix(x->columns), mix(static_cast<uint64_t>(x->leading));
  return hash;
}

size_t bytes_of(const Layout& x) { return ((x.columns - 1) * static_cast<uint64_t>(x.leading) + x.rows) * (x.type == BF16 ? 2 : 4); }

constexpr size_t WORKSPACE_BYTES = 4096;  // needed for nothing, but wanted, and overwritten
constexpr uint64_t WORKSPACE_ALIGNMENT = 256;

/// op(X) as rows of k values each.
std::vector<float> lines_of(const char* data, const Layout& x, bool along_columns) {
  const uint64_t lines = along_columns ? x.columns : x.rows, k = along_columns ? x.rows : x.columns;
  std::vector<float> out(lines * k);
  for (uint64_t column = 0; column < x.columns; column++)
    for (uint64_t row = 0; row < x.rows; row++) {
      uint16_t half;
      memcpy(&half, data + 2 * (column * static_cast<uint64_t>(x.leading) + row), 2);
      const uint32_t bits = static_cast<uint32_t>(half) << 16;
      memcpy(&out[along_columns ? column * k + row : row * k + column], &bits, 4);
    }
  return out;
}

/// A product with its own copies of the descriptors, as a queued kernel has them.
struct Multiplication {
  bool turn_a, turn_b, wrong;
  Layout a, b, c, d;
  uint64_t m, n, k;
  float alpha, beta;

  void run(const std::vector<char*>& at) const {
    memset(at[4], 0xff, WORKSPACE_BYTES);
    const auto rows = lines_of(at[0], a, turn_a), columns = lines_of(at[1], b, !turn_b);
    for (uint64_t j = 0; j < n; j++)
      for (uint64_t i = 0; i < m; i++) {
        double sum = 0;
        for (uint64_t l = 0; l < k; l++) sum += static_cast<double>(rows[i * k + l]) * static_cast<double>(columns[j * k + l]);
        float value = static_cast<float>(sum);
        if (wrong && i == m - 1 && j == n - 1) value = 2 * value + 1;
        float old = 0;
        if (beta != 0) memcpy(&old, at[2] + 4 * (j * static_cast<uint64_t>(c.leading) + i), 4);
        value = alpha * value + (beta != 0 ? beta * old : 0);
        memcpy(at[3] + 4 * (j * static_cast<uint64_t>(d.leading) + i), &value, 4);
      }
  }
};

}  // namespace

extern "C" {
#define ENTRY(type) __attribute__((visibility("default"))) type

ENTRY(size_t) cublasLtGetVersion() { return 130000; }

ENTRY(const char*) cublasLtGetStatusString(int status) {
  const std::lock_guard lock(mutex);
  static std::string& kept = *new std::string;
  kept = status == SUCCESS ? "success" : "status " + std::to_string(status) + ": " + details;
  return kept.c_str();
}

ENTRY(int) cublasLtCreate(void** handle) { return create(handle, Handle{}); }

ENTRY(int) cublasLtMatmulDescCreate(void** handle, int compute_type, int scale_type) {
  return create(handle, Operation{compute_type, scale_type, {0, 0}});
}

ENTRY(int) cublasLtMatmulDescSetAttribute(void* handle, int attribute, const void* value, size_t bytes) {
  const std::lock_guard lock(mutex);
  Operation* const operation = find<Operation>(handle);
  if (!operation) return refuse(INVALID_VALUE, "cublasLtMatmulDescSetAttribute: that is no descriptor of a product");
  if (attribute != 3 && attribute != 4) return refuse(NOT_SUPPORTED, "attribute " + std::to_string(attribute) + " of a product is not emulated");
  int32_t& transposed = operation->transposed[attribute - 3];
  if (const int status = assign(transposed, value, bytes, "a transposition")) return status;
  return transposed == 0 || transposed == 1 ? SUCCESS : refuse(INVALID_VALUE, "a transposition is 0 or 1, got " + std::to_string(transposed));
}

ENTRY(int) cublasLtMatrixLayoutCreate(void** handle, int type, uint64_t rows, uint64_t columns, int64_t leading) {
  return create(handle, Layout{type, rows, columns, leading});
}

ENTRY(int) cublasLtMatmulPreferenceCreate(void** handle) { return create(handle, Preference{}); }

ENTRY(int) cublasLtMatmulPreferenceSetAttribute(void* handle, int attribute, const void* value, size_t bytes) {
  const std::lock_guard lock(mutex);
  Preference* const preference = find<Preference>(handle);
  if (!preference) return refuse(INVALID_VALUE, "cublasLtMatmulPreferenceSetAttribute: that is no preference");
  if (attribute == 1) return assign(preference->workspace_bytes, value, bytes, "the workspace's limit");
  if (attribute == 3) return assign(preference->reductions, value, bytes, "the reduction schemes");
  if (attribute >= 5 && attribute <= 8) return assign(preference->alignments[attribute - 5], value, bytes, "an alignment");
  return refuse(NOT_SUPPORTED, "preference " + std::to_string(attribute) + " is not emulated");
}

ENTRY(int) cublasLtMatmulPreferenceDestroy(void* handle) {
  const std::lock_guard lock(mutex);
  return all<Preference>().erase(handle) ? SUCCESS : refuse(INVALID_VALUE, "cublasLtMatmulPreferenceDestroy: that is no preference");
}

ENTRY(int) cublasLtMatmulAlgoGetHeuristic(void* handle, void* operation, void* a, void* b, void* c, void* d, void* preference_handle, int wanted,
                                          Heuristic* found, int* count) {
  const std::lock_guard lock(mutex);
  *count = 0;
  if (!find<Handle>(handle)) return refuse(NOT_INITIALIZED, "cublasLtMatmulAlgoGetHeuristic without a handle");
  const Preference* const preference = find<Preference>(preference_handle);
  if (!preference) return refuse(INVALID_VALUE, "cublasLtMatmulAlgoGetHeuristic: that is no preference");
  if (wanted < 1) return refuse(INVALID_VALUE, "cublasLtMatmulAlgoGetHeuristic: no algorithm is asked for");
  Shape shape;
  const std::string trouble = read_shape(shape, operation, {a, b, c, d});
  if (!trouble.empty()) return refuse(INVALID_VALUE, trouble);
  if (preference->reductions != 0) return refuse(NOT_SUPPORTED, "the order of sums is left open: a reduction scheme is allowed");
  if (preference->workspace_bytes < WORKSPACE_BYTES) return refuse(NOT_SUPPORTED, "the emulated kernel wants a workspace of 4096 bytes");
  for (int i = 0; i < 4; i++) {
    const uint64_t line = static_cast<uint64_t>(shape.layouts[i]->leading) * (i < 2 ? 2 : 4);
    if (preference->alignments[i] % 16 != 0 || line % 16 != 0)
      return refuse(NOT_SUPPORTED, std::string("columns of ") + NAMES[i] + " do not begin at multiples of 16 bytes");
  }
  *found = {};
  found->algorithm.of_product = fingerprint(shape);
  found->algorithm.workspace_bytes = found->workspace_bytes = WORKSPACE_BYTES;
  for (int i = 0; i < 4; i++) found->algorithm.alignments[i] = preference->alignments[i];
  found->waves = 1;
  *count = 1;
  return SUCCESS;
}

ENTRY(int) cublasLtMatmul(void* handle, void* operation, const float* alpha, const void* a, void* a_layout, const void* b, void* b_layout,
                          const float* beta, const void* c, void* c_layout, void* d, void* d_layout, const Algorithm* algorithm, void* workspace,
                          size_t workspace_bytes, void* stream) {
  const std::lock_guard lock(mutex);
  if (!find<Handle>(handle)) return refuse(NOT_INITIALIZED, "cublasLtMatmul without a handle");
  Shape shape;
  const std::string trouble = read_shape(shape, operation, {a_layout, b_layout, c_layout, d_layout});
  if (!trouble.empty()) return refuse(INVALID_VALUE, trouble);
  if (!alpha || !beta) return refuse(INVALID_VALUE, "alpha and beta are missing");
  if (!algorithm || algorithm->of_product != fingerprint(shape)) return refuse(INVALID_VALUE, "the algorithm was chosen for another product");
  if (workspace_bytes < algorithm->workspace_bytes)
    return refuse(INVALID_VALUE, "the algorithm needs " + std::to_string(algorithm->workspace_bytes) + " bytes of workspace, got " + std::to_string(workspace_bytes));
  const auto misaligned = [](const void* address, uint64_t alignment) { return reinterpret_cast<uintptr_t>(address) % alignment != 0; };
  if (misaligned(workspace, WORKSPACE_ALIGNMENT)) return refuse(INVALID_VALUE, "the workspace does not begin at a multiple of 256 bytes");
  const void* const operands[] = {a, b, c, d};
  for (int i = 0; i < 4; i++)
    if (misaligned(operands[i], algorithm->alignments[i]))
      return refuse(INVALID_VALUE, std::string(1, NAMES[i]) + " does not begin at a multiple of " + std::to_string(algorithm->alignments[i]) + " bytes");
  if (c == d && c_layout != d_layout) return refuse(INVALID_VALUE, "C and D are one matrix with two layouts");
  const auto [la, lb, lc, ld] = shape.layouts;
  const Multiplication product = {shape.operation->transposed[0] != 0, shape.operation->transposed[1] != 0, settings_in_use().wrong_blas, *la, *lb, *lc, *ld,
                                  shape.m, shape.n, shape.k, *alpha, *beta};
  const int result = run_in_stream("cublasLtMatmul", stream,
                                   {{a, bytes_of(*la), false}, {b, bytes_of(*lb), false}, {c, bytes_of(*lc), false}, {d, bytes_of(*ld), true}, {workspace, workspace_bytes, true}},
                                   [product](const std::vector<char*>& at) { product.run(at); });
  return result == 0 ? SUCCESS : refuse(EXECUTION_FAILED, "the driver refused the launch: error " + std::to_string(result));
}
}  // extern "C"

}  // namespace tacotune::cuda::emulator
