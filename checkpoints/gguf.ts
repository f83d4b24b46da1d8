// SPDX-License-Identifier: Apache-2.0
// The GGUF container of ggml and llama.cpp: magic, counts, keys with typed values, a list of tensors, their data. Reads versions
// 2 and 3. Every count is held against a named limit and the file's size before anything is made of it; places of tensors are
// checked against the file and each other. Long lists (vocabularies) are walked over, not kept. Knows no models.
// Run its tests: `npm test -- checkpoints/gguf`.
import { UserError } from '../errors.js';
import { decodeUtf8, readExactly } from './files.js';
import { type GgmlType, ggmlType, ggmlTypeName } from './ggml-types.js';
import { elementCount, shapeText } from './tensor-file.js';

/** A vocabulary of 256,000 pieces with its merges has about 15 MB. */
const MAX_HEADER_BYTES = 1 << 28;
const MAX_TENSORS = 1 << 17;
const MAX_KEYS = 1 << 16;
const MAX_KEY_BYTES = 1 << 16;
const MAX_TEXT_BYTES = 1 << 24;
const MAX_DIMENSIONS = 4;
/** Lists of more elements are of no use but to tokenizers. */
const MAX_KEPT_ELEMENTS = 4096;
const MAX_KEPT_IN_ALL = 1 << 20;
const MAX_LIST_DEPTH = 4;
const MAX_ALIGNMENT = 1 << 20;
const DEFAULT_ALIGNMENT = 32;
/** What is read at a time while walking over the header. */
const WINDOW_BYTES = 1 << 20;

export type GgufValue = number | bigint | boolean | string | GgufValue[] | LongList;

/** A list that was not kept. */
export class LongList {
  constructor(readonly length: number) {}
}

export interface GgufPlace {
  type: GgmlType;
  /** Row-major, as elsewhere: the reverse of the file's order. */
  shape: number[];
  /** First byte within the file. */
  position: number;
  bytes: number;
}

export interface GgufHeader {
  metadata: ReadonlyMap<string, GgufValue>;
  tensors: ReadonlyMap<string, GgufPlace>;
}

export const GGUF_MAGIC = 0x46554747; // "GGUF"

/** The numbers of value types in files. */
export const VALUE_TYPES = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  text: 8,
  list: 9,
  u64: 10,
  i64: 11,
  f64: 12,
};
const NAMES = Object.entries(VALUE_TYPES).map(([name]) => name as keyof typeof VALUE_TYPES);

/** Reads and checks the header of an open file. @throws UserError */
export function readGgufHeader(file: number, fileBytes: number, path: string): GgufHeader {
  const cursor = new Cursor(file, fileBytes, path);
  if (fileBytes < 24 || cursor.u32() !== GGUF_MAGIC) throw cursor.error('a GGUF file', 'other bytes at its beginning');
  const version = cursor.u32();
  if (version !== 2 && version !== 3) throw cursor.error('version 2 or 3', `version ${version}`);
  const tensorCount = cursor.count('tensors', MAX_TENSORS);
  const keyCount = cursor.count('keys', MAX_KEYS);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = cursor.text('a key', MAX_KEY_BYTES);
    if (metadata.has(key)) throw cursor.error('each key once', `'${key}' twice`);
    metadata.set(key, cursor.value(cursor.u32(), key));
  }
  const infos = Array.from({ length: tensorCount }, () => readTensorInfo(cursor));
  const alignment = alignmentOf(metadata, cursor);
  const dataStart = Math.ceil(cursor.position / alignment) * alignment;
  return { metadata, tensors: placeTensors(infos, dataStart, alignment, cursor) };
}

interface TensorInfo {
  name: string;
  type: GgmlType;
  shape: number[];
  offset: number;
}

