// SPDX-License-Identifier: Apache-2.0
// The cpu device: ops go straight to the native addon, tensors are typed arrays over memory outside the JavaScript heap.
// Freed memory is kept by size for the next tensor of that size, because a step asks for the same sizes again and fresh
// pages cost a page fault each. The addon checks types and counts; nothing is checked twice.
import { COMPUTE_TYPE, type Native, native, STORAGE_TYPE } from '../../kernels/index.js';
import {
  type AdamwSettings,
  type Compute,
  type Dense,
  type Device,
  type DType,
  ELEMENT_BYTES,
  elementsOf,
  type F32,
  type I32,
  type LinearOptions,
  lastOf,
  type MemoryKind,
  NESTED_BLOCK,
  NF4_BLOCK,
  type Nf4,
  type Nf4Values,
  type Tensor,
  type U8,
  type Values,
  type Weight,
  type WeightValues,
} from './device.js';
import { BufferPool } from './pool.js';

interface NativeTensor<D extends DType = DType> extends Tensor<D> {
  readonly storage: Values;
}

export interface NativeDeviceOptions {
  compute: Compute;
  /** Fill new memory with NaN, so that a read of what was never written shows. For tests. */
  poison?: boolean;
}

const EMPTY_F32 = new Float32Array(0);

/** Elements that are quantised at a time: bounds the f32 copy of a weight; a multiple of the quantisation block. */
const QUANTIZE_CHUNK = 1 << 22;

