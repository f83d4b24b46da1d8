// SPDX-License-Identifier: Apache-2.0
// What each op launches: the host halves of the ops run with sizes of a 7B model at 512 tokens (and of one token, for
// decoding) over addresses that nobody follows, and each launch is printed as a line of JSON instead of being made. So a
// kernel's grid, block and dynamic shared memory are known without a GPU, for scripts/kernel-report.mjs.
#include <cstdio>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"

namespace tacotune::cuda {
namespace {

constexpr uintptr_t SOMEWHERE = Int{1} << 40;  // aligned, as tensors are
const char* current_name = "";
Int next_scratch = SOMEWHERE;

}  // namespace

const DeviceInfo& device_info() {
  static const DeviceInfo info = {132, 90, 227 * 1024};  // an H100
  return info;
}

void launch_by_name(const char* kernel, Grid grid, int threads, Int shared_bytes, void**) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  std::printf("{\"op\":\"%s\",\"kernel\":\"%s\",\"blocks\":%lld,\"threads\":%d,\"sharedBytes\":%lld}\n", current_name, kernel,
              static_cast<long long>(grid.x * grid.y * grid.z), threads, static_cast<long long>(shared_bytes));
}

void* scratch(Int bytes) {
  next_scratch += (bytes + 255) / 256 * 256;
  return reinterpret_cast<void*>(next_scratch);
}

Fault* fault_slot() { return reinterpret_cast<Fault*>(SOMEWHERE); }
int32_t current_op() { return 1; }

namespace {

/// A span of `count` elements, of whatever type the op wants.
struct Any {
  Int count;
  template <class T>
  operator Span<T>() const { return {reinterpret_cast<T*>(SOMEWHERE), count}; }
  operator BytesIn() const { return {reinterpret_cast<const void*>(SOMEWHERE), count}; }
  operator BytesOut() const { return {reinterpret_cast<void*>(SOMEWHERE), count}; }
};

#define RUN(op, ...) (current_name = #op, op(__VA_ARGS__))

constexpr Int C = 4096, F = 11008, V = 32000, H = 32, D = 128, R = 16;

void row_ops(Int M) {
  RUN(embedding_forward, Any{M * C}, Any{M}, Any{2 * V * C}, STORE_BF16, M, V, C);
  RUN(embedding_backward, Any{V * C}, Any{M * C}, Any{M}, M, V, C);
  RUN(rmsnorm_forward, Any{M * C}, Any{M}, Any{M * C}, Any{C}, M, C, 1e-5f);
  RUN(rmsnorm_backward, Any{M * C}, Any{C}, Any{M * C}, Any{M * C}, Any{M}, Any{C}, M, C, 1);
  RUN(rope_forward, Any{M * C}, Any{2048 * D}, Any{M}, M, H, D, Int{2048});
  RUN(rope_backward, Any{M * C}, Any{2048 * D}, Any{M}, M, H, D, Int{2048});
}

void attention_ops(Int T, Int compute) {
  const Int n = T * H * D;
  RUN(attention_forward, Any{n}, Any{T * H}, Any{n}, Any{n}, Any{n}, Any{T}, 1, T, T, H, H, D, compute);
  RUN(attention_backward, Any{n}, Any{n}, Any{n}, Any{n}, Any{n}, Any{n}, Any{n}, Any{n}, Any{T * H}, Any{T}, 1, T, H, H, D, compute);
}

void product_ops(Int M, Int compute) {
  RUN(linear_forward, Any{M * C}, Any{M * C}, Any{2 * C * C}, STORE_BF16, M, C, C, 1.0f, 0, compute);
  RUN(linear_backward, Any{M * C}, Any{M * C}, Any{2 * C * C}, STORE_BF16, M, C, C, 1.0f, 0, compute);
  RUN(linear_weight_backward, Any{R * C}, Any{M * R}, Any{M * C}, M, R, C, 1.0f, compute);
  const Int weights = F * C, blocks = weights / 64;
  RUN(linear_nf4_forward, Any{M * F}, Any{M * C}, Any{weights / 2}, Any{blocks}, Any{blocks / 256}, 0.0f, M, F, C, 0, compute);
  RUN(linear_nf4_backward, Any{M * C}, Any{M * F}, Any{weights / 2}, Any{blocks}, Any{blocks / 256}, 0.0f, M, F, C, 0, compute);
  RUN(cross_entropy_forward, Any{M}, Any{M * C}, Any{2 * V * C}, STORE_BF16, Any{M}, M, V, C, compute);
  RUN(cross_entropy_forward_backward, Any{M}, Any{M * C}, Any{0}, Any{M * C}, Any{2 * V * C}, STORE_BF16, Any{M}, 1.0f, M, V, C, compute);
}

void element_ops(Int n) {
  const Any values{n};
  RUN(swiglu_forward, values, values, values, n);
  RUN(swiglu_backward, values, values, values, values, values, n);
  RUN(dropout_forward, values, values, n, 0.05f, 7);
  RUN(dropout_backward, values, values, n, 0.05f, 7, 1);
  RUN(add, values, values, n);
  RUN(copy, values, values, n);
  RUN(fill, values, 0.0f, n);
  RUN(sum, Any{1}, values, n);
  RUN(sum_of_squares, Any{1}, values, n);
  RUN(adamw, values, values, values, values, n, 1e-4, 0.9, 0.999, 1e-8, 0.0, 1, 1.0);
  RUN(adamw_8bit, values, values, values, values, Any{n / 256}, Any{n / 256}, n, 1e-4, 0.9, 0.999, 1e-8, 0.0, 1, 1.0);
  RUN(nf4_quantize, Any{n / 2}, Any{n / 64}, values, n);
  RUN(nf4_double_quantize, values, Any{n / 256}, Any{1}, values, n);
  RUN(nf4_dequantize, values, Any{n / 2}, Any{n / 64}, Any{n / 64 / 256}, 0.0f, n);
  for (const Int type : {STORE_BF16, STORE_F16}) {
    RUN(to_f32, values, Any{2 * n}, type, n);
    RUN(from_f32, Any{2 * n}, values, type, n);
  }
}

}  // namespace
}  // namespace tacotune::cuda

int main() {
  using namespace tacotune;
  cuda::row_ops(512);
  for (const Int compute : {COMPUTE_BF16, COMPUTE_F32}) {
    cuda::attention_ops(512, compute);
    for (const Int M : {512, 1}) cuda::product_ops(M, compute);
  }
  cuda::element_ops(512 * cuda::F);
}
