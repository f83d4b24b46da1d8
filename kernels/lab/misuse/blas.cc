// SPDX-License-Identifier: Apache-2.0
// Is the stand-in for cuBLASLt awake? One product is called as it should be, then once for each way to get it wrong; a line
// of JSON says what came of it: the name, the status, and the sentence of the refusal. test/cuda/blas.test.ts judges.
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

extern "C" {
int cuInit(unsigned);
int cuDevicePrimaryCtxRetain(void**, int);
int cuCtxSetCurrent(void*);
int cuCtxSynchronize();
int cuMemAlloc_v2(unsigned long long*, size_t);
const char* cublasLtGetStatusString(int);
int cublasLtCreate(void**);
int cublasLtMatmulDescCreate(void**, int, int);
int cublasLtMatmulDescSetAttribute(void*, int, const void*, size_t);
int cublasLtMatrixLayoutCreate(void**, int, uint64_t, uint64_t, int64_t);
int cublasLtMatmulPreferenceCreate(void**);
int cublasLtMatmulPreferenceSetAttribute(void*, int, const void*, size_t);
int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int, void*, int*);
int cublasLtMatmul(void*, void*, const float*, const void*, void*, const void*, void*, const float*, const void*, void*, void*, void*, const void*, void*,
                   size_t, void*);
}

namespace {

constexpr uint64_t M = 24, N = 16, K = 32;  // D (M,N) = Aᵀ·B: A is (K,M), B is (K,N)

struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t leading;
};

/// All that a caller says of one product.
struct Call {
  int compute_type = 68, scale_type = 0, transposed = 1, attribute = 3;
  size_t attribute_bytes = 4;
  Layout a{14, K, M, K}, b{14, K, N, K}, out{0, M, N, M};
  uint32_t reductions = 0, alignment = 16;
  uint64_t workspace_limit = 1 << 20;
  uint64_t workspace_bytes = 1 << 20, workspace_shift = 0;
  uint64_t a_shift = 0, out_shift = 0;  // bytes by which an operand is off its place
  bool other_product = false;           // the algorithm is used for a product that it was not chosen for
  bool two_layouts = false;             // of one result
};

unsigned long long allocate(size_t bytes) {
  unsigned long long address = 0;
  cuMemAlloc_v2(&address, bytes);
  return address;
}

/// Returns the status of the first call that does not succeed.
int multiply(const Call& call) {
  void *handle = nullptr, *operation = nullptr, *a = nullptr, *b = nullptr, *out = nullptr, *second = nullptr, *preference = nullptr;
  const auto layout = [](void** made, const Layout& x) { return cublasLtMatrixLayoutCreate(made, x.type, x.rows, x.columns, x.leading); };
  const auto prefer = [&](int attribute, const auto& value) { return cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)); };
  const int64_t transposed[2] = {call.transposed, 0};
  char found[96] = {};
  int count = 0;
  for (const int status : {cublasLtCreate(&handle), cublasLtMatmulDescCreate(&operation, call.compute_type, call.scale_type), layout(&a, call.a), layout(&b, call.b),
                           layout(&out, call.out), layout(&second, call.out), cublasLtMatmulPreferenceCreate(&preference)})
    if (status) return status;
  if (const int status = cublasLtMatmulDescSetAttribute(operation, call.attribute, transposed, call.attribute_bytes)) return status;
  if (const int status = prefer(1, call.workspace_limit)) return status;
  if (const int status = prefer(3, call.reductions)) return status;
  for (const int which : {5, 6, 7, 8})
    if (const int status = prefer(which, call.alignment)) return status;
  if (const int status = cublasLtMatmulAlgoGetHeuristic(handle, operation, a, b, out, out, preference, 1, found, &count)) return status;
  if (call.other_product) {
    layout(&b, {14, K, N / 2, K});
    layout(&out, {0, M, N / 2, M});
  }
  static const unsigned long long a_at = allocate(2 * K * M), b_at = allocate(2 * K * N), out_at = allocate(4 * M * N), workspace = allocate(2 << 20);
  const auto pointer = [](unsigned long long address) { return reinterpret_cast<void*>(address); };
  const float alpha = 1, beta = 0;
  void* const d = pointer(out_at + call.out_shift);
  if (const int status = cublasLtMatmul(handle, operation, &alpha, pointer(a_at + call.a_shift), a, pointer(b_at), b, &beta, d, out, d, call.two_layouts ? second : out, found,
                                        pointer(workspace + call.workspace_shift), call.workspace_bytes, nullptr))
    return status;
  return cuCtxSynchronize();
}

void report(const char* name, const std::function<void(Call&)>& spoil) {
  Call call;
  spoil(call);
  const int status = multiply(call);
  std::printf("{\"name\":\"%s\",\"status\":%d,\"sentence\":\"%s\"}\n", name, status, cublasLtGetStatusString(status));
}

}  // namespace

int main() {
  void* context = nullptr;
  if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context)) return 2;
  report("nothing", [](Call&) {});
  report("sums in bf16", [](Call& c) { c.compute_type = 64; });
  report("an attribute of the wrong size", [](Call& c) { c.attribute_bytes = 8; });
  report("an attribute that is none of ours", [](Call& c) { c.attribute = 7; });
  report("a transposition that is none", [](Call& c) { c.transposed = 84; });
  report("A not transposed", [](Call& c) { c.transposed = 0; });
  report("operands of f16", [](Call& c) { c.a.type = 2; });
  report("a result of bf16", [](Call& c) { c.out.type = 14; });
  report("rows and columns exchanged", [](Call& c) { c.out = {0, N, M, N}; });
  report("a leading dimension below the rows", [](Call& c) { c.a.leading = K - 8; });
  report("a leading dimension off an alignment", [](Call& c) { c.b.leading = K + 1; });
  report("a leading dimension beyond the memory", [](Call& c) { c.b.leading = K + 8; });
  report("an order of sums that is open", [](Call& c) { c.reductions = 7; });
  report("no workspace allowed", [](Call& c) { c.workspace_limit = 0; });
  report("less workspace than allowed", [](Call& c) { c.workspace_bytes = 256; });
  report("a workspace off an alignment", [](Call& c) { c.workspace_shift = 16; });
  report("A off its alignment", [](Call& c) { c.a_shift = 8; });
  report("a result that ends beyond its memory", [](Call& c) { c.out_shift = 16; });
  report("an algorithm of another product", [](Call& c) { c.other_product = true; });
  report("two layouts of one result", [](Call& c) { c.two_layouts = true; });
}
