// SPDX-License-Identifier: Apache-2.0
// The typed mirror of ops.h: argument names, order and shapes are those there. What the addon checks (types, counts, ranges)
// is not checked again. Where operands lie is left open: typed arrays for the CPU's kernels, GPU memory for CUDA's.

/** Storage types of dense weights, as numbered in types.h. */
export const STORAGE_TYPE = { f32: 0, bf16: 1, f16: 2 } as const;
/** Rounding of the inputs of matrix products, as numbered in types.h. */
export const COMPUTE_TYPE = { f32: 0, bf16: 1 } as const;

/** Every op. Each throws an Error that names op and argument; none crashes the process. */
export interface NativeOps<F32, I32, U8, Bytes> {
  embeddingForward(out: F32, ids: I32, weight: Bytes, weightType: number, M: number, V: number, C: number): void;
  embeddingBackward(dweight: F32, dout: F32, ids: I32, M: number, V: number, C: number): void;
  rmsnormForward(out: F32, rstd: F32, inp: F32, weight: F32, M: number, C: number, eps: number): void;
  rmsnormBackward(
    dinp: F32,
    dweight: F32,
    dout: F32,
    inp: F32,
    rstd: F32,
    weight: F32,
    M: number,
    C: number,
    accumulate: number,
  ): void;
  ropeForward(x: F32, table: F32, positions: I32, M: number, H: number, D: number, P: number): void;
  ropeBackward(x: F32, table: F32, positions: I32, M: number, H: number, D: number, P: number): void;
  attentionForward(
    out: F32,
    lse: F32,
    q: F32,
    k: F32,
    v: F32,
    starts: I32,
    B: number,
    Tq: number,
    Tk: number,
    Hq: number,
    Hkv: number,
    D: number,
    compute: number,
  ): void;
  attentionBackward(
    dq: F32,
    dk: F32,
    dv: F32,
    dout: F32,
    q: F32,
    k: F32,
    v: F32,
    out: F32,
    lse: F32,
    starts: I32,
    B: number,
    T: number,
    Hq: number,
    Hkv: number,
    D: number,
    compute: number,
  ): void;
  swigluForward(out: F32, gate: F32, up: F32, n: number): void;
  swigluBackward(dgate: F32, dup: F32, dout: F32, gate: F32, up: F32, n: number): void;
  linearForward(
    out: F32,
    inp: F32,
    weight: Bytes,
    weightType: number,
    low: F32,
    factor: F32,
    M: number,
    N: number,
    K: number,
    R: number,
    alpha: number,
    lowAlpha: number,
    accumulate: number,
    compute: number,
  ): void;
  linearBackward(
    dinp: F32,
    dout: F32,
    weight: Bytes,
    weightType: number,
    low: F32,
    factor: F32,
    M: number,
    N: number,
    K: number,
    R: number,
    alpha: number,
    lowAlpha: number,
    accumulate: number,
    compute: number,
  ): void;
  linearWeightBackward(
    dweight: F32,
    dout: F32,
    inp: F32,
    M: number,
    N: number,
    K: number,
    alpha: number,
    compute: number,
  ): void;
  linearNf4Forward(
    out: F32,
    inp: F32,
    codes: U8,
    absmaxCodes: U8,
    absmax: F32,
    absmaxOffset: number,
    low: F32,
    factor: F32,
    M: number,
    N: number,
    K: number,
    R: number,
    lowAlpha: number,
    accumulate: number,
    compute: number,
  ): void;
  linearNf4Backward(
    dinp: F32,
    dout: F32,
    codes: U8,
    absmaxCodes: U8,
    absmax: F32,
    absmaxOffset: number,
    low: F32,
    factor: F32,
    M: number,
    N: number,
    K: number,
    R: number,
    lowAlpha: number,
    accumulate: number,
    compute: number,
  ): void;
  dropoutForward(out: F32, inp: F32, n: number, p: number, seed: number): void;
  dropoutBackward(dinp: F32, dout: F32, n: number, p: number, seed: number, accumulate: number): void;
  crossEntropyForward(
    loss: F32,
    inp: F32,
    weight: Bytes,
    weightType: number,
    labels: I32,
    M: number,
    V: number,
    C: number,
    compute: number,
  ): void;
  crossEntropyForwardBackward(
    loss: F32,
    dinp: F32,
    dweight: F32,
    inp: F32,
    weight: Bytes,
    weightType: number,
    labels: I32,
    scale: number,
    M: number,
    V: number,
    C: number,
    compute: number,
  ): void;
  add(out: F32, inp: F32, n: number): void;
  copy(out: F32, inp: F32, n: number): void;
  fill(out: F32, value: number, n: number): void;
  sum(out: F32, inp: F32, n: number): void;
  sumOfSquares(out: F32, inp: F32, n: number): void;
  adamw(
    param: F32,
    grad: F32,
    m: F32,
    v: F32,
    n: number,
    learningRate: number,
    beta1: number,
    beta2: number,
    eps: number,
    weightDecay: number,
    step: number,
    gradScale: number,
  ): void;
  adamw8bit(
    param: F32,
    grad: F32,
    m: U8,
    v: U8,
    mAbsmax: F32,
    vAbsmax: F32,
    n: number,
    learningRate: number,
    beta1: number,
    beta2: number,
    eps: number,
    weightDecay: number,
    step: number,
    gradScale: number,
  ): void;
  nf4Quantize(codes: U8, absmax: F32, inp: F32, n: number): void;
  nf4DoubleQuantize(absmaxCodes: U8, nested: F32, offset: F32, absmax: F32, blocks: number): void;
  nf4Dequantize(out: F32, codes: U8, absmaxCodes: U8, absmax: F32, absmaxOffset: number, n: number): void;
  toF32(out: F32, inp: Bytes, type: number, n: number): void;
  fromF32(out: Bytes, inp: F32, type: number, n: number): void;
}