export class NativeDevice implements Device {
  readonly name = 'cpu';
  readonly compute: Compute;
  readonly #ops: Native = native();
  readonly #computeType: number;
  readonly #poison: boolean;
  readonly #pool = new BufferPool<ArrayBuffer>(
    (bytes) => this.#ops.allocate(bytes),
    (buffer) => this.#ops.release(buffer),
  );

  constructor(options: NativeDeviceOptions) {
    this.compute = options.compute;
    this.#computeType = COMPUTE_TYPE[options.compute];
    this.#poison = options.poison ?? false;
  }

  allocate<D extends DType = 'f32'>(kind: MemoryKind, shape: readonly number[], dtype?: D): Tensor<D> {
    const type = dtype ?? ('f32' as D);
    const size = elementsOf(shape);
    const buffer = this.#pool.take(size * ELEMENT_BYTES[type]);
    if (this.#poison) new Uint8Array(buffer).fill(0xff); // NaN as f32, -1 as i32
    return { dtype: type, shape, size, kind, storage: arrayOver(type, buffer, 0, size) } as NativeTensor<D>;
  }

  free(tensor: Tensor): void {
    this.#pool.give(valuesOf(tensor).buffer as ArrayBuffer);
  }

  view<D extends DType>(tensor: Tensor<D>, offset: number, shape: readonly number[]): Tensor<D> {
    const { dtype, kind } = tensor;
    const values = valuesOf(tensor);
    const size = elementsOf(shape);
    const storage = arrayOver(
      dtype,
      values.buffer as ArrayBuffer,
      values.byteOffset + offset * ELEMENT_BYTES[dtype],
      size,
    );
    return { dtype, shape, size, kind, storage } as NativeTensor<D>;
  }

  trim(): void {
    this.#pool.trim();
  }

  scope(): void {}

  upload(tensor: Tensor, values: Values): void {
    valuesOf(tensor).set(values);
  }

  download(tensor: F32): Promise<Float32Array>;
  download(tensor: Tensor): Promise<Values>;
  async download(tensor: Tensor): Promise<Values> {
    return valuesOf(tensor).slice();
  }

  adoptWeight(values: WeightValues): Dense {
    return adopted(values.dtype, values.shape, values.data);
  }

  adoptNf4({ shape, codes, absmaxCodes, absmax, absmaxOffset }: Nf4Values): Nf4 {
    return {
      dtype: 'nf4',
      shape,
      codes: adopted('u8', [codes.length], codes),
      absmaxCodes: adopted('u8', [absmaxCodes.length], absmaxCodes),
      absmax: adopted('f32', [absmax.length], absmax),
      absmaxOffset,
    };
  }

  uploadWeight(tensor: F32, values: WeightValues): void {
    this.#ops.toF32(f32(tensor), values.data, STORAGE_TYPE[values.dtype], tensor.size);
  }

  quantizeWeight(values: WeightValues): Nf4 {
    const [N, K] = values.shape as [number, number];
    const n = N * K;
    const blocks = Math.ceil(n / NF4_BLOCK);
    const codes = this.allocate('weights', [Math.ceil(n / 2)], 'u8');
    const absmaxCodes = this.allocate('weights', [blocks], 'u8');
    const absmax = this.allocate('weights', [Math.ceil(blocks / NESTED_BLOCK)]);
    const blockAbsmax = this.allocate('scratch', [blocks]);
    const chunk = this.allocate('scratch', [Math.min(n, QUANTIZE_CHUNK)]);
    for (let start = 0; start < n; start += QUANTIZE_CHUNK) {
      const count = Math.min(QUANTIZE_CHUNK, n - start);
      const dense = f32(chunk).subarray(0, count);
      this.#ops.toF32(dense, values.data.subarray(start, start + count), STORAGE_TYPE[values.dtype], count);
      this.#ops.nf4Quantize(
        u8(codes).subarray(start / 2, start / 2 + Math.ceil(count / 2)),
        f32(blockAbsmax).subarray(start / NF4_BLOCK, start / NF4_BLOCK + Math.ceil(count / NF4_BLOCK)),
        dense,
        count,
      );
    }
    const offset = new Float32Array(1);
    this.#ops.nf4DoubleQuantize(u8(absmaxCodes), f32(absmax), offset, f32(blockAbsmax), blocks);
    this.free(chunk);
    this.free(blockAbsmax);
    return { dtype: 'nf4', shape: [N, K], codes, absmaxCodes, absmax, absmaxOffset: offset[0]! };
  }

  embeddingForward(out: F32, ids: I32, weight: Dense): void {
    const [V, C] = weight.shape as [number, number];
    this.#ops.embeddingForward(f32(out), i32(ids), valuesOf(weight), STORAGE_TYPE[weight.dtype], ids.size, V, C);
  }

  embeddingBackward(dweight: F32, dout: F32, ids: I32): void {
    const [V, C] = dweight.shape as [number, number];
    this.#ops.embeddingBackward(f32(dweight), f32(dout), i32(ids), ids.size, V, C);
  }

  rmsnormForward(out: F32, rstd: F32, inp: F32, weight: F32, eps: number): void {
    this.#ops.rmsnormForward(f32(out), f32(rstd), f32(inp), f32(weight), rstd.size, weight.size, eps);
  }

  rmsnormBackward(
    dinp: F32,
    dweight: F32 | undefined,
    dout: F32,
    inp: F32,
    rstd: F32,
    weight: F32,
    accumulate: boolean,
  ): void {
    const dw = dweight ? f32(dweight) : EMPTY_F32;
    this.#ops.rmsnormBackward(
      f32(dinp),
      dw,
      f32(dout),
      f32(inp),
      f32(rstd),
      f32(weight),
      rstd.size,
      weight.size,
      Number(accumulate),
    );
  }

  ropeForward(x: F32, table: F32, positions: I32): void {
    const D = lastOf(table.shape) * 2;
    this.#ops.ropeForward(
      f32(x),
      f32(table),
      i32(positions),
      positions.size,
      x.size / positions.size / D,
      D,
      table.size / D,
    );
  }

  ropeBackward(dx: F32, table: F32, positions: I32): void {
    const D = lastOf(table.shape) * 2;
    this.#ops.ropeBackward(
      f32(dx),
      f32(table),
      i32(positions),
      positions.size,
      dx.size / positions.size / D,
      D,
      table.size / D,
    );
  }

  attentionForward(out: F32, lse: F32, q: F32, k: F32, v: F32, starts: I32): void {
    const [B, Tq, Hq, D] = q.shape as [number, number, number, number];
    const [, Tk, Hkv] = k.shape as [number, number, number, number];
    this.#ops.attentionForward(
      f32(out),
      f32(lse),
      f32(q),
      f32(k),
      f32(v),
      i32(starts),
      B,
      Tq,
      Tk,
      Hq,
      Hkv,
      D,
      this.#computeType,
    );
  }

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
  ): void {
    const [B, T, Hq, D] = q.shape as [number, number, number, number];
    const Hkv = k.shape[2]!;
    this.#ops.attentionBackward(
      f32(dq),
      f32(dk),
      f32(dv),
      f32(dout),
      f32(q),
      f32(k),
      f32(v),
      f32(out),
      f32(lse),
      i32(starts),
      B,
      T,
      Hq,
      Hkv,
      D,
      this.#computeType,
    );
  }

  swigluForward(out: F32, gate: F32, up: F32): void {
    this.#ops.swigluForward(f32(out), f32(gate), f32(up), out.size);
  }

  swigluBackward(dgate: F32, dup: F32, dout: F32, gate: F32, up: F32): void {
    this.#ops.swigluBackward(f32(dgate), f32(dup), f32(dout), f32(gate), f32(up), dout.size);
  }

  linearForward(out: F32, inp: F32, weight: Weight, options: LinearOptions = {}): void {
    const [N, K] = weight.shape as [number, number];
    const M = inp.size / K;
    const accumulate = Number(options.accumulate ?? false);
    if (weight.dtype === 'nf4') {
      refuseAlpha(options);
      this.#ops.linearNf4Forward(
        f32(out),
        f32(inp),
        u8(weight.codes),
        u8(weight.absmaxCodes),
        f32(weight.absmax),
        weight.absmaxOffset,
        M,
        N,
        K,
        accumulate,
        this.#computeType,
      );
    } else {
      this.#ops.linearForward(
        f32(out),
        f32(inp),
        valuesOf(weight),
        STORAGE_TYPE[weight.dtype],
        M,
        N,
        K,
        options.alpha ?? 1,
        accumulate,
        this.#computeType,
      );
    }
  }

  linearBackward(dinp: F32, dout: F32, weight: Weight, options: LinearOptions = {}): void {
    const [N, K] = weight.shape as [number, number];
    const M = dout.size / N;
    const accumulate = Number(options.accumulate ?? false);
    if (weight.dtype === 'nf4') {
      refuseAlpha(options);
      this.#ops.linearNf4Backward(
        f32(dinp),
        f32(dout),
        u8(weight.codes),
        u8(weight.absmaxCodes),
        f32(weight.absmax),
        weight.absmaxOffset,
        M,
        N,
        K,
        accumulate,
        this.#computeType,
      );
    } else {
      this.#ops.linearBackward(
        f32(dinp),
        f32(dout),
        valuesOf(weight),
        STORAGE_TYPE[weight.dtype],
        M,
        N,
        K,
        options.alpha ?? 1,
        accumulate,
        this.#computeType,
      );
    }
  }

  linearWeightBackward(dweight: F32, dout: F32, inp: F32, alpha = 1): void {
    const [N, K] = dweight.shape as [number, number];
    this.#ops.linearWeightBackward(f32(dweight), f32(dout), f32(inp), dout.size / N, N, K, alpha, this.#computeType);
  }

  dropoutForward(out: F32, inp: F32, p: number, seed: number): void {
    this.#ops.dropoutForward(f32(out), f32(inp), inp.size, p, seed);
  }

  dropoutBackward(dinp: F32, dout: F32, p: number, seed: number, accumulate: boolean): void {
    this.#ops.dropoutBackward(f32(dinp), f32(dout), dout.size, p, seed, Number(accumulate));
  }

  crossEntropyForward(loss: F32, inp: F32, weight: Dense, labels: I32, _targets: number): void {
    const [V, C] = weight.shape as [number, number];
    const type = STORAGE_TYPE[weight.dtype];
    this.#ops.crossEntropyForward(
      f32(loss),
      f32(inp),
      valuesOf(weight),
      type,
      i32(labels),
      labels.size,
      V,
      C,
      this.#computeType,
    );
  }

  crossEntropyForwardBackward(
    loss: F32,
    dinp: F32,
    dweight: F32 | undefined,
    inp: F32,
    weight: Dense,
    labels: I32,
    scale: number,
    _targets: number,
  ): void {
    const [V, C] = weight.shape as [number, number];
    this.#ops.crossEntropyForwardBackward(
      f32(loss),
      f32(dinp),
      dweight ? f32(dweight) : EMPTY_F32,
      f32(inp),
      valuesOf(weight),
      STORAGE_TYPE[weight.dtype],
      i32(labels),
      scale,
      labels.size,
      V,
      C,
      this.#computeType,
    );
  }

  add(out: F32, inp: F32): void {
    this.#ops.add(f32(out), f32(inp), out.size);
  }

  copy(out: F32, inp: F32): void {
    this.#ops.copy(f32(out), f32(inp), out.size);
  }

  fill(out: F32, value: number): void {
    this.#ops.fill(f32(out), value, out.size);
  }

  sum(out: F32, inp: F32): void {
    this.#ops.sum(f32(out), f32(inp), inp.size);
  }

  sumOfSquares(out: F32, inp: F32): void {
    this.#ops.sumOfSquares(f32(out), f32(inp), inp.size);
  }

  adamw(param: F32, grad: F32, m: F32, v: F32, s: AdamwSettings): void {
    this.#ops.adamw(
      f32(param),
      f32(grad),
      f32(m),
      f32(v),
      param.size,
      s.learningRate,
      s.beta1,
      s.beta2,
      s.eps,
      s.weightDecay,
      s.step,
      s.gradScale,
    );
  }

  adamw8bit(param: F32, grad: F32, m: U8, v: U8, mAbsmax: F32, vAbsmax: F32, s: AdamwSettings): void {
    this.#ops.adamw8bit(
      f32(param),
      f32(grad),
      u8(m),
      u8(v),
      f32(mAbsmax),
      f32(vAbsmax),
      param.size,
      s.learningRate,
      s.beta1,
      s.beta2,
      s.eps,
      s.weightDecay,
      s.step,
      s.gradScale,
    );
  }
}

