// SPDX-License-Identifier: Apache-2.0
// The part of cuBLASLt's interface that we use, and products by it. The declarations are our own; names, numbers, sizes and
// the order of arguments are those of cublasLt.h and cublas_api.h 13.1 (chapter "Using the cuBLASLt API" of the cuBLAS
// documentation) and of library_types.h of CUDA 13.0.
#include "blas.h"

#include <cmath>
#include <cstdlib>
#include <map>
#include <tuple>

#ifndef _WIN32
#include <dlfcn.h>
#endif

#include "gpu.h"
#include "ops.h"

namespace tacotune::cuda {
namespace {

// Major version 13 alone: these numbers were not compared with those of another. A library that is named is believed.
constexpr const char* LIBRARY = "libcublasLt.so.13";
constexpr const char* VARIABLE = "TACOTUNE_CUBLASLT";

constexpr int SUCCESS = 0;                              // CUBLAS_STATUS_SUCCESS
constexpr int REAL_F32 = 0, REAL_BF16 = 14;             // CUDA_R_32F, CUDA_R_16BF
constexpr int COMPUTE_32F = 68;                         // CUBLAS_COMPUTE_32F: f32 sums
constexpr int32_t PLAIN = 0, TRANSPOSED = 1;            // CUBLAS_OP_N, CUBLAS_OP_T
constexpr int TRANSPOSE_A = 3, TRANSPOSE_B = 4;         // CUBLASLT_MATMUL_DESC_TRANSA, …_TRANSB
constexpr int WORKSPACE_LIMIT = 1, REDUCTIONS = 3;      // CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, …_REDUCTION_SCHEME_MASK
constexpr int ALIGNMENTS[] = {5, 6, 7, 8};              // CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES … _D_BYTES
constexpr uint32_t NO_REDUCTION = 0, ALIGNMENT = 16;    // CUBLASLT_REDUCTION_SCHEME_NONE: depths are summed in one sequence
/// What the documentation of cublasSetWorkspace recommends for Hopper, the most that it recommends.
constexpr Int WORKSPACE_BYTES = Int{32} << 20;

/// How far the two may differ, as norms. Both sum in f32 in some order; one wrong element in a million stands out.
constexpr double DIFFERENCE = 1.0 / 1024;

using Handle = void*;
using Descriptor = void*;
struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace_bytes;
  int status;
  float waves;
  int reserved[4];
};

#define TACOTUNE_BLAS_FUNCTIONS(F)                                                                                             \
  F(size_t, cublasLtGetVersion, ())                                                                                            \
  F(const char*, cublasLtGetStatusString, (int status))                                                                        \
  F(int, cublasLtCreate, (Handle * handle))                                                                                    \
  F(int, cublasLtMatmulDescCreate, (Descriptor * operation, int compute_type, int scale_type))                                 \
  F(int, cublasLtMatmulDescSetAttribute, (Descriptor operation, int attribute, const void* value, size_t bytes))               \
  F(int, cublasLtMatrixLayoutCreate, (Descriptor * layout, int type, uint64_t rows, uint64_t columns, int64_t pitch))          \
  F(int, cublasLtMatmulPreferenceCreate, (Descriptor * preference))                                                            \
  F(int, cublasLtMatmulPreferenceSetAttribute, (Descriptor preference, int attribute, const void* value, size_t bytes))        \
  F(int, cublasLtMatmulPreferenceDestroy, (Descriptor preference))                                                             \
  F(int, cublasLtMatmulAlgoGetHeuristic,                                                                                       \
    (Handle handle, Descriptor operation, Descriptor a, Descriptor b, Descriptor c, Descriptor d, Descriptor preference,       \
     int wanted, Heuristic* found, int* count))                                                                                \
  F(int, cublasLtMatmul,                                                                                                       \
    (Handle handle, Descriptor operation, const void* alpha, const void* a, Descriptor a_layout, const void* b,                \
     Descriptor b_layout, const void* beta, const void* c, Descriptor c_layout, void* d, Descriptor d_layout,                  \
     const Algorithm* algorithm, void* workspace, size_t workspace_bytes, CUstream stream))

/// How products of one shape are computed. Lives as long as the process.
struct Plan {
  Descriptor operation = nullptr, a = nullptr, b = nullptr, out = nullptr;
  Algorithm algorithm = {};
  bool offered = false;   // the library has a kernel for it
  bool believed = false;  // it has agreed with ours
};

double norm_of(float* values, Int n) {
  float* const sum = scratch_of<float>(1);
  sum_of_squares({sum, 1}, {values, n}, n);
  float squares = 0;
  Gpu::current().download(&squares, reinterpret_cast<CUdeviceptr>(sum), sizeof(squares));
  return std::sqrt(static_cast<double>(squares));
}

class Blas : public LargeProducts {
 public:
  Blas() { open(); }

