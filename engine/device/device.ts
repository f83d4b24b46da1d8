// SPDX-License-Identifier: Apache-2.0
// Seam A: the one table of ops that the model is written over, and the tensors they work on. Every device (native, plan,
// profile, …) implements all of it. An op writes into the tensors it is given and returns nothing; results are read only
// through `download`, a few times a step, so a device may run behind. Sizes are taken from the tensors' shapes. The laws of
// accumulation and aliasing are those of kernels/ops.h, whose argument order these signatures keep.
//
// Shapes: B batch, T tokens, M = B·T rows, C model width, F feed-forward width, Hq/Hkv query and key-value heads, D head
// width, V vocabulary, R LoRA rank, L layers, P rows of the rotary table; N, K only inside matrix products.

export type DType = 'f32' | 'bf16' | 'f16' | 'i32' | 'u8';

/** Bytes of one element. */
export const ELEMENT_BYTES: Record<DType, number> = { f32: 4, bf16: 2, f16: 2, i32: 4, u8: 1 };

/** What memory is for: the planner and the start-up report add it up by these names. */
export type MemoryKind = 'weights' | 'adapter' | 'gradients' | 'optimizer' | 'activations' | 'scratch';

/** What the inputs of matrix products are rounded to; sums are always f32. */
export type Compute = 'f32' | 'bf16';

/** The values that travel to and from a device. bf16 and f16 travel as their 16 bits. */
export type Values = Float32Array | Uint16Array | Int32Array | Uint8Array;

/** A handle: shape and type are known, the storage is its device's own affair. */
export interface Tensor<D extends DType = DType> {
  readonly dtype: D;
  readonly shape: readonly number[];
  /** Number of elements. */
  readonly size: number;
  readonly kind: MemoryKind;
  /** Only the device that made the tensor looks inside. */
  readonly storage: unknown;
}

export type F32 = Tensor<'f32'>;
export type I32 = Tensor<'i32'>;
export type U8 = Tensor<'u8'>;
/** A dense weight or table. */
export type Dense = Tensor<'f32' | 'bf16' | 'f16'>;

/** A frozen (N,K) weight in NF4; layout and meaning of the parts as in kernels/ops.h. */
export interface Nf4 {
  readonly dtype: 'nf4';
  readonly shape: readonly [number, number];
  readonly codes: U8;
  /** Empty where the absmax is not quantised. */
  readonly absmaxCodes: U8;
  readonly absmax: F32;
  readonly absmaxOffset: number;
}

/** The (N,K) weight of a linear layer. */
export type Weight = Dense | Nf4;

/** Values of a weight as a file has them, before a device takes them. */
export interface WeightValues {
  readonly dtype: 'f32' | 'bf16' | 'f16';
  readonly shape: readonly number[];
  /** bf16 and f16 as their bits. Not read by the plan device. */
  readonly data: Float32Array | Uint16Array;
}

/** Values of an NF4 weight as a file has them; layout and meaning of the parts as in kernels/ops.h. */
export interface Nf4Values {
  readonly shape: readonly [number, number];
  /** Whether the absmax is quantised in its turn. */
  readonly doubleQuantized: boolean;
  /** The three parts are not read by the plan device. */
  readonly codes: Uint8Array;
  readonly absmaxCodes: Uint8Array;
  readonly absmax: Float32Array;
  readonly absmaxOffset: number;
}

/** A second product, over a depth of R, that the output takes too: forward alpha·low·factorᵀ, backward alpha·low·factor. */
export interface LowRank {
  readonly low: F32; // (M,R)
  /** (N,R) forward, (R,K) backward. */
  readonly factor: F32;
  readonly alpha: number;
}

export interface LinearOptions {
  /** Factor on the product with the weight; default 1. NF4 weights take none. */
  alpha?: number;
  /** Add to the output instead of assigning it; default false. */
  accumulate?: boolean;
  /** Added to the output: on some devices in the same pass over it, on others right after. */
  lowRank?: LowRank;
}

export interface AdamwSettings {
  learningRate: number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  /** Counts from 1. */
  step: number;
  /** The gradient is multiplied by it first (clipping). */
  gradScale: number;
}

