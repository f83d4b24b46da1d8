// SPDX-License-Identifier: Apache-2.0
// Tensors at known places of an open file, mapped into memory one by one when they are read. Knows no format: that has been
// read and checked, and left the places. The file stays open, so that another file that takes its name later cannot come
// between header and values.
import { closeSync, fstatSync } from 'node:fs';
import { UserError } from '../errors.js';
import { native } from '../kernels/index.js';
import { readExactly } from './files.js';
import {
  ELEMENT_BYTES,
  elementCount,
  type TensorData,
  type TensorFile,
  type TensorInfo,
  viewAs,
} from './tensor-file.js';

export interface TensorPlace extends TensorInfo {
  /** The tensor's first byte within the file. */
  position: number;
  /** Elements between neighbours in each dimension, where that is not row-major. Checked to lie within the file. */
  strides?: readonly number[] | undefined;
}

export class MappedTensors implements TensorFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorPlace>;
  readonly #loaded = new Map<string, { data: TensorData; mapped: boolean }>();
  #file: number | undefined;

  constructor(path: string, file: number, tensors: ReadonlyMap<string, TensorPlace>) {
    this.path = path;
    this.tensors = tensors;
    this.#file = file;
  }

  read(name: string): TensorData {
    const loaded = this.#loaded.get(name);
    if (loaded) return loaded.data;
    const place = this.tensors.get(name);
    if (this.#file === undefined || !place) throw new Error(`${this.path}: no tensor '${name}', or the file is closed`);
    const { position, dtype, shape, strides } = place;
    const elements = strides ? extent(shape, strides) : elementCount(shape)!;
    const bytes = elements * ELEMENT_BYTES[dtype];
    if (position + bytes > fstatSync(this.#file).size) {
      throw new UserError({
        expected: `the values of '${name}', bytes ${position} to ${position + bytes}`,
        found: 'a file that has become shorter since it was opened',
        where: this.path,
        remedy: 'try again when nothing writes to it',
      });
    }
    // A view must begin at a multiple of its element size. Writers align; where one did not, the values are copied.
    const mapped = position % ELEMENT_BYTES[dtype] === 0 && !strides;
    const buffer = mapped
      ? native().mapFile(this.#file, position, bytes)
      : readExactly(this.#file, position, bytes, this.path).buffer;
    const stored = viewAs(dtype, buffer);
    const data = strides ? gather(stored, shape, strides) : stored;
    this.#loaded.set(name, { data, mapped });
    return data;
  }

  release(name: string): void {
    const loaded = this.#loaded.get(name);
    if (loaded?.mapped) native().dropPages(loaded.data.buffer as ArrayBuffer);
    else this.#loaded.delete(name);
  }

  close(): void {
    for (const { data, mapped } of this.#loaded.values()) if (mapped) native().release(data.buffer as ArrayBuffer);
    this.#loaded.clear();
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }
}

/** Elements from a tensor's first to its last, both included. */
export function extent(shape: readonly number[], strides: readonly number[]): number {
  if (shape.includes(0)) return 0;
  return shape.reduce((last, size, i) => last + (size - 1) * strides[i]!, 1);
}

/** The elements in row-major order. */
function gather(stored: TensorData, shape: readonly number[], strides: readonly number[]): TensorData {
  const count = elementCount(shape)!;
  const out = new (stored.constructor as new (length: number) => TensorData)(count);
  const index = shape.map(() => 0);
  let from = 0;
  for (let to = 0; to < count; to++) {
    out[to] = stored[from]!;
    // To the next index, like an odometer: the last dimension first.
    for (let d = shape.length - 1; d >= 0; d--) {
      from += strides[d]!;
      if (++index[d]! < shape[d]!) break;
      from -= strides[d]! * shape[d]!;
      index[d] = 0;
    }
  }
  return out;
}