  Int least = 0;
  BlasState state;

  bool wants(Int M, Int N, Int D) const override {
    return least > 0 && state.trouble.empty() && M >= least && N >= least && D >= least && N % 4 == 0;
  }

  bool compute(const LargeProduct& p, const Ours& ours) override {
    try {
      Plan& plan = plan_of(p);
      if (!plan.offered) return false;
      void* const workspace = scratch(WORKSPACE_BYTES);
      if (!plan.believed && !agrees(plan, p, ours, workspace)) return false;
      plan.believed = true;
      multiply(plan, p, p.out, p.alpha, p.accumulate ? 1.0f : 0.0f, workspace);
      state.products++;
      return true;
    } catch (const Refusal& refusal) {
      state.trouble = state.library + " is not used: " + refusal.what();
      return false;
    }
  }

 private:
  struct Refusal : std::runtime_error {
    using std::runtime_error::runtime_error;
  };
  using Shape = std::tuple<Pattern, Int, Int, Int, Int, Int>;

  void open() {
    const char* const named = std::getenv(VARIABLE);
    const std::string name = named && *named ? named : LIBRARY;
    if (name == "off") {
      state.trouble = std::string("cuBLASLt is switched off by ") + VARIABLE;
      return;
    }
#ifdef _WIN32
    state.trouble = "cuBLASLt is not used on Windows";
#else
    void* const library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      state.trouble = std::string("no cuBLASLt: ") + dlerror();
      return;
    }
#define TACOTUNE_FIND(type, function, parameters)                                   \
  function = reinterpret_cast<type(*) parameters>(dlsym(library, #function));       \
  if (!function) {                                                                  \
    state.trouble = name + " has no " #function;                                    \
    return;                                                                         \
  }
    TACOTUNE_BLAS_FUNCTIONS(TACOTUNE_FIND)
#undef TACOTUNE_FIND
    state.library = name;
    state.version = static_cast<Int>(cublasLtGetVersion());
#endif
  }

  void require(int status, const char* tried) const {
    if (status == SUCCESS) return;
    const char* const text = cublasLtGetStatusString(status);
    throw Refusal(std::string(tried) + ": " + (text ? text : "status " + std::to_string(status)));
  }

  /// Lines of ours are columns there.
  Descriptor layout(int type, Int width, Int lines, Int pitch) const {
    Descriptor made = nullptr;
    require(cublasLtMatrixLayoutCreate(&made, type, static_cast<uint64_t>(width), static_cast<uint64_t>(lines), pitch), "cublasLtMatrixLayoutCreate");
    return made;
  }

  /// Seen as columns, out (M,N) is outᵀ = (product)ᵀ, whose first factor is our b.
  Plan& plan_of(const LargeProduct& p) {
    const auto [entry, is_new] = plans_.try_emplace(Shape{p.pattern, p.M, p.N, p.D, p.a.pitch, p.b.pitch});
    Plan& plan = entry->second;
    if (!is_new) return plan;
    if (!handle_) require(cublasLtCreate(&handle_), "cublasLtCreate");
    require(cublasLtMatmulDescCreate(&plan.operation, COMPUTE_32F, REAL_F32), "cublasLtMatmulDescCreate");
    const int32_t first = p.pattern == Pattern::FORWARD ? TRANSPOSED : PLAIN, second = p.pattern == Pattern::WEIGHT ? TRANSPOSED : PLAIN;
    require(cublasLtMatmulDescSetAttribute(plan.operation, TRANSPOSE_A, &first, sizeof(first)), "CUBLASLT_MATMUL_DESC_TRANSA");
    require(cublasLtMatmulDescSetAttribute(plan.operation, TRANSPOSE_B, &second, sizeof(second)), "CUBLASLT_MATMUL_DESC_TRANSB");
    plan.a = layout(REAL_BF16, p.a.width, p.a.lines, p.a.pitch);
    plan.b = layout(REAL_BF16, p.b.width, p.b.lines, p.b.pitch);
    plan.out = layout(REAL_F32, p.N, p.M, p.N);
    choose_algorithm(plan);
    return plan;
  }

  void choose_algorithm(Plan& plan) const {
    Descriptor preference = nullptr;
    require(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
    const auto prefer = [&](int attribute, const auto& value) {
      require(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)), "cublasLtMatmulPreferenceSetAttribute");
    };
    prefer(WORKSPACE_LIMIT, static_cast<uint64_t>(WORKSPACE_BYTES));
    prefer(REDUCTIONS, NO_REDUCTION);
    for (const int which : ALIGNMENTS) prefer(which, ALIGNMENT);
    Heuristic found = {};
    int count = 0;
    const int status = cublasLtMatmulAlgoGetHeuristic(handle_, plan.operation, plan.b, plan.a, plan.out, plan.out, preference, 1, &found, &count);
    plan.offered = status == SUCCESS && count > 0 && found.status == SUCCESS;
    plan.algorithm = found.algorithm;
    require(cublasLtMatmulPreferenceDestroy(preference), "cublasLtMatmulPreferenceDestroy");
  }

