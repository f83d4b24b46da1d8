// SPDX-License-Identifier: Apache-2.0
// What lies behind a handle on this device. A TensorFlow.js tensor never changes, so f32 memory is a run of pieces, each a
// window on a tensor: a write puts another tensor into its range, a view is a range, and a read joins the pieces of its range
// or cuts its window out, and keeps what it made. So parameters that are written one by one and read as one flat tensor (or
// the other way round) cost one copy a turn, however many they are. Integers and bytes stay with the host: they are few, ops
// read them there, and TensorFlow has int32 in host memory even on a GPU.
import type * as core from '@tensorflow/tfjs-core';
import { type DType, elementsOf, type F32, type I32, type Tensor, type U8 } from '../device.js';

export type Tf = typeof core;
export type T = core.Tensor;

/** `size` elements of `tensor` from `start` on; without a tensor, memory that was never written. */
interface Piece {
  readonly size: number;
  readonly start: number;
  readonly tensor: T | undefined;
}

const same = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((size, i) => size === b[i]);

/** f32 memory. All calls but `dispose` stand within a `tf.tidy`, which frees what they leave over. */
export class Floats {
  #pieces: Piece[];

  constructor(
    private readonly tf: Tf,
    size: number,
  ) {
    this.#pieces = size ? [{ size, start: 0, tensor: undefined }] : [];
  }

  /** The elements from `offset` on. Memory that was never written reads as NaN. The tensor is not the caller's to keep. */
  read(offset: number, shape: readonly number[]): T {
    const { tf } = this;
    const size = elementsOf(shape);
    if (size === 0) return tf.zeros([...shape]);
    const [first, last] = this.#range(offset, size);
    const only = this.#pieces[first]!;
    if (last - first > 1 || only.tensor?.size !== size) {
      const values = this.#pieces.slice(first, last).map((piece) => this.#valuesOf(piece));
      this.#put(first, last, size, values.length === 1 ? values[0]! : tf.concat(values));
    }
    const { tensor } = this.#pieces[first] as { tensor: T };
    return same(tensor.shape, shape) ? tensor : tf.reshape(tensor, [...shape]);
  }

  /** Replaces the elements from `offset` on. `value` must be a tensor that an op has just made: it is kept as it is. */
  write(offset: number, value: T): void {
    if (value.size === 0) return;
    const [first, last] = this.#range(offset, value.size);
    this.#put(first, last, value.size, value);
  }

  dispose(): void {
    for (const { tensor } of this.#pieces) tensor?.dispose();
    this.#pieces = [];
  }

  /** Cuts at both ends of a range; returns the first of its pieces and the one behind the last. */
  #range(offset: number, size: number): [first: number, last: number] {
    return [this.#cut(offset), this.#cut(offset + size)];
  }

  /** The index of the piece that begins at `at`, made by parting one if need be: two windows on one tensor, no copy. */
  #cut(at: number): number {
    let start = 0;
    for (const [i, piece] of this.#pieces.entries()) {
      if (start === at) return i;
      const before = at - start;
      if (before < piece.size) {
        const other = piece.tensor && this.tf.keep(this.tf.clone(piece.tensor));
        this.#pieces.splice(
          i,
          1,
          { size: before, start: piece.start, tensor: piece.tensor },
          { size: piece.size - before, start: piece.start + before, tensor: other },
        );
        return i + 1;
      }
      start += piece.size;
    }
    if (start !== at) throw new Error(`element ${at} of memory with ${start}`);
    return this.#pieces.length;
  }

  #valuesOf({ size, start, tensor }: Piece): T {
    if (!tensor) return this.tf.fill([size], Number.NaN);
    const flat = this.tf.reshape(tensor, [-1]);
    return size === tensor.size ? flat : this.tf.slice(flat, [start], [size]);
  }

  #put(first: number, last: number, size: number, tensor: T): void {
    this.tf.keep(tensor);
    const gone = this.#pieces.splice(first, last - first, { size, start: 0, tensor });
    for (const piece of gone) piece.tensor?.dispose();
  }
}

/** The bytes of a frozen 4-bit weight, in whatever form its codec holds them on the device. */
export class PackedBytes {
  constructor(
    readonly tensor: T,
    /** How many bytes it stands for; the tensor may be longer. */
    readonly count: number,
    readonly bytes: () => Uint8Array,
  ) {}

  dispose(): void {
    this.tensor.dispose();
  }
}

export interface TfjsTensor<D extends DType = DType> extends Tensor<D> {
  readonly storage: Floats | Int32Array | Uint8Array | PackedBytes;
  /** Where a view begins in the memory that it shares; 0 for integers and bytes, whose views are arrays of their own. */
  readonly offset: number;
}

export const floatsOf = (tensor: F32): Floats => (tensor as TfjsTensor).storage as Floats;
export const intsOf = (tensor: I32): Int32Array => (tensor as TfjsTensor).storage as Int32Array;
export const bytesOf = (tensor: U8): Uint8Array => (tensor as TfjsTensor).storage as Uint8Array;
export const packedOf = (tensor: U8): PackedBytes => (tensor as TfjsTensor).storage as PackedBytes;
export const offsetOf = (tensor: Tensor): number => (tensor as TfjsTensor).offset;