/** The ops. `profile` and `plan` are built from this list, so it holds nothing else. */
export interface Ops {
  /** out (M,C) = weight (V,C) [ids (M)] */
  embeddingForward(out: F32, ids: I32, weight: Dense): void;
  /** dweight (V,C) += */
  embeddingBackward(dweight: F32, dout: F32, ids: I32): void;
  /** out (M,C), rstd (M), inp (M,C), weight (C) */
  rmsnormForward(out: F32, rstd: F32, inp: F32, weight: F32, eps: number): void;
  /** dinp (M,C), dweight (C) += or undefined where frozen, dout (M,C), inp (M,C), rstd (M), weight (C) */
  rmsnormBackward(
    dinp: F32,
    dweight: F32 | undefined,
    dout: F32,
    inp: F32,
    rstd: F32,
    weight: F32,
    accumulate: boolean,
  ): void;
  /** x (M,H,D) in place, table (P,2,D/2), positions (M) */
  ropeForward(x: F32, table: F32, positions: I32): void;
  ropeBackward(dx: F32, table: F32, positions: I32): void;
  /** out (B,Tq,Hq,D), lse (B,Hq,Tq), q (B,Tq,Hq,D), k and v (B,Tk,Hkv,D), starts (B,Tq) */
  attentionForward(out: F32, lse: F32, q: F32, k: F32, v: F32, starts: I32): void;
  /** dq (B,T,Hq,D), dk and dv (B,T,Hkv,D) */
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
  ): void;
  /** out, gate, up (M,F); out may be gate or up */
  swigluForward(out: F32, gate: F32, up: F32): void;
  /** dgate may be gate, dup may be up */
  swigluBackward(dgate: F32, dup: F32, dout: F32, gate: F32, up: F32): void;
  /** out (M,N) = alpha·inp (M,K)·weightᵀ (N,K) */
  linearForward(out: F32, inp: F32, weight: Weight, options?: LinearOptions): void;
  /** dinp (M,K) = alpha·dout (M,N)·weight (N,K) */
  linearBackward(dinp: F32, dout: F32, weight: Weight, options?: LinearOptions): void;
  /** dweight (N,K) += alpha·doutᵀ (M,N)·inp (M,K) */
  linearWeightBackward(dweight: F32, dout: F32, inp: F32, alpha?: number): void;
  /** probability p of dropping; the mask is a function of seed (below 2^53) and index alone */
  dropoutForward(out: F32, inp: F32, p: number, seed: number): void;
  dropoutBackward(dinp: F32, dout: F32, p: number, seed: number, accumulate: boolean): void;
  /** loss (M), inp (M,C), weight (V,C), labels (M) in [0,V) or -100; `targets` (how many are not -100) only informs cost. */
  crossEntropyForward(loss: F32, inp: F32, weight: Dense, labels: I32, targets: number): void;
  /** and dinp (M,C) = scale·∂Σloss/∂inp, dweight (V,C) += or undefined where frozen */
  crossEntropyForwardBackward(
    loss: F32,
    dinp: F32,
    dweight: F32 | undefined,
    inp: F32,
    weight: Dense,
    labels: I32,
    scale: number,
    targets: number,
  ): void;
  /** out += inp */
  add(out: F32, inp: F32): void;
  copy(out: F32, inp: F32): void;
  fill(out: F32, value: number): void;
  /** out (1) += Σ inp */
  sum(out: F32, inp: F32): void;
  /** out (1) = Σ inp² */
  sumOfSquares(out: F32, inp: F32): void;
  adamw(param: F32, grad: F32, m: F32, v: F32, settings: AdamwSettings): void;
  /** 8-bit states with one absmax per 256 elements */
  adamw8bit(param: F32, grad: F32, m: U8, v: U8, mAbsmax: F32, vAbsmax: F32, settings: AdamwSettings): void;
}

export type OpName = keyof Ops;

export interface Device extends Ops {
  readonly name: string;
  readonly compute: Compute;

  /** New memory with undefined contents. */
  allocate<D extends DType = 'f32'>(kind: MemoryKind, shape: readonly number[], dtype?: D): Tensor<D>;
  /** Gives memory back for reuse, that of taken weights too. Views of it, and other handles made from it, are dead. */
  free(tensor: Tensor): void;
  /** A part of a tensor, from element `offset` on, under another shape; shares its memory. */
  view<D extends DType>(tensor: Tensor<D>, offset: number, shape: readonly number[]): Tensor<D>;
  /** Returns freed memory that is held for reuse to the system; worth it when the shapes of batches change. */
  trim(): void;

  /** Waits until everything that was asked for is done. Only devices whose ops return before they have run have it. */
  synchronize?(): void;

  /** Names the place in the model that the following ops belong to ("layer 3 forward"); only the profile device listens. */
  scope(name: string): void;

  upload(tensor: Tensor, values: Values): void;
  /** A copy of the values. Waits for all that writes the tensor. */
  download(tensor: F32): Promise<Float32Array>;
  download(tensor: Tensor): Promise<Values>;

  /** A frozen dense weight. The device may keep the values in place (they must then outlive it) or copy them. */
  adoptWeight(values: WeightValues): Dense;
  /** Writes a file's values into an f32 tensor of as many elements. */
  uploadWeight(tensor: F32, values: WeightValues): void;
  /** A frozen NF4 weight with double quantisation, made from dense (N,K) values. */
  quantizeWeight(values: WeightValues): Nf4;
  /** A frozen NF4 weight that was quantised before. The device may keep the parts in place, as with adoptWeight. */
  adoptNf4(values: Nf4Values): Nf4;
}

export function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

export function bytesOf(tensor: Tensor | Nf4): number {
  if (tensor.dtype === 'nf4') return bytesOf(tensor.codes) + bytesOf(tensor.absmaxCodes) + bytesOf(tensor.absmax);
  return tensor.size * ELEMENT_BYTES[tensor.dtype];
}

/** All but the last size multiplied: the rows of a tensor seen as a matrix. */
export function rowsOf(tensor: Tensor): number {
  return tensor.size / Math.max(1, lastOf(tensor.shape));
}

export function lastOf(shape: readonly number[]): number {
  return shape[shape.length - 1] ?? 1;
}

/** NF4 quantisation block and the number of absmax values that share one nested absmax (Dettmers et al. 2023). */
export const NF4_BLOCK = 64;
export const NESTED_BLOCK = 256;
/** Elements that share one absmax in 8-bit optimizer states (Dettmers et al. 2022). */
export const STATE_BLOCK = 256;