function readTensorInfo(cursor: Cursor): TensorInfo {
  const name = cursor.text('the name of a tensor', MAX_KEY_BYTES);
  const dimensions = cursor.u32();
  if (dimensions > MAX_DIMENSIONS)
    throw cursor.error(`'${name}' with at most ${MAX_DIMENSIONS} dimensions`, `${dimensions}`);
  const shape = Array.from({ length: dimensions }, () => cursor.u64()).reverse();
  const id = cursor.u32();
  const type = ggmlType(id);
  if (!type) {
    throw new UserError({
      expected: `'${name}' in a type that is read: F32, F16, BF16, Q8_0, Q4_0, Q4_K or Q6_K`,
      found: ggmlTypeName(id),
      where: cursor.path,
      remedy: 'take the model in another quantisation, or the original one',
    });
  }
  return { name, type, shape, offset: cursor.u64() };
}

function alignmentOf(metadata: ReadonlyMap<string, GgufValue>, cursor: Cursor): number {
  const value = metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 8 || value > MAX_ALIGNMENT || value % 8 !== 0) {
    throw cursor.error(`general.alignment: a multiple of 8 up to ${MAX_ALIGNMENT}`, String(value));
  }
  return value;
}

function placeTensors(
  infos: TensorInfo[],
  dataStart: number,
  alignment: number,
  cursor: Cursor,
): Map<string, GgufPlace> {
  const places = new Map<string, GgufPlace>();
  for (const { name, type, shape, offset } of infos) {
    const count = elementCount(shape);
    const row = shape.at(-1) ?? 1;
    if (row % type.elements !== 0) {
      throw cursor.error(`rows of '${name}' in blocks of ${type.elements}, as ${type.name} has`, `rows of ${row}`);
    }
    if (count === undefined || !Number.isSafeInteger((count / type.elements) * type.bytes)) {
      throw cursor.error(`'${name}' with a number of elements below 2⁵³`, shapeText(shape));
    }
    const bytes = (count / type.elements) * type.bytes;
    if (offset % alignment !== 0) throw cursor.error(`'${name}' at a multiple of ${alignment}`, `${offset}`);
    if (dataStart + offset + bytes > cursor.fileBytes) {
      throw cursor.error(
        `a file of at least ${dataStart + offset + bytes} bytes, as '${name}' ${type.name} ${shapeText(shape)} needs`,
        `${cursor.fileBytes}`,
      );
    }
    if (places.has(name)) throw cursor.error('each tensor once', `'${name}' twice`);
    places.set(name, { type, shape, position: dataStart + offset, bytes });
  }
  const sorted = [...places].sort(([, a], [, b]) => a.position - b.position);
  for (const [i, [name, { position }]] of sorted.entries()) {
    const before = sorted[i - 1];
    if (before && before[1].position + before[1].bytes > position) {
      throw cursor.error(`'${name}' behind the end of '${before[0]}'`, 'an overlap');
    }
  }
  return places;
}

/** Walks over the header, a window at a time. */
class Cursor {
  position = 0;
  readonly path: string;
  readonly fileBytes: number;
  readonly #file: number;
  #window = new DataView(new ArrayBuffer(0));
  #windowStart = 0;
  #kept = 0;

  constructor(file: number, fileBytes: number, path: string) {
    this.#file = file;
    this.fileBytes = fileBytes;
    this.path = path;
  }

  u32(): number {
    const at = this.#take(4);
    return this.#window.getUint32(at, true);
  }

  /** A whole number below 2⁵³. */
  u64(): number {
    const value = this.#window.getBigUint64(this.#take(8), true);
    if (value > Number.MAX_SAFE_INTEGER) throw this.error('a number below 2⁵³', `${value}`);
    return Number(value);
  }

  count(what: string, max: number): number {
    const value = this.u64();
    if (value > max) throw this.error(`at most ${max} ${what}`, `${value}`);
    return value;
  }

