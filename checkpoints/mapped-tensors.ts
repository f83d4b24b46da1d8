// SPDX-License-Identifier: Apache-2.0
// Tensors at known places of an open file: mapped into memory one by one when they are read, or read block by block. Knows no
// format: that has been read and checked, and left the places. The file stays open, so that another file that takes its name
// later cannot come between header and values. Where the format has checksums, values are compared with them once, when they
// are first asked for.
import { closeSync, fstatSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { UserError } from '../errors.js';
import { native } from '../kernels/index.js';
import { type FileRange, readExactly, readInto } from './files.js';
import {
  BLOCK_BYTES,
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
  /** Of the bytes that the tensor lies in; the same object for all tensors that share them. */
  checksum?: Checksum | undefined;
}

/** CRC-32 of a range of the file. */
export interface Checksum {
  position: number;
  bytes: number;
  crc32: number;
}

export class MappedTensors implements TensorFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorPlace>;
  readonly #loaded = new Map<string, { data: TensorData; mapped: boolean }>();
  readonly #verified = new Set<Checksum>();
  #file: number | undefined;

  constructor(path: string, file: number, tensors: ReadonlyMap<string, TensorPlace>) {
    this.path = path;
    this.tensors = tensors;
    this.#file = file;
  }

  read(name: string): TensorData {
    const loaded = this.#loaded.get(name);
    if (loaded) return loaded.data;
    const { file, place, bytes } = this.#find(name);
    const { position, dtype, shape, strides } = place;
    // A view must begin at a multiple of its element size. Writers align; where one did not, the values are copied.
    const mapped = position % ELEMENT_BYTES[dtype] === 0 && !strides;
    const buffer = mapped
      ? native().mapFile(file, position, bytes)
      : readExactly(file, position, bytes, this.path).buffer;
    const stored = viewAs(dtype, buffer);
    const data = strides ? gather(stored, shape, strides) : stored;
    this.#loaded.set(name, { data, mapped });
    return data;
  }

  *blocks(name: string): Generator<TensorData> {
    const { file, place, bytes } = this.#find(name);
    const { position, dtype, shape, strides } = place;
    if (strides) {
      const stored = viewAs(dtype, readExactly(file, position, bytes, this.path).buffer);
      yield gather(stored, shape, strides);
      return;
    }
    const block = new Uint8Array(Math.min(bytes, BLOCK_BYTES));
    for (let done = 0; done < bytes; done += block.length) {
      const part = block.subarray(0, Math.min(block.length, bytes - done));
      readInto(part, file, position + done, this.path);
      yield viewAs(dtype, part.buffer, part.length);
    }
  }

  range(name: string): FileRange | undefined {
    const { file, place, bytes } = this.#find(name);
    return place.strides ? undefined : { file, position: place.position, byteLength: bytes, path: this.path };
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

  /** A tensor's place, the bytes from its first element to its last, and the file, which holds them as they were written. */
  #find(name: string): { file: number; place: TensorPlace; bytes: number } {
    const place = this.tensors.get(name);
    const file = this.#file;
    if (file === undefined || !place) throw new Error(`${this.path}: no tensor '${name}', or the file is closed`);
    const { position, dtype, shape, strides } = place;
    const bytes = (strides ? extent(shape, strides) : elementCount(shape)!) * ELEMENT_BYTES[dtype];
    if (position + bytes > fstatSync(file).size) {
      throw new UserError({
        expected: `the values of '${name}', bytes ${position} to ${position + bytes}`,
        found: 'a file that has become shorter since it was opened',
        where: this.path,
        remedy: 'try again when nothing writes to it',
      });
    }
    if (place.checksum) this.#verify(name, place.checksum, file);
    return { file, place, bytes };
  }

  #verify(name: string, checksum: Checksum, file: number): void {
    if (this.#verified.has(checksum)) return;
    const { position, bytes } = checksum;
    const block = new Uint8Array(Math.min(bytes, BLOCK_BYTES));
    let found = 0;
    for (let done = 0; done < bytes; done += block.length) {
      const part = block.subarray(0, Math.min(block.length, bytes - done));
      readInto(part, file, position + done, this.path);
      found = crc32(part, found);
    }
    if (found !== checksum.crc32) {
      throw new UserError({
        expected: `the values of '${name}' as they were written, with checksum ${checksum.crc32.toString(16)}`,
        found: `others, with checksum ${found.toString(16)}`,
        where: this.path,
        remedy: 'the file is damaged: fetch it again',
      });
    }
    this.#verified.add(checksum);
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