  void multiply(const Plan& plan, const LargeProduct& p, float* out, float alpha, float beta, void* workspace) const {
    require(cublasLtMatmul(handle_, plan.operation, &alpha, p.b.data, plan.b, p.a.data, plan.a, &beta, out, plan.out, out, plan.out, &plan.algorithm,
                           workspace, static_cast<size_t>(WORKSPACE_BYTES), Gpu::current().compute_stream()),
            "cublasLtMatmul");
  }

  /// Ours minus theirs. Operands that are all zeros or not finite tell nothing: ours is taken, and the next one is looked at.
  bool agrees(const Plan& plan, const LargeProduct& p, const Ours& ours, void* workspace) const {
    float* const both = scratch_of<float>(p.M * p.N);
    ours(both);
    const double norm = norm_of(both, p.M * p.N);
    if (norm == 0 || !std::isfinite(norm)) return false;
    multiply(plan, p, both, -p.alpha, 1.0f, workspace);
    const double difference = norm_of(both, p.M * p.N);
    if (difference <= DIFFERENCE * norm) return true;
    throw Refusal("its product of " + std::to_string(p.M) + "×" + std::to_string(p.N) + " over " + std::to_string(p.D) + " differs from ours by " +
                  std::to_string(difference / norm) + " of its norm");
  }

#define TACOTUNE_MEMBER(type, function, parameters) type(*function) parameters = nullptr;
  TACOTUNE_BLAS_FUNCTIONS(TACOTUNE_MEMBER)
#undef TACOTUNE_MEMBER
  Handle handle_ = nullptr;
  std::map<Shape, Plan> plans_;
};

// Never destroyed, as the GPU is not.
Blas& blas() {
  static Blas& made = *new Blas;
  return made;
}

}  // namespace

void use_blas(Int least) {
  if (least > 0) blas().least = least;
  large_products = least > 0 ? &blas() : nullptr;
}

BlasState blas_state() { return blas().state; }

}  // namespace tacotune::cuda
