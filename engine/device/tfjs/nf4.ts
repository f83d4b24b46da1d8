// SPDX-License-Identifier: Apache-2.0
// Frozen 4-bit weights over the ops that TensorFlow.js has: packed at rest, four bytes to an int32, and decoded for each product
// by looking up each byte's pair of values. Products and sums are separate ops, so each is rounded to f32 by itself, as
// kernels/quant.h asks. Where the addon of kernels/tfjs/ is built, its ops take over: see nf4-ops.ts.
import { NESTED_BLOCK, NF4_BLOCK } from '../device.js';
import { PackedBytes, type T, type Tf } from './memory.js';
import { NF4_VALUES, SIGNED_DYNAMIC_MAP } from './quantization.js';

/** The parts of a weight (N,K) on the device. */
export interface Nf4Parts {
  readonly shape: readonly [number, number];
  readonly codes: PackedBytes;
  /** Without bytes where the absmax is not quantised. */
  readonly absmaxCodes: PackedBytes;
  /** One for each block, or for 256 blocks. */
  readonly absmax: T;
  readonly absmaxOffset: number;
}

/** How 4-bit weights lie on the device and become dense. */
export interface Nf4Codec {
  /** A copy of bytes on the device, `unit` of which belong together. The tensor is the caller's to free. */
  pack(bytes: Uint8Array, unit: number): PackedBytes;
  /** The dense weight (N,K), within a `tf.tidy`. */
  decode(parts: Nf4Parts): T;
  /** inp (M,K)·weightᵀ without the dense weight, where that is quicker; otherwise nothing. */
  product?(inp: T, parts: Nf4Parts): T | undefined;
}

export const CODES_UNIT = NF4_BLOCK / 2;
export const ABSMAX_UNIT = NESTED_BLOCK;

/** The codec that every backend can do. */
export class LookupCodec implements Nf4Codec {
  readonly #pairs: T; // (256,2) both values of a byte, the high half first
  readonly #map: T; // (256)

  constructor(private readonly tf: Tf) {
    const pairs = Array.from({ length: 256 }, (_, byte) => [NF4_VALUES[byte >> 4]!, NF4_VALUES[byte & 15]!]);
    this.#pairs = tf.keep(tf.tensor2d(pairs, [256, 2], 'float32'));
    this.#map = tf.keep(tf.tensor1d(SIGNED_DYNAMIC_MAP.slice()));
  }

  pack(bytes: Uint8Array, unit: number): PackedBytes {
    const padded = new Uint8Array(Math.ceil(bytes.length / unit) * unit);
    padded.set(bytes);
    const tensor = this.tf.keep(this.tf.tensor1d(new Int32Array(padded.buffer), 'int32'));
    const unpack = () => {
      const words = tensor.dataSync() as Int32Array;
      return new Uint8Array(words.buffer, words.byteOffset, bytes.length).slice();
    };
    return new PackedBytes(tensor, bytes.length, unpack);
  }

  decode({ shape, codes, absmaxCodes, absmax, absmaxOffset }: Nf4Parts): T {
    const { tf } = this;
    const n = shape[0] * shape[1];
    const blocks = Math.ceil(n / NF4_BLOCK);
    const values = tf.reshape(tf.gather(this.#pairs, this.#bytesOf(codes.tensor) as never), [blocks, NF4_BLOCK]);
    let scales = absmax;
    if (absmaxCodes.count > 0) {
      const steps = tf.gather(this.#map, this.#bytesOf(absmaxCodes.tensor) as never);
      const nested = tf.mul(tf.reshape(steps, [-1, NESTED_BLOCK]), tf.reshape(absmax, [-1, 1]));
      scales = tf.slice(tf.reshape(tf.add(nested, absmaxOffset), [-1]), [0], [blocks]);
    }
    const weight = tf.reshape(tf.mul(values, tf.reshape(scales, [blocks, 1])), [-1]);
    return tf.reshape(n === weight.size ? weight : tf.slice(weight, [0], [n]), [...shape]);
  }

  /** The bytes of words, as int32. A word less 256 times its floored quotient is its lowest byte, for negative ones too. */
  #bytesOf(words: T): T {
    const { tf } = this;
    const radix = tf.scalar(256, 'int32');
    const bytes: T[] = [];
    let rest = words;
    for (let i = 0; i < 4; i++) {
      const quotient = tf.floorDiv(rest, radix);
      bytes.push(tf.sub(rest, tf.mul(quotient, radix)));
      rest = quotient;
    }
    return tf.reshape(tf.stack(bytes, -1), [-1]);
  }
}
