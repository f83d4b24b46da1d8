// SPDX-License-Identifier: Apache-2.0
// The ops of a device whose kernels are native, on whatever memory: sizes are read from shapes, storages are handed through
// unseen. Memory and copies are the affair of the devices made from it (cpu.ts, cuda.ts). The addon checks types and counts;
// nothing is checked twice.
import { COMPUTE_TYPE, type NativeOps, STORAGE_TYPE } from '../../kernels/index.js';
import {
  type AdamwSettings,
  type Compute,
  type Dense,
  type Device,
  type DType,
  type F32,
  type I32,
  type LinearOptions,
  lastOf,
  type MemoryKind,
  type Nf4,
  type Nf4Values,
  type Tensor,
  type U8,
  type Values,
  type Weight,
  type WeightValues,
} from './device.js';

/** What the kernels take for a tensor; only the device that made it knows. */
export type Storage = unknown;
export type KernelOps = NativeOps<Storage, Storage, Storage, Storage>;

export abstract class KernelDevice implements Device {
  abstract readonly name: string;
  readonly compute: Compute;
  readonly #computeType: number;
  readonly #ops: KernelOps;
  /** The storage of no elements at all. */
  readonly #none: Storage;

  protected constructor(compute: Compute, ops: KernelOps, none: Storage) {
    this.compute = compute;
    this.#computeType = COMPUTE_TYPE[compute];
    this.#ops = ops;
    this.#none = none;
  }

  abstract allocate<D extends DType = 'f32'>(kind: MemoryKind, shape: readonly number[], dtype?: D): Tensor<D>;
  abstract free(tensor: Tensor): void;
  abstract view<D extends DType>(tensor: Tensor<D>, offset: number, shape: readonly number[]): Tensor<D>;
  abstract trim(): void;
  abstract upload(tensor: Tensor, values: Values): void;
  abstract download(tensor: F32): Promise<Float32Array>;
  abstract download(tensor: Tensor): Promise<Values>;
  abstract adoptWeight(values: WeightValues): Dense;
  abstract uploadWeight(tensor: F32, values: WeightValues): void;
  abstract quantizeWeight(values: WeightValues): Nf4;
  abstract adoptNf4(values: Nf4Values): Nf4;

  scope(): void {}

  embeddingForward(out: F32, ids: I32, weight: Dense): void {
    const [V, C] = weight.shape as [number, number];
    this.#ops.embeddingForward(f32(out), i32(ids), storageOf(weight), STORAGE_TYPE[weight.dtype], ids.size, V, C);
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
    const dw = dweight ? f32(dweight) : this.#none;
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
    const { low, factor, R, lowAlpha } = this.#lowRank(options);
    if (weight.dtype === 'nf4') {
      refuseAlpha(options);
      this.#ops.linearNf4Forward(
        f32(out),
        f32(inp),
        u8(weight.codes),
        u8(weight.absmaxCodes),
        f32(weight.absmax),
        weight.absmaxOffset,
        low,
        factor,
        M,
        N,
        K,
        R,
        lowAlpha,
        accumulate,
        this.#computeType,
      );
    } else {
      this.#ops.linearForward(
        f32(out),
        f32(inp),
        storageOf(weight),
        STORAGE_TYPE[weight.dtype],
        low,
        factor,
        M,
        N,
        K,
        R,
        options.alpha ?? 1,
        lowAlpha,
        accumulate,
        this.#computeType,
      );
    }
  }

  linearBackward(dinp: F32, dout: F32, weight: Weight, options: LinearOptions = {}): void {
    const [N, K] = weight.shape as [number, number];
    const M = dout.size / N;
    const accumulate = Number(options.accumulate ?? false);
    const { low, factor, R, lowAlpha } = this.#lowRank(options);
    if (weight.dtype === 'nf4') {
      refuseAlpha(options);
      this.#ops.linearNf4Backward(
        f32(dinp),
        f32(dout),
        u8(weight.codes),
        u8(weight.absmaxCodes),
        f32(weight.absmax),
        weight.absmaxOffset,
        low,
        factor,
        M,
        N,
        K,
        R,
        lowAlpha,
        accumulate,
        this.#computeType,
      );
    } else {
      this.#ops.linearBackward(
        f32(dinp),
        f32(dout),
        storageOf(weight),
        STORAGE_TYPE[weight.dtype],
        low,
        factor,
        M,
        N,
        K,
        R,
        options.alpha ?? 1,
        lowAlpha,
        accumulate,
        this.#computeType,
      );
    }
  }

  #lowRank({ lowRank }: LinearOptions): { low: Storage; factor: Storage; R: number; lowAlpha: number } {
    if (!lowRank) return { low: this.#none, factor: this.#none, R: 0, lowAlpha: 0 };
    const { low, factor, alpha } = lowRank;
    return { low: f32(low), factor: f32(factor), R: lastOf(low.shape), lowAlpha: alpha };
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
      storageOf(weight),
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
      dweight ? f32(dweight) : this.#none,
      f32(inp),
      storageOf(weight),
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

const storageOf = (tensor: Tensor): Storage => tensor.storage;
const f32 = (tensor: F32): Storage => tensor.storage;
const i32 = (tensor: I32): Storage => tensor.storage;
const u8 = (tensor: U8): Storage => tensor.storage;

function refuseAlpha(options: LinearOptions): void {
  if (options.alpha !== undefined && options.alpha !== 1)
    throw new Error(`a product with an NF4 weight takes no factor, got ${options.alpha}`);
}
