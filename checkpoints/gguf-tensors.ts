// SPDX-License-Identifier: Apache-2.0
// The tensors of a GGUF file as values: stored ones in place, packed ones as the f32 that they stand for, query and key weights
// with their rows in Hugging Face's order. Knows llama.cpp's order of rows, no configs.
// Run its tests: `npm test -- checkpoints/gguf`.
import { closeSync } from 'node:fs';
import { type FileRange, openFile, readInto } from './files.js';
import type { GgmlType } from './ggml-types.js';
import { type GgufHeader, type GgufPlace, readGgufHeader } from './gguf.js';
import { MappedTensors } from './mapped-tensors.js';
import { BLOCK_BYTES, elementCount, type TensorData, type TensorFile, type TensorInfo, viewAs } from './tensor-file.js';

export interface GgufFile extends TensorFile {
  readonly metadata: GgufHeader['metadata'];
  /** Types as stored, by name. */
  readonly storedTypes: ReadonlyMap<string, GgmlType>;
}

/** What a tensor is called here, and the width of a head where its rows are to be put in Hugging Face's order. */
export interface GgufName {
  name: string;
  headWidth?: number | undefined;
}

/**
 * Opens a GGUF file. @throws UserError
 * @param naming what each tensor is to be called; undefined leaves one out. Default: the file's own names
 */
export function openGguf(
  path: string,
  naming: (header: GgufHeader) => (name: string) => GgufName | undefined = () => (name) => ({ name }),
): GgufFile {
  const { file, bytes } = openFile(path, 'a GGUF file');
  try {
    const header = readGgufHeader(file, bytes, path);
    const nameOf = naming(header);
    const places = new Map<string, NamedPlace>();
    for (const [stored, place] of header.tensors) {
      const named = nameOf(stored);
      if (named) places.set(named.name, { ...place, headWidth: named.headWidth });
    }
    return new GgufTensors(path, file, header.metadata, places);
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

interface NamedPlace extends GgufPlace {
  headWidth: number | undefined;
}

class GgufTensors implements GgufFile {
  readonly path: string;
  readonly metadata: GgufHeader['metadata'];
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly storedTypes: ReadonlyMap<string, GgmlType>;
  readonly #places: ReadonlyMap<string, NamedPlace>;
  /** Those that can be used where they lie. */
  readonly #mapped: MappedTensors;
  readonly #made = new Map<string, TensorData>();
  #file: number | undefined;

  constructor(path: string, file: number, metadata: GgufHeader['metadata'], places: ReadonlyMap<string, NamedPlace>) {
    this.path = path;
    this.metadata = metadata;
    this.#file = file;
    this.#places = places;
    const entries = [...places];
    this.tensors = new Map(entries.map(([name, { type, shape }]) => [name, { dtype: type.dtype, shape }]));
    this.storedTypes = new Map(entries.map(([name, { type }]) => [name, type]));
    const plain = entries.filter(([, { type, headWidth }]) => !type.unpack && headWidth === undefined);
    this.#mapped = new MappedTensors(
      path,
      file,
      new Map(plain.map(([name, { type, shape, position }]) => [name, { dtype: type.dtype, shape, position }])),
    );
  }

  read(name: string): TensorData {
    if (this.#mapped.tensors.has(name)) return this.#mapped.read(name);
    const made = this.#made.get(name) ?? this.#make(name);
    this.#made.set(name, made);
    return made;
  }

  #make(name: string): TensorData {
    const { type, shape } = this.#find(name).place;
    const out = arrayOf(type, elementCount(shape)!);
    let done = 0;
    for (const block of this.blocks(name)) {
      out.set(block as never, done);
      done += block.length;
    }
    return out;
  }

  *blocks(name: string): Generator<TensorData> {
    if (this.#mapped.tensors.has(name)) return yield* this.#mapped.blocks(name);
    const { file, place } = this.#find(name);
    const { type, shape, position, bytes, headWidth } = place;
    const K = shape.at(-1) ?? 1;
    const rowBytes = (K / type.elements) * type.bytes;
    // Whole heads where rows change places, else as many rows as make a block, or a part of one row.
    const unit = headWidth === undefined ? type.bytes : headWidth * rowBytes;
    const most = Math.floor(BLOCK_BYTES / 4 / ((unit / type.bytes) * type.elements)) * unit;
    const step = Math.max(unit, most);
    const packed = new Uint8Array(Math.min(step, bytes));
    for (let done = 0; done < bytes; done += step) {
      const part = packed.subarray(0, Math.min(step, bytes - done));
      readInto(part, file, position + done, this.path);
      const values = unpacked(type, part);
      yield headWidth === undefined ? values : permuteRows(values, K, headWidth, 'from-ggml');
    }
  }

  range(name: string): FileRange | undefined {
    return this.#mapped.tensors.has(name) ? this.#mapped.range(name) : undefined;
  }

  release(name: string): void {
    if (this.#mapped.tensors.has(name)) this.#mapped.release(name);
    else this.#made.delete(name);
  }

  close(): void {
    this.#made.clear();
    this.#mapped.close(); // closes the file
    this.#file = undefined;
  }

  #find(name: string): { file: number; place: NamedPlace } {
    const place = this.#places.get(name);
    if (this.#file === undefined || !place) throw new Error(`${this.path}: no tensor '${name}', or the file is closed`);
    return { file: this.#file, place };
  }
}

function arrayOf(type: GgmlType, length: number): TensorData {
  return type.dtype === 'F32' ? new Float32Array(length) : new Uint16Array(length);
}

function unpacked(type: GgmlType, bytes: Uint8Array): TensorData {
  if (!type.unpack) return viewAs(type.dtype, bytes.slice().buffer);
  const out = new Float32Array((bytes.length / type.bytes) * type.elements);
  type.unpack(bytes, out);
  return out;
}

/**
 * Rotary positions turn pairs of dimensions: Hugging Face pairs d with d + D/2, llama.cpp neighbours. So llama.cpp's converter
 * interleaves the two halves of each head's rows of the query and key weights: row 2i + p of a head there is row p·D/2 + i here.
 * @param values (H·D,K), whole heads
 */
export function permuteRows<T extends TensorData>(
  values: T,
  K: number,
  D: number,
  direction: 'from-ggml' | 'to-ggml',
): T {
  const out = values.slice() as T;
  for (let head = 0; head < values.length / K; head += D) {
    for (let i = 0; i < D / 2; i++) {
      for (const p of [0, 1]) {
        const ours = (head + p * (D / 2) + i) * K;
        const theirs = (head + 2 * i + p) * K;
        const [from, to] = direction === 'from-ggml' ? [theirs, ours] : [ours, theirs];
        out.set(values.subarray(from, from + K) as never, to);
      }
    }
  }
  return out;
}
