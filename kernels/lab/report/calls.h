// SPDX-License-Identifier: Apache-2.0
// Every op called once, or once for each of the kernels it chooses among: storage types, compute types, head widths, many
// tokens, some, and one. Who includes it says where operands lie and what a launch does: launches.cc prints launches,
// traffic.cc makes them.
#pragma once
#include <initializer_list>

#include "kernels/cuda/ops.h"

namespace tacotune::lab {

struct Sizes {
  Int tokens, some_tokens;  // beside one
  Int C, F, V, H;           // heads are 128 wide in row ops: C = 128·H
  Int elements;             // of element-wise ops
};

/// What an operand may hold: any f32 in (0,1), any codes, indices that are all 0, small positive values of each storage type.
enum class Content { VALUES, CODES, INDICES, STORED };

/// Memory for an operand, until the op ends.
void* operand(Int bytes, Content content);
void begin_op(const char* name);
void end_op();

/// A span of `count` elements (or bytes) of whatever type the op wants.
struct Any {
  Int count;
  template <class T>
  operator Span<T>() const {
    constexpr Content content = sizeof(T) == 1 ? Content::CODES : static_cast<T>(0.5f) == 0 ? Content::INDICES : Content::VALUES;
    return {static_cast<T*>(operand(count * static_cast<Int>(sizeof(T)), content)), count};
  }
  operator BytesIn() const { return {operand(count, Content::STORED), count}; }
  operator BytesOut() const { return {operand(count, Content::STORED), count}; }
};

#define TACOTUNE_CALL(op, ...) (begin_op(#op), cuda::op(__VA_ARGS__), end_op())

inline Int bytes_of(Int type, Int n) { return n * (type == STORE_F32 ? 4 : 2); }

inline void call_row_ops(const Sizes& s) {
  const Int M = s.tokens, C = s.C, V = s.V, D = 128, P = M, frozen = 0;
  for (const Int type : {STORE_F32, STORE_BF16, STORE_F16}) TACOTUNE_CALL(embedding_forward, Any{M * C}, Any{M}, Any{bytes_of(type, V * C)}, type, M, V, C);
  TACOTUNE_CALL(embedding_backward, Any{V * C}, Any{M * C}, Any{M}, M, V, C);
  TACOTUNE_CALL(rmsnorm_forward, Any{M * C}, Any{M}, Any{M * C}, Any{C}, M, C, 1e-5f);
  for (const Int weights : {frozen, C})
    TACOTUNE_CALL(rmsnorm_backward, Any{M * C}, Any{weights}, Any{M * C}, Any{M * C}, Any{M}, Any{C}, M, C, 1);
  TACOTUNE_CALL(rope_forward, Any{M * C}, Any{P * D}, Any{M}, M, s.H, D, P);
  TACOTUNE_CALL(rope_backward, Any{M * C}, Any{P * D}, Any{M}, M, s.H, D, P);
}

inline void call_attention(const Sizes& s, Int compute) {
  const Int B = 1, T = s.tokens, H = s.H, one = 1;
  for (const Int D : {32, 64, 96, 128}) {
    const Int n = T * H * D;
    TACOTUNE_CALL(attention_forward, Any{n}, Any{T * H}, Any{n}, Any{n}, Any{n}, Any{T}, B, T, T, H, H, D, compute);
    TACOTUNE_CALL(attention_backward, Any{n}, Any{n}, Any{n}, Any{n}, Any{n}, Any{n}, Any{n}, Any{n}, Any{T * H}, Any{T}, B, T, H, H, D, compute);
    TACOTUNE_CALL(attention_forward, Any{H * D}, Any{H}, Any{H * D}, Any{4 * n}, Any{4 * n}, Any{one}, B, one, 4 * T, H, H, D, compute);
  }
}

inline void call_products(const Sizes& s, Int M, Int compute) {
  const Int C = s.C, F = s.F, V = s.V, R = 16, frozen = 0, weights = F * C, blocks = weights / 64;
  const Any none{0};
  for (const Int type : {STORE_F32, STORE_BF16, STORE_F16}) {
    TACOTUNE_CALL(linear_forward, Any{M * C}, Any{M * C}, Any{bytes_of(type, C * C)}, type, none, none, M, C, C, 0, 1.0f, 0.0f, 0, compute);
    TACOTUNE_CALL(linear_backward, Any{M * C}, Any{M * C}, Any{bytes_of(type, C * C)}, type, none, none, M, C, C, 0, 1.0f, 0.0f, 0, compute);
  }
  // The low-rank products that stand alone; the others ride with those over the frozen weights below.
  TACOTUNE_CALL(linear_forward, Any{M * R}, Any{M * C}, Any{4 * R * C}, STORE_F32, none, none, M, R, C, 0, 1.0f, 0.0f, 0, compute);
  TACOTUNE_CALL(linear_backward, Any{M * C}, Any{M * R}, Any{4 * R * C}, STORE_F32, none, none, M, R, C, 0, 1.0f, 0.0f, 0, compute);
  TACOTUNE_CALL(linear_weight_backward, Any{R * C}, Any{M * R}, Any{M * C}, M, R, C, 1.0f, compute);
  TACOTUNE_CALL(linear_weight_backward, Any{C * C}, Any{M * C}, Any{M * C}, M, C, C, 1.0f, compute);
  TACOTUNE_CALL(linear_nf4_forward, Any{M * F}, Any{M * C}, Any{weights / 2}, Any{blocks}, Any{(blocks + 255) / 256}, 0.0f, Any{M * R}, Any{F * R}, M, F, C, R,
                2.0f, 0, compute);
  TACOTUNE_CALL(linear_nf4_backward, Any{M * C}, Any{M * F}, Any{weights / 2}, Any{blocks}, Any{(blocks + 255) / 256}, 0.0f, Any{M * R}, Any{R * C}, M, F, C, R,
                1.0f, 0, compute);
  TACOTUNE_CALL(cross_entropy_forward, Any{M}, Any{M * C}, Any{2 * V * C}, STORE_BF16, Any{M}, M, V, C, compute);
  TACOTUNE_CALL(cross_entropy_forward_backward, Any{M}, Any{M * C}, Any{frozen}, Any{M * C}, Any{2 * V * C}, STORE_BF16, Any{M}, 1.0f, M, V, C, compute);
}

inline void call_element_ops(Int n) {
  const Any values{n};
  TACOTUNE_CALL(swiglu_forward, values, values, values, n);
  TACOTUNE_CALL(swiglu_backward, values, values, values, values, values, n);
  TACOTUNE_CALL(dropout_forward, values, values, n, 0.05f, 7);
  TACOTUNE_CALL(dropout_backward, values, values, n, 0.05f, 7, 1);
  TACOTUNE_CALL(add, values, values, n);
  TACOTUNE_CALL(copy, values, values, n);
  TACOTUNE_CALL(fill, values, 0.0f, n);
  TACOTUNE_CALL(sum, Any{1}, values, n);
  TACOTUNE_CALL(sum_of_squares, Any{1}, values, n);
  TACOTUNE_CALL(adamw, values, values, values, values, n, 1e-4, 0.9, 0.999, 1e-8, 0.0, 1, 1.0);
  TACOTUNE_CALL(adamw_8bit, values, values, values, values, Any{n / 256}, Any{n / 256}, n, 1e-4, 0.9, 0.999, 1e-8, 0.0, 1, 1.0);
  TACOTUNE_CALL(nf4_quantize, Any{n / 2}, Any{n / 64}, values, n);
  TACOTUNE_CALL(nf4_double_quantize, Any{n / 64}, Any{n / 64 / 256}, Any{1}, Any{n / 64}, n / 64);
  TACOTUNE_CALL(nf4_dequantize, values, Any{n / 2}, Any{n / 64}, Any{n / 64 / 256}, 0.0f, n);
  for (const Int type : {STORE_BF16, STORE_F16}) {
    TACOTUNE_CALL(to_f32, values, Any{2 * n}, type, n);
    TACOTUNE_CALL(from_f32, Any{2 * n}, values, type, n);
  }
}

inline void call_all_ops(const Sizes& s) {
  call_row_ops(s);
  for (const Int compute : {COMPUTE_BF16, COMPUTE_F32}) {
    call_attention(s, compute);
    for (const Int M : {s.tokens, s.some_tokens, Int{1}}) call_products(s, M, compute);
  }
  call_element_ops(s.elements);
}

}  // namespace tacotune::lab
