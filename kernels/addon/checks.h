// SPDX-License-Identifier: Apache-2.0
// One check per op, of the op's own signature: counts agree with the shapes, indices are in range, settings make sense.
// They run before any implementation is called, so implementations may trust their arguments. Indices on a GPU cannot be
// read here (their span arrives without its data): the GPU's kernels check those.
#pragma once
#include <stdexcept>
#include <string>

#include "kernels/ops.h"

namespace tacotune::addon {

/// A product of sizes that refuses to overflow: shapes come from files and callers.
template <class... Sizes>
Int product(Sizes... sizes) {
  Int total = 1;
  for (const Int size : {static_cast<Int>(sizes)...})
    if (__builtin_mul_overflow(total, size, &total)) throw std::invalid_argument("the shapes multiply beyond 2^63");
  return total;
}

inline Int blocks_of(Int n, Int block) { return n / block + (n % block != 0); }

template <class S>
void need(const S& span, Int count, const char* name, const char* shape) {
  if (span.count != count)
    throw std::invalid_argument(std::string("expected ") + std::to_string(count) + " elements " + shape + " for " + name + ", got " + std::to_string(span.count));
}

inline Int storage_bytes(Int type, const char* name) {
  if (type != STORE_F32 && type != STORE_BF16 && type != STORE_F16)
    throw std::invalid_argument(std::string("expected 0 (f32), 1 (bf16) or 2 (f16) for ") + name + ", got " + std::to_string(type));
  return type == STORE_F32 ? 4 : 2;
}

template <class B>
void need_bytes(const B& bytes, Int elements, Int type, const char* name, const char* type_name, const char* shape) {
  const Int expected = product(elements, storage_bytes(type, type_name));
  if (bytes.count != expected)
    throw std::invalid_argument(std::string("expected ") + std::to_string(expected) + " bytes " + shape + " for " + name + ", got " + std::to_string(bytes.count));
}

inline void need_flag(Int value, const char* name) {
  if (value != 0 && value != 1) throw std::invalid_argument(std::string("expected 0 or 1 for ") + name + ", got " + std::to_string(value));
}

inline void need_compute(Int compute) {
  if (compute != COMPUTE_F32 && compute != COMPUTE_BF16)
    throw std::invalid_argument("expected 0 (f32) or 1 (bf16) for compute, got " + std::to_string(compute));
}

inline void need_indices(I32In values, Int limit, const char* name, const char* limit_name, bool ignore_allowed = false) {
  if (!values.data) return;
  for (Int i = 0; i < values.count; i++) {
    const Int v = values.data[i];
    if ((v < 0 || v >= limit) && !(ignore_allowed && v == -100))
      throw std::invalid_argument(std::string("expected values in [0,") + limit_name + "=" + std::to_string(limit) + ")" +
                                  (ignore_allowed ? " or -100" : "") + " for " + name + ", got " + std::to_string(v) + " at index " + std::to_string(i));
  }
}

inline void need_nf4(U8In codes, U8In absmax_codes, F32In absmax, Int n) {
  need(codes, blocks_of(n, 2), "codes", "(⌈n/2⌉, two a byte)");
  const Int blocks = blocks_of(n, 64);
  if (absmax_codes.count == 0) {
    need(absmax, blocks, "absmax", "(⌈n/64⌉)");
  } else {
    need(absmax_codes, blocks, "absmax_codes", "(⌈n/64⌉)");
    need(absmax, blocks_of(blocks, 256), "absmax", "(⌈⌈n/64⌉/256⌉)");
  }
}

inline void check_embedding_forward(F32Out out, I32In ids, BytesIn weight, Int weight_type, Int M, Int V, Int C) {
  need(out, product(M, C), "out", "(M,C)");
  need(ids, M, "ids", "(M)");
  need_bytes(weight, product(V, C), weight_type, "weight", "weight_type", "(V,C)");
  need_indices(ids, V, "ids", "V");
}
inline void check_embedding_backward(F32Out dweight, F32In dout, I32In ids, Int M, Int V, Int C) {
  need(dweight, product(V, C), "dweight", "(V,C)");
  need(dout, product(M, C), "dout", "(M,C)");
  need(ids, M, "ids", "(M)");
  need_indices(ids, V, "ids", "V");
}

inline void check_rmsnorm_forward(F32Out out, F32Out rstd, F32In inp, F32In weight, Int M, Int C, float) {
  need(out, product(M, C), "out", "(M,C)");
  need(rstd, M, "rstd", "(M)");
  need(inp, product(M, C), "inp", "(M,C)");
  need(weight, C, "weight", "(C)");
}
inline void check_rmsnorm_backward(F32Out dinp, F32Out dweight, F32In dout, F32In inp, F32In rstd, F32In weight, Int M, Int C, Int accumulate) {
  need(dinp, product(M, C), "dinp", "(M,C)");
  if (dweight.count) need(dweight, C, "dweight", "(C) or empty");
  need(dout, product(M, C), "dout", "(M,C)");
  need(inp, product(M, C), "inp", "(M,C)");
  need(rstd, M, "rstd", "(M)");
  need(weight, C, "weight", "(C)");
  need_flag(accumulate, "accumulate");
}

inline void check_rope_forward(F32Out x, F32In table, I32In positions, Int M, Int H, Int D, Int P) {
  need(x, product(M, H, D), "x", "(M,H,D)");
  need(table, product(P, D), "table", "(P,2,D/2)");
  need(positions, M, "positions", "(M)");
  if (D % 2) throw std::invalid_argument("expected an even D, got " + std::to_string(D));
  need_indices(positions, P, "positions", "P");
}
inline void check_rope_backward(F32Out x, F32In table, I32In positions, Int M, Int H, Int D, Int P) { check_rope_forward(x, table, positions, M, H, D, P); }

inline void need_heads(Int Hq, Int Hkv, Int D) {
  if (Hq < 1 || Hkv < 1 || D < 1 || Hq % Hkv)
    throw std::invalid_argument("expected Hq a multiple of Hkv and D ≥ 1, got Hq=" + std::to_string(Hq) + ", Hkv=" + std::to_string(Hkv) + ", D=" + std::to_string(D));
}
inline void need_starts(I32In starts, Int B, Int Tq, Int Tk) {
  need(starts, product(B, Tq), "starts", "(B,Tq)");
  if (!starts.data) return;
  for (Int i = 0; i < starts.count; i++) {
    const Int position = Tk - Tq + i % Tq;
    if (starts.data[i] < 0 || starts.data[i] > position)
      throw std::invalid_argument("expected 0 ≤ starts ≤ " + std::to_string(position) + " (the query's own key), got " + std::to_string(starts.data[i]) + " at index " + std::to_string(i));
  }
}
inline void check_attention_forward(F32Out out, F32Out lse, F32In q, F32In k, F32In v, I32In starts, Int B, Int Tq, Int Tk, Int Hq, Int Hkv, Int D,
                                    Int compute) {
  need_heads(Hq, Hkv, D);
  need_compute(compute);
  if (Tk < Tq) throw std::invalid_argument("expected Tk ≥ Tq, got Tq=" + std::to_string(Tq) + ", Tk=" + std::to_string(Tk));
  need(out, product(B, Tq, Hq, D), "out", "(B,Tq,Hq,D)");
  need(lse, product(B, Hq, Tq), "lse", "(B,Hq,Tq)");
  need(q, product(B, Tq, Hq, D), "q", "(B,Tq,Hq,D)");
  need(k, product(B, Tk, Hkv, D), "k", "(B,Tk,Hkv,D)");
  need(v, product(B, Tk, Hkv, D), "v", "(B,Tk,Hkv,D)");
  need_starts(starts, B, Tq, Tk);
}
inline void check_attention_backward(F32Out dq, F32Out dk, F32Out dv, F32In dout, F32In q, F32In k, F32In v, F32In out, F32In lse, I32In starts,
                                     Int B, Int T, Int Hq, Int Hkv, Int D, Int compute) {
  need_heads(Hq, Hkv, D);
  need_compute(compute);
  const Int queries = product(B, T, Hq, D), keys = product(B, T, Hkv, D);
  need(dq, queries, "dq", "(B,T,Hq,D)");
  need(dk, keys, "dk", "(B,T,Hkv,D)");
  need(dv, keys, "dv", "(B,T,Hkv,D)");
  need(dout, queries, "dout", "(B,T,Hq,D)");
  need(q, queries, "q", "(B,T,Hq,D)");
  need(k, keys, "k", "(B,T,Hkv,D)");
  need(v, keys, "v", "(B,T,Hkv,D)");
  need(out, queries, "out", "(B,T,Hq,D)");
  need(lse, product(B, Hq, T), "lse", "(B,Hq,T)");
  need_starts(starts, B, T, T);
}

inline void check_swiglu_forward(F32Out out, F32In gate, F32In up, Int n) {
  need(out, n, "out", "(n)");
  need(gate, n, "gate", "(n)");
  need(up, n, "up", "(n)");
}
inline void check_swiglu_backward(F32Out dgate, F32Out dup, F32In dout, F32In gate, F32In up, Int n) {
  need(dgate, n, "dgate", "(n)");
  need(dup, n, "dup", "(n)");
  need(dout, n, "dout", "(n)");
  need(gate, n, "gate", "(n)");
  need(up, n, "up", "(n)");
}

inline void need_low_rank(F32In low, F32In factor, Int M, Int lines, Int R, const char* shape) {
  need(low, product(M, R), "low", "(M,R)");
  need(factor, product(lines, R), "factor", shape);
}
inline void check_linear_forward(F32Out out, F32In inp, BytesIn weight, Int weight_type, F32In low, F32In factor, Int M, Int N, Int K, Int R, float, float,
                                 Int accumulate, Int compute) {
  need(out, product(M, N), "out", "(M,N)");
  need(inp, product(M, K), "inp", "(M,K)");
  need_bytes(weight, product(N, K), weight_type, "weight", "weight_type", "(N,K)");
  need_low_rank(low, factor, M, N, R, "(N,R)");
  need_flag(accumulate, "accumulate");
  need_compute(compute);
}
inline void check_linear_backward(F32Out dinp, F32In dout, BytesIn weight, Int weight_type, F32In low, F32In factor, Int M, Int N, Int K, Int R, float, float,
                                  Int accumulate, Int compute) {
  need(dinp, product(M, K), "dinp", "(M,K)");
  need(dout, product(M, N), "dout", "(M,N)");
  need_bytes(weight, product(N, K), weight_type, "weight", "weight_type", "(N,K)");
  need_low_rank(low, factor, M, K, R, "(R,K)");
  need_flag(accumulate, "accumulate");
  need_compute(compute);
}
inline void check_linear_weight_backward(F32Out dweight, F32In dout, F32In inp, Int M, Int N, Int K, float, Int compute) {
  need(dweight, product(N, K), "dweight", "(N,K)");
  need(dout, product(M, N), "dout", "(M,N)");
  need(inp, product(M, K), "inp", "(M,K)");
  need_compute(compute);
}
inline void check_linear_nf4_forward(F32Out out, F32In inp, U8In codes, U8In absmax_codes, F32In absmax, float, F32In low, F32In factor, Int M, Int N, Int K,
                                     Int R, float, Int accumulate, Int compute) {
  need(out, product(M, N), "out", "(M,N)");
  need(inp, product(M, K), "inp", "(M,K)");
  need_nf4(codes, absmax_codes, absmax, product(N, K));
  need_low_rank(low, factor, M, N, R, "(N,R)");
  need_flag(accumulate, "accumulate");
  need_compute(compute);
}
inline void check_linear_nf4_backward(F32Out dinp, F32In dout, U8In codes, U8In absmax_codes, F32In absmax, float, F32In low, F32In factor, Int M, Int N, Int K,
                                      Int R, float, Int accumulate, Int compute) {
  need(dinp, product(M, K), "dinp", "(M,K)");
  need(dout, product(M, N), "dout", "(M,N)");
  need_nf4(codes, absmax_codes, absmax, product(N, K));
  need_low_rank(low, factor, M, K, R, "(R,K)");
  need_flag(accumulate, "accumulate");
  need_compute(compute);
}

inline void need_probability(float p) {
  if (!(p >= 0 && p < 1)) throw std::invalid_argument("expected 0 ≤ p < 1, got " + std::to_string(p));
}
inline void check_dropout_forward(F32Out out, F32In inp, Int n, float p, Int) {
  need(out, n, "out", "(n)");
  need(inp, n, "inp", "(n)");
  need_probability(p);
}
inline void check_dropout_backward(F32Out dinp, F32In dout, Int n, float p, Int, Int accumulate) {
  need(dinp, n, "dinp", "(n)");
  need(dout, n, "dout", "(n)");
  need_probability(p);
  need_flag(accumulate, "accumulate");
}

inline void check_cross_entropy_forward(F32Out loss, F32In inp, BytesIn weight, Int weight_type, I32In labels, Int M, Int V, Int C, Int compute) {
  need(loss, M, "loss", "(M)");
  need(inp, product(M, C), "inp", "(M,C)");
  need_bytes(weight, product(V, C), weight_type, "weight", "weight_type", "(V,C)");
  need(labels, M, "labels", "(M)");
  need_indices(labels, V, "labels", "V", true);
  need_compute(compute);
}
inline void check_cross_entropy_forward_backward(F32Out loss, F32Out dinp, F32Out dweight, F32In inp, BytesIn weight, Int weight_type, I32In labels, float,
                                                 Int M, Int V, Int C, Int compute) {
  check_cross_entropy_forward(loss, inp, weight, weight_type, labels, M, V, C, compute);
  need(dinp, product(M, C), "dinp", "(M,C)");
  if (dweight.count) need(dweight, product(V, C), "dweight", "(V,C) or empty");
}

inline void check_add(F32Out out, F32In inp, Int n) {
  need(out, n, "out", "(n)");
  need(inp, n, "inp", "(n)");
}
inline void check_copy(F32Out out, F32In inp, Int n) { check_add(out, inp, n); }
inline void check_fill(F32Out out, float, Int n) { need(out, n, "out", "(n)"); }
inline void check_sum(F32Out out, F32In inp, Int n) {
  need(out, 1, "out", "(1)");
  need(inp, n, "inp", "(n)");
}
inline void check_sum_of_squares(F32Out out, F32In inp, Int n) { check_sum(out, inp, n); }

inline void check_adamw(F32Out param, F32In grad, F32Out m, F32Out v, Int n, double, double, double, double, double, Int step, double) {
  need(param, n, "param", "(n)");
  need(grad, n, "grad", "(n)");
  need(m, n, "m", "(n)");
  need(v, n, "v", "(n)");
  if (step < 1) throw std::invalid_argument("expected step ≥ 1, got " + std::to_string(step));
}
inline void check_adamw_8bit(F32Out param, F32In grad, U8Out m, U8Out v, F32Out m_absmax, F32Out v_absmax, Int n, double, double, double, double, double, Int step, double) {
  need(param, n, "param", "(n)");
  need(grad, n, "grad", "(n)");
  need(m, n, "m", "(n)");
  need(v, n, "v", "(n)");
  need(m_absmax, blocks_of(n, 256), "m_absmax", "(⌈n/256⌉)");
  need(v_absmax, blocks_of(n, 256), "v_absmax", "(⌈n/256⌉)");
  if (step < 1) throw std::invalid_argument("expected step ≥ 1, got " + std::to_string(step));
}

inline void check_nf4_quantize(U8Out codes, F32Out absmax, F32In inp, Int n) {
  need(codes, blocks_of(n, 2), "codes", "(⌈n/2⌉)");
  need(absmax, blocks_of(n, 64), "absmax", "(⌈n/64⌉)");
  need(inp, n, "inp", "(n)");
}
inline void check_nf4_double_quantize(U8Out absmax_codes, F32Out nested, F32Out offset, F32In absmax, Int blocks) {
  need(absmax_codes, blocks, "absmax_codes", "(blocks)");
  need(nested, blocks_of(blocks, 256), "nested", "(⌈blocks/256⌉)");
  need(offset, 1, "offset", "(1)");
  need(absmax, blocks, "absmax", "(blocks)");
}
inline void check_nf4_dequantize(F32Out out, U8In codes, U8In absmax_codes, F32In absmax, float, Int n) {
  need(out, n, "out", "(n)");
  need_nf4(codes, absmax_codes, absmax, n);
}
inline void check_to_f32(F32Out out, BytesIn inp, Int type, Int n) {
  need(out, n, "out", "(n)");
  need_bytes(inp, n, type, "inp", "type", "(n)");
}
inline void check_from_f32(BytesOut out, F32In inp, Int type, Int n) {
  need_bytes(out, n, type, "out", "type", "(n)");
  need(inp, n, "inp", "(n)");
}

}  // namespace tacotune::addon
