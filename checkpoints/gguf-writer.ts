// SPDX-License-Identifier: Apache-2.0
// Writes GGUF files: keys and tensors are declared first, then values come whole or in pieces, tensors in any order. Knows the
// container and its types, no models. Run its tests: `npm test -- checkpoints/gguf`.
import type { NewFile } from './files.js';
import type { GgmlType } from './ggml-types.js';
import { GGUF_MAGIC, VALUE_TYPES } from './gguf.js';
import { elementCount } from './tensor-file.js';

export type GgufEntry =
  | readonly ['u32' | 'i32' | 'f32', number]
  | readonly ['bool', boolean]
  | readonly ['text', string]
  | readonly ['texts', readonly string[]]
  | readonly ['f32s', Float32Array]
  | readonly ['i32s', Int32Array];

export interface GgufDeclaration {
  name: string;
  type: GgmlType;
  /** Row-major. */
  shape: readonly number[];
}

const ALIGNMENT = 32;

export class GgufWriter {
  readonly #file: NewFile;
  readonly #places = new Map<string, { next: number; end: number }>();

  constructor(file: NewFile, metadata: ReadonlyMap<string, GgufEntry>, declarations: readonly GgufDeclaration[]) {
    this.#file = file;
    const parts = [u32(GGUF_MAGIC), u32(3), u64(declarations.length), u64(metadata.size)];
    for (const [key, entry] of metadata) parts.push(text(key), encode(entry));
    let offset = 0;
    for (const { name, type, shape } of declarations) {
      const bytes = (elementCount(shape)! / type.elements) * type.bytes;
      if (this.#places.has(name) || !Number.isSafeInteger(bytes) || shape.at(-1)! % type.elements !== 0) {
        throw new Error(`cannot declare tensor '${name}' [${shape}] as ${type.name}`);
      }
      parts.push(text(name), u32(shape.length), ...shape.toReversed().map(u64), u32(type.id), u64(offset));
      this.#places.set(name, { next: offset, end: offset + bytes });
      offset = Math.ceil((offset + bytes) / ALIGNMENT) * ALIGNMENT;
    }
    const header = Buffer.concat(parts);
    const start = Math.ceil(header.length / ALIGNMENT) * ALIGNMENT;
    file.write(header, 0);
    // The gaps that alignment leaves, the one behind the last tensor included, are part of the file.
    if (start > header.length) file.write(Buffer.alloc(start - header.length), header.length);
    for (const place of this.#places.values()) {
      place.next += start;
      place.end += start;
      const padded = Math.ceil(place.end / ALIGNMENT) * ALIGNMENT;
      if (padded > place.end) file.write(Buffer.alloc(padded - place.end), place.end);
    }
  }

  /** The next values of a tensor, in its type. */
  write(name: string, data: ArrayBufferView): void {
    const place = this.#places.get(name);
    if (!place || place.next + data.byteLength > place.end) {
      throw new Error(`tensor '${name}': ${data.byteLength} bytes more than were declared`);
    }
    this.#file.write(data, place.next);
    place.next += data.byteLength;
  }

  finish(): void {
    for (const [name, { next, end }] of this.#places) {
      if (next !== end) throw new Error(`tensor '${name}': ${end - next} bytes are missing`);
    }
  }
}

function encode([kind, value]: GgufEntry): Buffer {
  switch (kind) {
    case 'u32':
      return Buffer.concat([u32(VALUE_TYPES.u32), u32(value)]);
    case 'i32':
      return Buffer.concat([u32(VALUE_TYPES.i32), u32(value >>> 0)]);
    case 'f32':
      return Buffer.concat([u32(VALUE_TYPES.f32), Buffer.from(Float32Array.of(value).buffer)]);
    case 'bool':
      return Buffer.concat([u32(VALUE_TYPES.bool), Buffer.from([value ? 1 : 0])]);
    case 'text':
      return Buffer.concat([u32(VALUE_TYPES.text), text(value)]);
    case 'texts':
      return Buffer.concat([listHead(VALUE_TYPES.text, value.length), ...value.map(text)]);
    case 'f32s':
      return Buffer.concat([listHead(VALUE_TYPES.f32, value.length), bytesOf(value)]);
    case 'i32s':
      return Buffer.concat([listHead(VALUE_TYPES.i32, value.length), bytesOf(value)]);
  }
}

const listHead = (type: number, length: number) => Buffer.concat([u32(VALUE_TYPES.list), u32(type), u64(length)]);
const bytesOf = (data: ArrayBufferView) => Buffer.from(data.buffer, data.byteOffset, data.byteLength);

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}
