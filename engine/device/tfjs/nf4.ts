// SPDX-License-Identifier: Apache-2.0
// Frozen 4-bit weights over the ops that TensorFlow.js has: packed at rest, three bytes to an f32, and decoded for each product
// by looking up each byte's pair of values. Three, because f32 is exact below 2^24 and all backends divide it alike (wasm
// divides int32 as f32, and TensorFlow keeps int32 in host memory even on a GPU). Products and sums are separate ops, so each is rounded to f32 by itself, as
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
    const whole = Math.ceil(bytes.length / unit) * unit; // zeros stand for the rest of a short last block
    const words = new Float32Array(Math.ceil(whole / 3));
    for (let i = 0; i < words.length; i++) {
      const byte = (j: number) => bytes[3 * i + j] ?? 0;
      words[i] = byte(0) + 256 * byte(1) + 65536 * byte(2);
    }
    const tensor = this.tf.keep(this.tf.tensor1d(words));
    return new PackedBytes(tensor, bytes.length, () => {
      const held = tensor.dataSync() as Float32Array;
      return Uint8Array.from({ length: bytes.length }, (_, i) => held[Math.floor(i / 3)]! / 256 ** (i % 3));
    });
  }

  decode({ shape, codes, absmaxCodes, absmax, absmaxOffset }: Nf4Parts): T {
    const { tf } = this;
    const n = shape[0] * shape[1];
    const blocks = Math.ceil(n / NF4_BLOCK);
    const pairs = tf.gather(this.#pairs, this.#bytesOf(codes.tensor) as never);
    let scales = absmax;
    if (absmaxCodes.count > 0) {
      const steps = tf.gather(this.#map, this.#bytesOf(absmaxCodes.tensor) as never);
      const whole = this.#first(steps, absmax.size * NESTED_BLOCK);
      const nested = tf.mul(tf.reshape(whole, [-1, NESTED_BLOCK]), tf.reshape(absmax, [-1, 1]));
      scales = this.#first(tf.add(nested, absmaxOffset), blocks);
    }
    const values = tf.reshape(this.#first(pairs, blocks * NF4_BLOCK), [blocks, NF4_BLOCK]);
    return tf.reshape(this.#first(tf.mul(values, tf.reshape(scales, [blocks, 1])), n), [...shape]);
  }

  /** The first `count` elements, flat. */
  #first(x: T, count: number): T {
    const flat = this.tf.reshape(x, [-1]);
    return flat.size === count ? flat : this.tf.slice(flat, [0], [count]);
  }

  /** The bytes of words, as int32: a word less 256 times its floored quotient is its lowest one. */
  #bytesOf(words: T): T {
    const { tf } = this;
    const high = tf.floor(tf.mul(words, 2 ** -16));
    const rest = tf.sub(words, tf.mul(high, 2 ** 16));
    const middle = tf.floor(tf.mul(rest, 2 ** -8));
    const low = tf.sub(rest, tf.mul(middle, 2 ** 8));
    return tf.cast(tf.reshape(tf.stack([low, middle, high], -1), [-1]), 'int32');
  }
}
