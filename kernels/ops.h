// SPDX-License-Identifier: Apache-2.0
// The catalogue of native ops: seam B. Each op stands here once, an argument a line with its shape; kernels/binding.ts is
// the typed mirror; reference/ (scalar, the oracle) and cpu/ (SIMD, one text for all instruction sets) each fill a table
// of these functions. To add an op: a declaration and a line in TACOTUNE_OPS here, a check in addon/checks.h, a file per
// implementation, a line in binding.ts, a case in test/ops/.
//
// Shapes (the only letters used, in both languages): B batch, T tokens, C model width, F feed-forward width, Hq/Hkv query
// and key-value heads, D head width, V vocabulary, R LoRA rank, L layers, G quantisation block (64). P rows of a rotary
// table. M, N, K only inside matrix products, M also for the rows B·T of a batch laid end to end.
//
// Laws
// - All tensors are contiguous, row-major, f32 unless said; no alignment is demanded.
// - Parameter gradients accumulate (+=). Activation gradients assign (=), unless an `accumulate` argument of 1 says add.
// - Outputs must not overlap inputs, except where "in place" or "may alias" is said.
// - Accumulation is f32 or wider in an order that depends on the shapes alone: the same bits for any number of threads.
// - Arguments have been checked before an implementation is called: shapes agree, ids and labels are in range.
#pragma once
#include "types.h"