function arrayOver(dtype: DType, buffer: ArrayBuffer, byteOffset: number, size: number): Values {
  switch (dtype) {
    case 'f32':
      return new Float32Array(buffer, byteOffset, size);
    case 'i32':
      return new Int32Array(buffer, byteOffset, size);
    case 'u8':
      return new Uint8Array(buffer, byteOffset, size);
    default:
      return new Uint16Array(buffer, byteOffset, size);
  }
}

/** A tensor over values that someone else owns. */
function adopted<D extends DType>(dtype: D, shape: readonly number[], values: Values): Tensor<D> {
  return { dtype, shape, size: values.length, kind: 'weights', storage: values } as NativeTensor<D>;
}

const valuesOf = (tensor: Tensor): Values => (tensor as NativeTensor).storage;
const f32 = (tensor: F32): Float32Array => (tensor as NativeTensor).storage as Float32Array;
const i32 = (tensor: I32): Int32Array => (tensor as NativeTensor).storage as Int32Array;
const u8 = (tensor: U8): Uint8Array => (tensor as NativeTensor).storage as Uint8Array;

function refuseAlpha(options: LinearOptions): void {
  if (options.alpha !== undefined && options.alpha !== 1)
    throw new Error(`a product with an NF4 weight takes no factor, got ${options.alpha}`);
}

/** The fastest compute type that loses no more than bf16 does: bf16 where the processor multiplies bf16 pairs, else f32. */
export function preferredCompute(): { compute: Compute; reason: string } {
  const set = native().instructionSet();
  if (set === 'avx512bf16') return { compute: 'bf16', reason: 'the processor multiplies bf16 pairs (AVX-512 BF16)' };
  return { compute: 'f32', reason: `the instruction set ${set} has no bf16 products` };
}
