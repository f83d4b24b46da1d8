// SPDX-License-Identifier: Apache-2.0
// The safetensors format: 8 bytes of header length, a JSON header, then the values of all tensors end to end. The reader
// refuses what the reference implementation refuses, and names that occur twice; it checks the whole header before it touches
// a value, then maps tensors into memory one by one, so that a file of any size costs what is in use. The writer is told all
// names and shapes first, then takes values in any order and in pieces, and gives the bytes of the reference writer.
// Knows nothing of models. Run its tests: `npm test -- checkpoints/safetensors checkpoints/hostile`.
import { closeSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { UserError } from '../errors.js';
import {
  decodeUtf8,
  type FileLayer,
  type FileRange,
  type NewFile,
  openFile,
  Replacement,
  readExactly,
  systemFiles,
} from './files.js';
import { describe, isObject, parseJsonObject } from './json.js';
import { MappedTensors } from './mapped-tensors.js';
import {
  ELEMENT_BYTES,
  elementCount,
  isElementType,
  shapeText,
  type TensorFile,
  type TensorInfo,
} from './tensor-file.js';

/** The reference implementation's limit. A model of 60 layers has a header of about 0.1 MB. */
export const MAX_HEADER_BYTES = 100_000_000;
/** The header's length stands before it, and the writer pads it so that values begin at a multiple of this. */
const LENGTH_BYTES = 8;
const BRACE = 0x7b;
const WHAT = 'a safetensors file';
const DAMAGED = 'the file is damaged or was not fully copied: fetch or write it again';

export interface SafetensorsFile extends TensorFile {
  /** The texts of `__metadata__`; empty where there are none. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** Opens and checks a file; its values are mapped when they are read. @throws UserError */
export function openSafetensors(path: string): SafetensorsFile {
  const { file, bytes } = openFile(path, WHAT);
  try {
    const { places, metadata } = readHeader(file, bytes, path);
    return Object.assign(new MappedTensors(path, file, places), { metadata });
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

function readHeader(file: number, fileBytes: number, path: string) {
  const damaged = (expected: string, found: string, where = path) =>
    new UserError({ expected, found, where, remedy: DAMAGED });
  if (fileBytes < LENGTH_BYTES) throw damaged(`${WHAT}: at least ${LENGTH_BYTES} bytes`, `${fileBytes} bytes`);
  const lengthField = new DataView(readExactly(file, 0, LENGTH_BYTES, path).buffer).getBigUint64(0, true);
  if (lengthField > MAX_HEADER_BYTES) {
    throw damaged(`${WHAT} with a header of at most ${MAX_HEADER_BYTES} bytes`, `${lengthField} bytes`);
  }
  const headerBytes = Number(lengthField);
  const dataStart = LENGTH_BYTES + headerBytes;
  if (dataStart > fileBytes) {
    throw damaged(`a header of ${headerBytes} bytes`, `a file of ${fileBytes} bytes: it ends within its header`);
  }
  const header = readExactly(file, LENGTH_BYTES, headerBytes, path);
  if (header[0] !== BRACE) {
    throw damaged(
      "a safetensors header that begins with '{'",
      describe(Buffer.from(header.subarray(0, 20)).toString('latin1')),
    );
  }
  const text = decodeUtf8(header, 'a safetensors header', path);
  const { __metadata__: rawMetadata, ...rawEntries } = parseJsonObject(text, 'a safetensors header', path);

  const entries = Object.entries(rawEntries)
    .map(([name, raw]) => ({ name, ...checkEntry(name, raw, path) }))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);
  // Without holes and overlaps: each tensor begins where the one before ends, and the last ends with the file.
  let end = 0;
  for (const entry of entries) {
    if (entry.begin !== end) {
      throw damaged(
        `the data of '${entry.name}' to begin at ${end}, where the tensor before it ends`,
        `${entry.begin}: ${entry.begin < end ? 'they overlap' : 'bytes between them belong to no tensor'}`,
      );
    }
    end = entry.end;
  }
  if (dataStart + end !== fileBytes) {
    throw damaged(`a file of ${dataStart + end} bytes, as its header says`, `${fileBytes} bytes`);
  }
  return {
    metadata: checkMetadata(rawMetadata, path),
    places: new Map(
      entries.map(({ name, dtype, shape, begin }) => [name, { dtype, shape, position: dataStart + begin }]),
    ),
  };
}

/** One tensor's line of the header, checked against itself. */
function checkEntry(name: string, raw: unknown, path: string) {
  const where = `${path}, tensor '${name}'`;
  const damaged = (expected: string, found: unknown, remedy = DAMAGED) =>
    new UserError({ expected, found: describe(found), where, remedy });
  if (!isObject(raw)) throw damaged('an object with dtype, shape and data_offsets', raw);
  const { dtype, shape, data_offsets: offsets } = raw;
  if (typeof dtype !== 'string' || !isElementType(dtype)) {
    const known = Object.keys(ELEMENT_BYTES).join(', ');
    throw damaged(`dtype to be one of ${known}`, dtype, 'convert the file to one of these types');
  }
  if (!Array.isArray(shape)) throw damaged('shape: a list of dimensions', shape);
  const elements = elementCount(shape);
  const bytes = elements === undefined ? Number.NaN : elements * ELEMENT_BYTES[dtype];
  if (!Number.isSafeInteger(bytes)) throw damaged('shape: whole numbers ≥ 0 with a product below 2⁵³', shape);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every((x) => Number.isSafeInteger(x) && x >= 0)) {
    throw damaged('data_offsets: two whole numbers ≥ 0', offsets);
  }
  const [begin, end] = offsets as [number, number];
  if (end - begin !== bytes) {
    throw damaged(
      `data_offsets ${bytes} bytes apart, as ${dtype} ${shapeText(shape)} takes`,
      `${describe(offsets)}: ${end - begin} bytes`,
    );
  }
  return { dtype, shape: shape as number[], begin, end };
}

function checkMetadata(raw: unknown, path: string): Map<string, string> {
  const wrong = (found: unknown) =>
    new UserError({
      expected: '__metadata__: an object of texts',
      found: describe(found),
      where: path,
      remedy: DAMAGED,
    });
  if (raw === undefined) return new Map();
  if (!isObject(raw)) throw wrong(raw);
  for (const value of Object.values(raw)) if (typeof value !== 'string') throw wrong(value);
  return new Map(Object.entries(raw as Record<string, string>));
}

export interface TensorDeclaration extends TensorInfo {
  name: string;
  /** Of one dimension, which is the most that it may have: how long it is shows when it has been written. Held until then. */
  shorter?: boolean;
}

/** What transformers and PEFT demand of files that they load. */
export const TORCH_METADATA: Readonly<Record<string, string>> = { format: 'pt' };

/**
 * Writes one file. All tensors are declared first; then `write` takes their values, whole or in consecutive pieces, tensors
 * in any order; `finish` checks that all are there. The data lies by element type, then name (the shorter ones at the end),
 * so every tensor is aligned and the same tensors give the same bytes.
 */
export class SafetensorsWriter {
  readonly #file: NewFile;
  readonly #metadata: Readonly<Record<string, string>>;
  readonly #declared: readonly TensorDeclaration[];
  /** Where the next values of each tensor go, counted from the beginning of the data. */
  readonly #places = new Map<string, { next: number; end: number }>();
  readonly #shorter = new Map<string, Uint8Array[]>();
  readonly #dataStart: number;

  constructor(file: NewFile, declarations: Iterable<TensorDeclaration>, metadata = TORCH_METADATA) {
    this.#file = file;
    this.#metadata = metadata;
    const rank = Object.keys(ELEMENT_BYTES);
    this.#declared = [...declarations].sort(
      (a, b) =>
        Number(a.shorter ?? false) - Number(b.shorter ?? false) ||
        rank.indexOf(a.dtype) - rank.indexOf(b.dtype) ||
        (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
    );
    let offset = 0;
    for (const { name, dtype, shape, shorter } of this.#declared) {
      const bytes = (elementCount(shape) ?? Number.NaN) * ELEMENT_BYTES[dtype];
      if (name === '__metadata__' || this.#places.has(name) || !Number.isSafeInteger(offset + bytes)) {
        throw new Error(`cannot declare tensor '${name}' ${shapeText(shape)}: a second of that name, or no such shape`);
      }
      this.#places.set(name, { next: offset, end: offset + bytes });
      if (shorter) this.#shorter.set(name, []);
      offset += bytes;
    }
    // Of the longest numbers that it may come to hold.
    const header = this.#header(this.#declared.map(({ shape }) => shape));
    this.#dataStart = LENGTH_BYTES + Math.ceil(header.length / LENGTH_BYTES) * LENGTH_BYTES;
    if (this.#shorter.size === 0) this.#writeHeader(header);
  }

  /** The next values of a tensor, in its element type. */
  write(name: string, data: ArrayBufferView | FileRange): void {
    const place = this.#places.get(name);
    if (!place || place.next + data.byteLength > place.end) {
      throw new Error(`tensor '${name}': ${data.byteLength} bytes more than were declared`);
    }
    const held = this.#shorter.get(name);
    const position = this.#dataStart + place.next;
    if (!ArrayBuffer.isView(data)) this.#file.copy(data, position);
    else if (held) held.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice());
    else this.#file.write(data, position);
    place.next += data.byteLength;
  }

  finish(): void {
    for (const [name, { next, end }] of this.#places) {
      if (next !== end && !this.#shorter.has(name))
        throw new Error(`tensor '${name}': ${end - next} bytes are missing`);
    }
    if (this.#shorter.size > 0) this.#finishShorter();
  }

  /** Puts the tensors whose length was not known behind the others, and the header, which names lengths, before them. */
  #finishShorter(): void {
    let offset = 0;
    const shapes = this.#declared.map(({ name, dtype, shape }) => {
      const held = this.#shorter.get(name);
      if (!held) {
        offset = this.#places.get(name)!.end;
        return shape;
      }
      const bytes = Buffer.concat(held);
      this.#file.write(bytes, this.#dataStart + offset);
      offset += bytes.length;
      return [bytes.length / ELEMENT_BYTES[dtype]];
    });
    this.#writeHeader(this.#header(shapes));
  }

  #writeHeader(header: Buffer): void {
    const start = Buffer.alloc(this.#dataStart, ' ');
    start.writeBigUInt64LE(BigInt(this.#dataStart - LENGTH_BYTES));
    start.set(header, LENGTH_BYTES);
    this.#file.write(start, 0);
  }

  #header(shapes: readonly (readonly number[])[]): Buffer {
    const fields: string[] = [];
    if (Object.keys(this.#metadata).length > 0) fields.push(`"__metadata__":${JSON.stringify(this.#metadata)}`);
    let offset = 0;
    for (const [i, { name, dtype }] of this.#declared.entries()) {
      const shape = shapes[i]!;
      const end = offset + elementCount(shape)! * ELEMENT_BYTES[dtype];
      // Composed by hand: an object would put names that look like numbers first.
      fields.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [offset, end] })}`);
      offset = end;
    }
    return Buffer.from(`{${fields.join(',')}}`);
  }
}

/** Writes tensors that are in memory; an existing file stays until the new one is complete. */
export function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, TensorInfo & { data: ArrayBufferView }>,
  metadata = TORCH_METADATA,
  layer: FileLayer = systemFiles,
): void {
  const replacement = new Replacement(dirname(path), layer);
  try {
    const declarations = [...tensors].map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
    const writer = new SafetensorsWriter(replacement.create(basename(path)), declarations, metadata);
    for (const [name, { data }] of tensors) writer.write(name, data);
    writer.finish();
    replacement.commit();
  } finally {
    replacement.close();
  }
}