namespace tacotune {

// ---- embedding: out[m] = weight[ids[m]] ------------------------------------------------------------------------------
using embedding_forward_t = void(
    F32Out out,        // (M,C)
    I32In ids,         // (M)  each in [0,V)
    BytesIn weight,    // (V,C) of weight_type
    Int weight_type,   // StorageType
    Int M, Int V, Int C);
using embedding_backward_t = void(
    F32Out dweight,    // (V,C) +=
    F32In dout,        // (M,C)
    I32In ids,         // (M)
    Int M, Int V, Int C);

// ---- rmsnorm (Zhang & Sennrich 2019): rstd = 1/sqrt(mean(inp²)+eps), out = inp·rstd·weight ----------------------------
using rmsnorm_forward_t = void(
    F32Out out,        // (M,C)
    F32Out rstd,       // (M)
    F32In inp,         // (M,C)
    F32In weight,      // (C)
    Int M, Int C, float eps);
using rmsnorm_backward_t = void(
    F32Out dinp,       // (M,C)
    F32Out dweight,    // (C) +=, or empty where the weight is frozen
    F32In dout,        // (M,C)
    F32In inp,         // (M,C)
    F32In rstd,        // (M)
    F32In weight,      // (C)
    Int M, Int C, Int accumulate);

// ---- rope (Su et al. 2021; the half-split layout of Hugging Face): in place ------------------------------------------
// Pairs (x[d], x[d+D/2]) turn by the angle whose cosine and sine stand in the table's row positions[m].
using rope_forward_t = void(
    F32Out x,          // (M,H,D) in place
    F32In table,       // (P,2,D/2) cosines, then sines
    I32In positions,   // (M) each in [0,P)
    Int M, Int H, Int D, Int P);
using rope_backward_t = rope_forward_t;  // x holds dx; turns back by the same angle

// ---- attention: causal, segment-aware, grouped queries; scores scaled by 1/sqrt(D) -----------------------------------
// Query t of Tq stands at key position p = Tk-Tq+t and sees the keys starts[b][t] … p. Packed examples, padding and a
// key-value cache are all expressed by `starts`. Query head h reads key-value head h / (Hq/Hkv).
// lse is the natural logarithm of the sum of exponentials of the scaled scores (flash attention, Dao et al. 2022).
// compute COMPUTE_BF16 allows the factors of its products to be rounded to bf16; the CPU's kernels never do.
using attention_forward_t = void(
    F32Out out,        // (B,Tq,Hq,D)
    F32Out lse,        // (B,Hq,Tq)
    F32In q,           // (B,Tq,Hq,D)
    F32In k,           // (B,Tk,Hkv,D)
    F32In v,           // (B,Tk,Hkv,D)
    I32In starts,      // (B,Tq) 0 ≤ starts[b][t] ≤ p
    Int B, Int Tq, Int Tk, Int Hq, Int Hkv, Int D,
    Int compute);      // ComputeType
using attention_backward_t = void(  // Tq = Tk = T
    F32Out dq,         // (B,T,Hq,D)
    F32Out dk,         // (B,T,Hkv,D)
    F32Out dv,         // (B,T,Hkv,D)
    F32In dout,        // (B,T,Hq,D)
    F32In q,           // (B,T,Hq,D)
    F32In k,           // (B,T,Hkv,D)
    F32In v,           // (B,T,Hkv,D)
    F32In out,         // (B,T,Hq,D)
    F32In lse,         // (B,Hq,T)
    I32In starts,      // (B,T)
    Int B, Int T, Int Hq, Int Hkv, Int D,
    Int compute);      // ComputeType

// ---- swiglu (Shazeer 2020): out = silu(gate)·up ----------------------------------------------------------------------
using swiglu_forward_t = void(
    F32Out out,        // (n) may alias gate or up
    F32In gate,        // (n)
    F32In up,          // (n)
    Int n);
using swiglu_backward_t = void(
    F32Out dgate,      // (n) may alias gate
    F32Out dup,        // (n) may alias up
    F32In dout,        // (n)
    F32In gate,        // (n)
    F32In up,          // (n)
    Int n);

// ---- linear over a dense weight: out = alpha·inp·weightᵀ + low_alpha·low·factorᵀ ---------------------------------------
// The second product is what LoRA (Hu et al. 2021) adds to a frozen layer; R = 0, with low and factor empty, leaves it out.
// It stands here for the sake of one pass over the output; without such a kernel it is a product of its own that adds.
using linear_forward_t = void(
    F32Out out,        // (M,N)
    F32In inp,         // (M,K)
    BytesIn weight,    // (N,K) of weight_type
    Int weight_type,   // StorageType
    F32In low,         // (M,R)
    F32In factor,      // (N,R)
    Int M, Int N, Int K, Int R, float alpha, float low_alpha, Int accumulate,
    Int compute);      // ComputeType
using linear_backward_t = void(
    F32Out dinp,       // (M,K) = alpha·dout·weight + low_alpha·low·factor
    F32In dout,        // (M,N)
    BytesIn weight,    // (N,K) of weight_type
    Int weight_type,   // StorageType
    F32In low,         // (M,R)
    F32In factor,      // (R,K)
    Int M, Int N, Int K, Int R, float alpha, float low_alpha, Int accumulate,
    Int compute);
using linear_weight_backward_t = void(
    F32Out dweight,    // (N,K) += alpha·doutᵀ·inp
    F32In dout,        // (M,N)
    F32In inp,         // (M,K)
    Int M, Int N, Int K, float alpha,
    Int compute);

// ---- linear over a frozen NF4 weight (Dettmers et al. 2023); the layout is drawn in quant.h ----------------------------
// absmax_codes empty: absmax holds one value per block. Otherwise absmax is the nested one, of 256 blocks each, and a
// block's value is dynamic_map[absmax_code]·absmax + absmax_offset.
using linear_nf4_forward_t = void(
    F32Out out,          // (M,N)
    F32In inp,           // (M,K)
    U8In codes,          // (⌈N·K/2⌉)
    U8In absmax_codes,   // (⌈N·K/64⌉) or empty
    F32In absmax,        // (⌈N·K/64⌉), or with absmax_codes (⌈⌈N·K/64⌉/256⌉)
    float absmax_offset,
    F32In low,           // (M,R)
    F32In factor,        // (N,R)
    Int M, Int N, Int K, Int R, float low_alpha, Int accumulate,
    Int compute);
using linear_nf4_backward_t = void(
    F32Out dinp,         // (M,K) = dout·weight + low_alpha·low·factor
    F32In dout,          // (M,N)
    U8In codes,          // as above
    U8In absmax_codes,   // as above
    F32In absmax,        // as above
    float absmax_offset,
    F32In low,           // (M,R)
    F32In factor,        // (R,K)
    Int M, Int N, Int K, Int R, float low_alpha, Int accumulate,
    Int compute);

// ---- dropout: element i is kept where philox(seed, i) ≥ p, and scaled by 1/(1-p). Nothing is stored ------------------
// Philox4x32-10 (Salmon et al. 2011): key = the seed's two 32-bit halves, counter = (i/4 low, i/4 high, 0, 0), word i mod 4;
// uniform = word >> 8, times 2^-24.
using dropout_forward_t = void(
    F32Out out,        // (n) may alias inp
    F32In inp,         // (n)
    Int n, float p,    // 0 ≤ p < 1
    Int seed);         // 0 ≤ seed < 2^53
using dropout_backward_t = void(
    F32Out dinp,       // (n)
    F32In dout,        // (n)
    Int n, float p, Int seed, Int accumulate);

// ---- fused head and cross-entropy: the logits (M,V) never exist whole ------------------------------------------------
// loss[m] = logsumexp(logits[m]) - logits[m][labels[m]] with logits = inp·weightᵀ; 0 where labels[m] is -100 (those rows
// cost nothing). The backward form writes scale·∂(Σ loss)/∂inp, rows without a target 0.
using cross_entropy_forward_t = void(
    F32Out loss,       // (M)
    F32In inp,         // (M,C)
    BytesIn weight,    // (V,C) of weight_type
    Int weight_type,
    I32In labels,      // (M) in [0,V) or -100
    Int M, Int V, Int C,
    Int compute);
using cross_entropy_forward_backward_t = void(
    F32Out loss,       // (M)
    F32Out dinp,       // (M,C)
    F32Out dweight,    // (V,C) +=, or empty where the head is frozen
    F32In inp,         // (M,C)
    BytesIn weight,    // (V,C) of weight_type
    Int weight_type,
    I32In labels,      // (M)
    float scale,
    Int M, Int V, Int C,
    Int compute);

// ---- small arithmetic ------------------------------------------------------------------------------------------------
using add_t = void(F32Out out, F32In inp, Int n);           // out += inp
using copy_t = void(F32Out out, F32In inp, Int n);          // out = inp
using fill_t = void(F32Out out, float value, Int n);        // out = value
using sum_t = void(F32Out out, F32In inp, Int n);           // out (1) += Σ inp, summed in double
using sum_of_squares_t = void(F32Out out, F32In inp, Int n);  // out (1) = Σ inp², summed in double

// ---- optimizers (decoupled weight decay: Loshchilov & Hutter 2019) ---------------------------------------------------
// g = grad·grad_scale; param -= lr·weight_decay·param; then Adam with bias correction; `step` counts from 1.
using adamw_t = void(
    F32Out param,      // (n)
    F32In grad,        // (n)
    F32Out m,          // (n)
    F32Out v,          // (n)
    Int n, double learning_rate, double beta1, double beta2, double eps, double weight_decay, Int step, double grad_scale);
// Block-wise 8-bit states (Dettmers et al. 2022), blocks of 256, in the order of bitsandbytes' GPU kernel: update, then decay.
using adamw_8bit_t = void(
    F32Out param,      // (n)
    F32In grad,        // (n)
    U8Out m,           // (n) codes in the signed dynamic map
    U8Out v,           // (n) codes in the unsigned dynamic map
    F32Out m_absmax,   // (⌈n/256⌉)
    F32Out v_absmax,   // (⌈n/256⌉)
    Int n, double learning_rate, double beta1, double beta2, double eps, double weight_decay, Int step, double grad_scale);

// ---- number formats --------------------------------------------------------------------------------------------------
using nf4_quantize_t = void(
    U8Out codes,       // (⌈n/2⌉)
    F32Out absmax,     // (⌈n/64⌉)
    F32In inp,         // (n)
    Int n);
using nf4_double_quantize_t = void(
    U8Out absmax_codes,  // (blocks)
    F32Out nested,       // (⌈blocks/256⌉)
    F32Out offset,       // (1) mean of absmax
    F32In absmax,        // (blocks)
    Int blocks);
using nf4_dequantize_t = void(
    F32Out out,          // (n)
    U8In codes, U8In absmax_codes, F32In absmax, float absmax_offset,  // as in linear_nf4_forward
    Int n);
using to_f32_t = void(F32Out out, BytesIn inp, Int type, Int n);      // exact
using from_f32_t = void(BytesOut out, F32In inp, Int type, Int n);    // to nearest, ties to even; overflow becomes infinity

// Every op with the names of its arguments, in order: errors name the argument, and the addon exports in this order.
#define TACOTUNE_OPS(OP)                                                                                                \
  OP(embedding_forward, "out ids weight weight_type M V C")                                                             \
  OP(embedding_backward, "dweight dout ids M V C")                                                                      \
  OP(rmsnorm_forward, "out rstd inp weight M C eps")                                                                    \
  OP(rmsnorm_backward, "dinp dweight dout inp rstd weight M C accumulate")                                              \
  OP(rope_forward, "x table positions M H D P")                                                                         \
  OP(rope_backward, "x table positions M H D P")                                                                        \
  OP(attention_forward, "out lse q k v starts B Tq Tk Hq Hkv D compute")                                                  \
  OP(attention_backward, "dq dk dv dout q k v out lse starts B T Hq Hkv D compute")                                       \
  OP(swiglu_forward, "out gate up n")                                                                                   \
  OP(swiglu_backward, "dgate dup dout gate up n")                                                                       \
  OP(linear_forward, "out inp weight weight_type low factor M N K R alpha low_alpha accumulate compute")                 \
  OP(linear_backward, "dinp dout weight weight_type low factor M N K R alpha low_alpha accumulate compute")              \
  OP(linear_weight_backward, "dweight dout inp M N K alpha compute")                                                    \
  OP(linear_nf4_forward, "out inp codes absmax_codes absmax absmax_offset low factor M N K R low_alpha accumulate compute")   \
  OP(linear_nf4_backward, "dinp dout codes absmax_codes absmax absmax_offset low factor M N K R low_alpha accumulate compute") \
  OP(dropout_forward, "out inp n p seed")                                                                               \
  OP(dropout_backward, "dinp dout n p seed accumulate")                                                                 \
  OP(cross_entropy_forward, "loss inp weight weight_type labels M V C compute")                                         \
  OP(cross_entropy_forward_backward, "loss dinp dweight inp weight weight_type labels scale M V C compute")             \
  OP(add, "out inp n")                                                                                                  \
  OP(copy, "out inp n")                                                                                                 \
  OP(fill, "out value n")                                                                                               \
  OP(sum, "out inp n")                                                                                                  \
  OP(sum_of_squares, "out inp n")                                                                                       \
  OP(adamw, "param grad m v n learning_rate beta1 beta2 eps weight_decay step grad_scale")                              \
  OP(adamw_8bit, "param grad m v m_absmax v_absmax n learning_rate beta1 beta2 eps weight_decay step grad_scale")       \
  OP(nf4_quantize, "codes absmax inp n")                                                                                \
  OP(nf4_double_quantize, "absmax_codes nested offset absmax blocks")                                                   \
  OP(nf4_dequantize, "out codes absmax_codes absmax absmax_offset n")                                                   \
  OP(to_f32, "out inp type n")                                                                                          \
  OP(from_f32, "out inp type n")

// One implementation of every op. A null entry is reported by name when called.
struct Kernels {
  const char* name;  // "reference", "baseline", "avx2", "avx512", "avx512bf16", "neon"
#define TACOTUNE_ENTRY(op, arguments) op##_t* op;
  TACOTUNE_OPS(TACOTUNE_ENTRY)
#undef TACOTUNE_ENTRY
  Int (*multiply_add_ceiling)(Int compute, Int steps) = nullptr;  // for benchmarks: see cpu/ceiling.inc
};

}  // namespace tacotune