  text(what: string, max = MAX_TEXT_BYTES): string {
    const length = this.u64();
    if (length > max) throw this.error(`${what} of at most ${max} bytes`, `${length}`);
    return decodeUtf8(this.#bytes(length), what, this.path);
  }

  value(type: number, key: string, depth = 0): GgufValue {
    const name = NAMES[type];
    switch (name) {
      case 'text':
        return this.text(`'${key}'`);
      case 'list':
        return this.#list(key, depth + 1);
      case undefined:
        throw this.error(`'${key}' of a type from 0 to ${NAMES.length - 1}`, `type ${type}`);
      default:
        return this.#scalar(name);
    }
  }

  #list(key: string, depth: number): GgufValue {
    if (depth > MAX_LIST_DEPTH) throw this.error(`'${key}' with lists at most ${MAX_LIST_DEPTH} deep`, 'deeper ones');
    const type = this.u32();
    const length = this.u64();
    // Each element takes a byte at least.
    if (length > MAX_HEADER_BYTES || length > this.fileBytes - this.position) {
      throw this.error(`'${key}' with as many elements as the file can hold`, `${length}`);
    }
    if (length <= MAX_KEPT_ELEMENTS && this.#kept + length <= MAX_KEPT_IN_ALL) {
      this.#kept += length;
      return Array.from({ length }, () => this.value(type, key, depth));
    }
    const bytes = SCALAR_BYTES[NAMES[type] ?? 'list'];
    if (bytes !== undefined) this.#skip(bytes * length);
    else if (NAMES[type] === 'text') for (let i = 0; i < length; i++) this.#skip(this.u64());
    else for (let i = 0; i < length; i++) this.value(type, key, depth);
    return new LongList(length);
  }

  #scalar(name: keyof typeof SCALAR_BYTES): number | bigint | boolean {
    const at = this.#take(SCALAR_BYTES[name]!);
    const view = this.#window;
    switch (name) {
      case 'u8':
        return view.getUint8(at);
      case 'i8':
        return view.getInt8(at);
      case 'u16':
        return view.getUint16(at, true);
      case 'i16':
        return view.getInt16(at, true);
      case 'u32':
        return view.getUint32(at, true);
      case 'i32':
        return view.getInt32(at, true);
      case 'f32':
        return view.getFloat32(at, true);
      case 'f64':
        return view.getFloat64(at, true);
      case 'bool':
        return view.getUint8(at) !== 0;
      case 'u64':
        return small(view.getBigUint64(at, true));
      default:
        return small(view.getBigInt64(at, true));
    }
  }

  #bytes(count: number): Uint8Array {
    if (count <= WINDOW_BYTES) {
      const at = this.#take(count);
      return new Uint8Array(this.#window.buffer, this.#window.byteOffset + at, count);
    }
    const start = this.position;
    this.#skip(count);
    return readExactly(this.#file, start, count, this.path);
  }

  #skip(count: number): void {
    if (count > this.fileBytes - this.position || this.position + count > MAX_HEADER_BYTES) {
      throw this.error(`a header of at most ${Math.min(this.fileBytes, MAX_HEADER_BYTES)} bytes`, 'a longer one');
    }
    this.position += count;
  }

  /** Where the next `count` bytes (at most a window) are in the window; moves behind them. */
  #take(count: number): number {
    const start = this.position;
    this.#skip(count);
    if (start < this.#windowStart || this.position > this.#windowStart + this.#window.byteLength) {
      const bytes = Math.min(WINDOW_BYTES, this.fileBytes - start);
      this.#window = new DataView(readExactly(this.#file, start, bytes, this.path).buffer);
      this.#windowStart = start;
    }
    return start - this.#windowStart;
  }

  error(expected: string, found: string): UserError {
    return new UserError({
      expected,
      found,
      where: `${this.path}, byte ${this.position} of its header`,
      remedy: 'the file is damaged or was not fully copied: fetch it again',
    });
  }
}

const SCALAR_BYTES: Readonly<Record<string, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  bool: 1,
  u64: 8,
  i64: 8,
  f64: 8,
};

const small = (value: bigint): number | bigint => (Number.isSafeInteger(Number(value)) ? Number(value) : value);
