// SPDX-License-Identifier: Apache-2.0
// The tfjs device: the op table over TensorFlow.js, on whatever backend was found. Arithmetic is f32; 16-bit weights become
// f32 when they are taken; 4-bit ones stay packed and become dense for each product. An op reads its handles, calls a function
// of tensors from the files beside, and binds the handles to what comes back; `tf.tidy` frees everything else. The host draws
// dropout masks and updates 8-bit optimizer states. It waits for nothing; only downloads do.
import { UserError } from '../../../errors.js';
import {
  type AdamwSettings,
  type Dense,
  type Device,
  type F32,
  type I32,
  type LinearOptions,
  lastOf,
  type Nf4,
  type Nf4Values,
  type U8,
  type Weight,
  type WeightValues,
} from '../device.js';
import { attentionBackward, attentionForward } from './attention.js';
import { crossEntropy } from './cross-entropy.js';
import {
  dropout,
  embeddingBackward,
  embeddingForward,
  rmsnormBackward,
  rmsnormForward,
  rmsnormWeightBackward,
  rope,
  sumOf,
  swigluBackward,
  swigluForward,
} from './elementwise.js';
import { linearBackward, linearForward, linearWeightBackward } from './linear.js';
import type { LoadedTensorFlow } from './load.js';
import { bytesOf, intsOf, packedOf, type T } from './memory.js';
import { ABSMAX_UNIT, CODES_UNIT, LookupCodec, type Nf4Codec, type Nf4Parts } from './nf4.js';
import { customOpCodec } from './nf4-ops.js';
import { adamw, adamw8bit } from './optimizer.js';
import type { TfjsDeviceOptions } from './options.js';
import { keepMask } from './philox.js';
import { decodeWeight, quantizeNf4 } from './quantization.js';
import { handle, TfjsMemory } from './tensors.js';

export class TfjsDevice extends TfjsMemory implements Device {
  readonly name = 'tfjs';
  readonly compute = 'f32';
  readonly #nf4: Nf4Codec;

  /** @throws UserError where another compute type than f32 is asked for */
  constructor(loaded: LoadedTensorFlow, { compute, customOps = true }: TfjsDeviceOptions) {
    if (compute !== 'f32') {
      throw new UserError({
        expected: 'compute: f32 on the tfjs device, since TensorFlow.js has no other floating type',
        found: compute,
        remedy: "leave 'compute' out or set it to f32",
      });
    }
    super(loaded.tf);
    this.#nf4 = (customOps ? customOpCodec(loaded) : undefined) ?? new LookupCodec(loaded.tf);
  }

  adoptWeight(values: WeightValues): Dense {
    const tensor = this.allocate('weights', values.shape);
    this.uploadWeight(tensor, values);
    return tensor;
  }

  uploadWeight(tensor: F32, values: WeightValues): void {
    this.run(() => this.write(tensor, this.tf.tensor(decodeWeight(values), [...tensor.shape], 'float32')));
  }

  quantizeWeight(values: WeightValues): Nf4 {
    const shape = values.shape as [number, number];
    return this.#takeNf4({ shape, ...quantizeNf4(decodeWeight(values)) });
  }

  adoptNf4(values: Nf4Values): Nf4 {
    return this.#takeNf4(values);
  }

  #takeNf4({ shape, codes, absmaxCodes, absmax, absmaxOffset }: Omit<Nf4Values, 'doubleQuantized'>): Nf4 {
    const packed = (bytes: Uint8Array, unit: number): U8 =>
      handle('u8', 'weights', [bytes.length], this.#nf4.pack(bytes, unit));
    const scales = this.allocate('weights', [absmax.length]);
    this.upload(scales, absmax);
    return {
      dtype: 'nf4',
      shape,
      codes: packed(codes, CODES_UNIT),
      absmaxCodes: packed(absmaxCodes, ABSMAX_UNIT),
      absmax: scales,
      absmaxOffset,
    };
  }

  embeddingForward(out: F32, ids: I32, weight: Dense): void {
    this.run(() => this.write(out, embeddingForward(this.tf, this.ints(ids), this.#dense(weight))));
  }

  embeddingBackward(dweight: F32, dout: F32, ids: I32): void {
    this.run(() => {
      const gradient = embeddingBackward(this.tf, this.rows(dout), this.ints(ids), dweight.shape[0]!);
      this.put(dweight, gradient, true);
    });
  }

  rmsnormForward(out: F32, rstd: F32, inp: F32, weight: F32, eps: number): void {
    this.run(() => {
      const made = rmsnormForward(this.tf, this.rows(inp), this.read(weight), eps);
      this.write(out, made.out);
      this.write(rstd, made.rstd);
    });
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
    this.run(() => {
      const [dy, x, r] = [this.rows(dout), this.rows(inp), this.read(rstd, [rstd.size, 1])];
      const dx = rmsnormBackward(this.tf, dy, x, r, this.read(weight));
      const dw = dweight && rmsnormWeightBackward(this.tf, dy, x, r);
      this.put(dinp, dx, accumulate);
      if (dweight) this.put(dweight, dw!, true);
    });
  }

  ropeForward(x: F32, table: F32, positions: I32): void {
    this.#rotate(x, table, positions, 1);
  }

  ropeBackward(dx: F32, table: F32, positions: I32): void {
    this.#rotate(dx, table, positions, -1);
  }

  #rotate(x: F32, table: F32, positions: I32, direction: 1 | -1): void {
    const half = lastOf(table.shape);
    const M = positions.size;
    this.run(() => {
      const heads = this.read(x, [M, M && x.size / M / (2 * half), 2 * half]);
      const rows = this.read(table, [table.size / (2 * half), 2, half]);
      this.write(x, rope(this.tf, heads, rows, this.ints(positions), direction));
    });
  }

  attentionForward(out: F32, lse: F32, q: F32, k: F32, v: F32, starts: I32): void {
    if (out.size === 0) return;
    this.run(() => {
      const made = attentionForward(this.tf, this.read(q), this.read(k), this.read(v), this.starts(starts));
      this.write(out, made.out);
      this.write(lse, made.lse);
    });
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
    if (out.size === 0) return;
    this.run(() => {
      const read = (tensor: F32, like: F32) => this.read(tensor, like.shape);
      const made = attentionBackward(this.tf, {
        dout: read(dout, q),
        q: this.read(q),
        k: this.read(k),
        v: this.read(v),
        out: read(out, q),
        lse: this.read(lse),
        starts: this.starts(starts),
      });
      this.write(dq, made.dq);
      this.write(dk, made.dk);
      this.write(dv, made.dv);
    });
  }

  swigluForward(out: F32, gate: F32, up: F32): void {
    this.run(() => this.write(out, swigluForward(this.tf, this.flat(gate), this.flat(up))));
  }

  swigluBackward(dgate: F32, dup: F32, dout: F32, gate: F32, up: F32): void {
    this.run(() => {
      const made = swigluBackward(this.tf, this.flat(dout), this.flat(gate), this.flat(up));
      this.write(dgate, made.dgate);
      this.write(dup, made.dup);
    });
  }

  linearForward(out: F32, inp: F32, weight: Weight, { alpha, accumulate, lowRank }: LinearOptions = {}): void {
    refuseAlpha(weight, alpha);
    this.run(() => {
      const x = this.rows(inp, weight.shape[1]);
      const product = weight.dtype === 'nf4' ? this.#nf4.product?.(x, this.#parts(weight)) : undefined;
      this.put(out, product ?? linearForward(this.tf, x, this.#dense(weight), alpha ?? 1), accumulate);
    });
    if (lowRank) this.linearForward(out, lowRank.low, lowRank.factor, { alpha: lowRank.alpha, accumulate: true });
  }

  linearBackward(dinp: F32, dout: F32, weight: Weight, { alpha, accumulate, lowRank }: LinearOptions = {}): void {
    refuseAlpha(weight, alpha);
    this.run(() => {
      const dy = this.rows(dout, weight.shape[0]);
      this.put(dinp, linearBackward(this.tf, dy, this.#dense(weight), alpha ?? 1), accumulate);
    });
    if (lowRank) this.linearBackward(dinp, lowRank.low, lowRank.factor, { alpha: lowRank.alpha, accumulate: true });
  }

  linearWeightBackward(dweight: F32, dout: F32, inp: F32, alpha = 1): void {
    const [N, K] = dweight.shape as [number, number];
    this.run(() => {
      const [dy, x] = [this.rows(dout, N), this.rows(inp, K)];
      this.put(dweight, linearWeightBackward(this.tf, dy, x, alpha), true);
    });
  }

  dropoutForward(out: F32, inp: F32, p: number, seed: number): void {
    this.run(() => this.write(out, this.#dropped(inp, p, seed)));
  }

  dropoutBackward(dinp: F32, dout: F32, p: number, seed: number, accumulate: boolean): void {
    this.run(() => this.put(dinp, this.#dropped(dout, p, seed), accumulate));
  }

  #dropped(x: F32, p: number, seed: number): T {
    const keep = this.tf.tensor1d(keepMask(x.size, p, seed), 'bool');
    return dropout(this.tf, this.flat(x), keep, p);
  }

  crossEntropyForward(loss: F32, inp: F32, weight: Dense, labels: I32): void {
    this.run(() => this.write(loss, crossEntropy(this.tf, this.rows(inp), this.#dense(weight), intsOf(labels)).loss));
  }

  crossEntropyForwardBackward(
    loss: F32,
    dinp: F32,
    dweight: F32 | undefined,
    inp: F32,
    weight: Dense,
    labels: I32,
    scale: number,
  ): void {
    this.run(() => {
      const wanted = { scale, weight: Boolean(dweight) };
      const made = crossEntropy(this.tf, this.rows(inp), this.#dense(weight), intsOf(labels), wanted);
      this.write(loss, made.loss);
      this.write(dinp, made.dinp!);
      if (dweight) this.put(dweight, made.dweight!, true);
    });
  }

  add(out: F32, inp: F32): void {
    this.run(() => this.put(out, this.flat(inp), true));
  }

  copy(out: F32, inp: F32): void {
    this.run(() => this.write(out, this.tf.clone(this.flat(inp))));
  }

  fill(out: F32, value: number): void {
    this.run(() => this.write(out, this.tf.fill([out.size], value)));
  }

  sum(out: F32, inp: F32): void {
    // The old value joins the sum, so that it is rounded once.
    this.run(() => this.write(out, sumOf(this.tf, this.tf.concat([this.flat(out), this.flat(inp)]))));
  }

  sumOfSquares(out: F32, inp: F32): void {
    this.run(() => this.write(out, sumOf(this.tf, this.tf.square(this.flat(inp)))));
  }

  adamw(param: F32, grad: F32, m: F32, v: F32, settings: AdamwSettings): void {
    this.run(() => {
      const [oldParam, g, oldM, oldV] = [this.flat(param), this.flat(grad), this.flat(m), this.flat(v)];
      const made = adamw(this.tf, { param: oldParam, grad: g, m: oldM, v: oldV }, settings);
      this.write(param, made.param);
      this.write(m, made.m);
      this.write(v, made.v);
    });
  }

  adamw8bit(param: F32, grad: F32, m: U8, v: U8, mAbsmax: F32, vAbsmax: F32, settings: AdamwSettings): void {
    this.run(() => {
      const onHost = (tensor: F32) => this.flat(tensor).dataSync().slice() as Float32Array;
      const floats = { param: onHost(param), mAbsmax: onHost(mAbsmax), vAbsmax: onHost(vAbsmax) };
      adamw8bit({ ...floats, grad: onHost(grad), m: bytesOf(m), v: bytesOf(v) }, settings);
      this.upload(param, floats.param);
      this.upload(mAbsmax, floats.mAbsmax);
      this.upload(vAbsmax, floats.vAbsmax);
    });
  }

  /** As (N,K): a 4-bit weight is made dense. */
  #dense(weight: Weight): T {
    return weight.dtype === 'nf4' ? this.#nf4.decode(this.#parts(weight)) : this.read(weight as F32);
  }

  #parts({ shape, codes, absmaxCodes, absmax, absmaxOffset }: Nf4): Nf4Parts {
    const packed = { codes: packedOf(codes), absmaxCodes: packedOf(absmaxCodes) };
    return { shape, ...packed, absmax: this.read(absmax), absmaxOffset };
  }
}

function refuseAlpha(weight: Weight, alpha = 1): void {
  if (weight.dtype === 'nf4' && alpha !== 1)
    throw new Error(`a product with an NF4 weight takes no factor, got ${alpha}`);
}
