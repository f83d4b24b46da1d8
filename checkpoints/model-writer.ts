// SPDX-License-Identifier: Apache-2.0
// Writes a model directory as Hugging Face lays it out, weight by weight: one file, or shards with an index where it would be
// large. Memory is that of one weight, however large the model. Each file is complete when it has its name, config.json comes
// last, and a list of the files done lies beside them until then: an interrupted writing goes on where it stopped, and a folder
// never looks like a model before it is one. Knows no task. Run its tests: `npm test -- checkpoints/model-writer`.
import * as fs from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { UserError } from '../errors.js';
import {
  exists,
  type FileLayer,
  type FileRange,
  Replacement,
  readInto,
  systemFiles,
  writeFileAtomically,
} from './files.js';
import { INDEX_FILE, openWeights, WEIGHTS_FILE, WEIGHTS_FILES } from './hugging-face.js';
import { isObject, type JsonObject, readJsonObject } from './json.js';
import { CONFIG_FILE } from './llama-config.js';
import { openSafetensors, type SafetensorsFile, SafetensorsWriter, type TensorDeclaration } from './safetensors.js';
import { sweepTemporaries } from './temporaries.js';
import { BLOCK_BYTES, ELEMENT_BYTES, elementCount, shapeText, type TensorFile } from './tensor-file.js';

/** One weight on its way into a file: the tensors that it becomes, which stay in one file. */
export interface WeightStream {
  declarations: readonly TensorDeclaration[];
  /** Hands out the values of its tensors, whole or in consecutive pieces. May be called again, for the same values. */
  produce(put: (tensor: string, piece: Piece) => void): void | Promise<void>;
}

/** Values, or where they lie in another file. */
export type Piece = ArrayBufferView | FileRange;

export interface ModelWriteOptions {
  weights: readonly WeightStream[];
  /** The contents of config.json. */
  config: JsonObject;
  /** Files to take over as they are: tokenizer, generation config. */
  copies?: readonly string[];
  /** What the model is made of and how: an interrupted writing goes on only with the same. */
  job: JsonObject;
  /** Larger models are written in several files of at most so many bytes (or one weight); default 5 GB, as transformers. */
  maxShardBytes?: number | undefined;
  onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  /** Ends the writing between two weights; the files done stay, for the next time. */
  signal?: AbortSignal | undefined;
  layer?: FileLayer;
}

export interface WrittenModel {
  files: string[];
  /** Of the tensors. */
  bytes: number;
  /** Files that were complete from an interrupted writing. */
  resumed: number;
}

export const MAX_SHARD_BYTES = 5e9;
const PROGRESS_FILE = 'unfinished.json';

/** @throws UserError before anything is written: a model is there already, another job was interrupted there, no space */
export async function writeModelDirectory(directory: string, options: ModelWriteOptions): Promise<WrittenModel> {
  const { weights, layer = systemFiles, signal } = options;
  const shards = assignShards(weights, options.maxShardBytes ?? MAX_SHARD_BYTES);
  const done = shardsDone(directory, options.job, shards);
  const totalBytes = sum(shards.map(({ bytes }) => bytes));
  let doneBytes = sum(shards.filter(({ name }) => done.includes(name)).map(({ bytes }) => bytes));
  sweepTemporaries(directory); // for the room that they take
  checkSpace(directory, totalBytes - doneBytes);
  const resumed = done.length;
  const note = (finished: boolean) => {
    const path = join(directory, PROGRESS_FILE);
    if (finished) fs.rmSync(path, { force: true });
    else writeFileAtomically(path, `${JSON.stringify({ version: 1, job: options.job, done }, null, 1)}\n`, layer);
  };
  fs.mkdirSync(directory, { recursive: true });
  const copies = new Map((options.copies ?? []).map((path) => [basename(path), path]));
  for (const shard of shards) {
    if (done.includes(shard.name)) continue;
    note(false);
    const replacement = new Replacement(directory, layer);
    try {
      const writer = new SafetensorsWriter(
        replacement.create(shard.name),
        shard.weights.flatMap(({ declarations }) => declarations),
      );
      for (const weight of shard.weights) {
        await new Promise((resolve) => setImmediate(resolve)); // lets signals and progress through
        if (signal?.aborted) throw stopped(directory);
        await weight.produce((tensor, data) => {
          writer.write(tensor, data);
          doneBytes += data.byteLength;
          options.onProgress?.(doneBytes, totalBytes);
        });
      }
      writer.finish();
      replacement.commit();
    } finally {
      replacement.close();
    }
    done.push(shard.name);
  }
  const files = shards.map(({ name }) => name);
  const index = readShards(directory, files);
  if (shards.length > 1) {
    note(false);
    writeFileAtomically(join(directory, INDEX_FILE), `${JSON.stringify(index, null, 2)}\n`, layer);
    files.push(INDEX_FILE);
  }
  for (const [name, path] of copies) {
    writeFileAtomically(join(directory, name), fs.readFileSync(path), layer);
    files.push(name);
  }
  writeFileAtomically(join(directory, CONFIG_FILE), `${JSON.stringify(options.config, null, 2)}\n`, layer);
  note(true);
  return { files: [...files, CONFIG_FILE], bytes: index.metadata.total_size, resumed };
}

/**
 * Compares a model directory with the values that it was made of, tensor by tensor, byte by byte.
 * @throws UserError naming the first tensor that differs
 */
export async function verifyModelDirectory(directory: string, weights: readonly WeightStream[]): Promise<number> {
  const files = openWeights(directory);
  try {
    return await compareStreams((name) => files.tensors.get(name), weights);
  } finally {
    files.close();
  }
}

/** Compares files with what was written to them. Returns how many tensors. @throws UserError naming one that differs */
export async function compareStreams(
  fileOf: (tensor: string) => TensorFile | undefined,
  streams: readonly WeightStream[],
): Promise<number> {
  let count = 0;
  for (const { declarations, produce } of streams) {
    const comparisons = new Map(declarations.map(({ name }) => [name, new Comparison(name, fileOf(name))]));
    await produce((name, data) => comparisons.get(name)!.next(data));
    for (const comparison of comparisons.values()) comparison.finish();
    count += declarations.length;
  }
  return count;
}

/** One tensor of a file beside the bytes that it should have, which come in pieces of other sizes than the file's. */
class Comparison {
  readonly #name: string;
  readonly #path: string;
  readonly #blocks: Iterator<ArrayBufferView>;
  #rest: Buffer = Buffer.alloc(0);
  #position = 0;

  constructor(name: string, file: TensorFile | undefined) {
    if (!file?.tensors.has(name))
      throw new UserError({ expected: `tensor '${name}'`, found: 'none', where: file?.path ?? name });
    this.#name = name;
    this.#path = file.path;
    this.#blocks = file.blocks(name)[Symbol.iterator]();
  }

  next(piece: Piece): void {
    if (ArrayBuffer.isView(piece)) {
      this.#next(bytesOf(piece));
      return;
    }
    const block = Buffer.alloc(Math.min(BLOCK_BYTES, piece.byteLength));
    for (let done = 0; done < piece.byteLength; done += block.length) {
      const part = block.subarray(0, Math.min(block.length, piece.byteLength - done));
      readInto(part, piece.file, piece.position + done, piece.path);
      this.#next(part);
    }
  }

  #next(data: Buffer): void {
    let wanted = data;
    while (wanted.length > 0) {
      if (this.#rest.length === 0) {
        const { value, done } = this.#blocks.next();
        if (done) throw this.#differs('the end of the tensor');
        this.#rest = bytesOf(value);
        continue;
      }
      const length = Math.min(wanted.length, this.#rest.length);
      if (wanted.compare(this.#rest, 0, length, 0, length) !== 0) throw this.#differs('other bytes');
      wanted = wanted.subarray(length);
      this.#rest = this.#rest.subarray(length);
      this.#position += length;
    }
  }

  finish(): void {
    if (this.#rest.length > 0 || !this.#blocks.next().done) throw this.#differs('more bytes');
  }

  #differs(found: string): UserError {
    return new UserError({
      expected: `the values of '${this.#name}' as they were written`,
      found: `${found} behind byte ${this.#position}`,
      where: this.#path,
      remedy: 'write it again, and check the disk',
    });
  }
}

const bytesOf = (data: ArrayBufferView): Buffer => Buffer.from(data.buffer, data.byteOffset, data.byteLength);
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

interface Shard {
  name: string;
  weights: WeightStream[];
  bytes: number;
}

/** Weights in their order, as many in a file as fit. */
function assignShards(weights: readonly WeightStream[], maxBytes: number): Shard[] {
  const shards: Omit<Shard, 'name'>[] = [];
  for (const weight of weights) {
    const bytes = sum(weight.declarations.map(({ dtype, shape }) => elementCount(shape)! * ELEMENT_BYTES[dtype]));
    const last = shards.at(-1);
    if (last && last.bytes + bytes <= maxBytes) {
      last.weights.push(weight);
      last.bytes += bytes;
    } else shards.push({ weights: [weight], bytes });
  }
  const number = (n: number) => String(n).padStart(5, '0');
  return shards.map((shard, i) => ({
    name: shards.length === 1 ? WEIGHTS_FILE : `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`,
    ...shard,
  }));
}

/** Which file each tensor is in, from the files' headers, as the index has it. */
function readShards(directory: string, names: readonly string[]) {
  const places: [tensor: string, shard: string][] = [];
  let bytes = 0;
  for (const shard of names) {
    const file = openSafetensors(join(directory, shard));
    file.close();
    for (const [name, { dtype, shape }] of file.tensors) {
      places.push([name, shard]);
      bytes += elementCount(shape)! * ELEMENT_BYTES[dtype];
    }
  }
  places.sort(([a], [b]) => (a < b ? -1 : 1));
  return { metadata: { total_size: bytes }, weight_map: Object.fromEntries(places) };
}

/** Files that an interrupted writing of the same job has left complete. @throws UserError when the folder holds anything else */
function shardsDone(directory: string, job: JsonObject, shards: readonly Shard[]): string[] {
  const path = join(directory, PROGRESS_FILE);
  if (!exists(path)) {
    const model = [CONFIG_FILE, ...WEIGHTS_FILES].find((name) => exists(join(directory, name)));
    if (model === undefined) return [];
    throw new UserError({
      expected: 'a folder without a model',
      found: model,
      where: directory,
      remedy: 'choose another folder, or remove the model first',
    });
  }
  const progress = readJsonObject(path, 'the list of files that are done');
  const { done } = progress;
  if (JSON.stringify(progress['job']) !== JSON.stringify(job) || !Array.isArray(done)) {
    throw new UserError({
      expected: `the beginnings of this model: ${summary(job)}`,
      found: `those of another: ${summary(progress['job'])}`,
      where: directory,
      remedy: 'repeat the command that was interrupted, choose another folder, or remove this one',
    });
  }
  return shards.filter((shard) => done.includes(shard.name) && isComplete(directory, shard)).map(({ name }) => name);
}

const summary = (job: unknown): string => {
  if (!isObject(job)) return 'a job that cannot be read';
  return Object.entries(job)
    .filter(([key]) => key !== 'files')
    .map(([key, value]) => `${key} ${value}`)
    .join(', ');
};

/** A file took its name when it was complete; what may have happened since shows in its header and size. */
function isComplete(directory: string, { name, weights }: Shard): boolean {
  let file: SafetensorsFile;
  try {
    file = openSafetensors(join(directory, name));
  } catch (error) {
    if (error instanceof UserError) return false;
    throw error;
  }
  file.close();
  return weights.every(({ declarations }) =>
    declarations.every(({ name, dtype, shape, shorter }) => {
      const found = file.tensors.get(name);
      return found?.dtype === dtype && (shorter || shapeText(found.shape) === shapeText(shape));
    }),
  );
}

function checkSpace(directory: string, bytes: number): void {
  let place = resolve(directory);
  while (!exists(place) && dirname(place) !== place) place = dirname(place);
  const { bavail, bsize } = fs.statfsSync(place);
  if (bavail * bsize >= bytes) return;
  const gigabytes = (count: number) => `${(count / 1e9).toFixed(2)} GB`;
  throw new UserError({
    expected: `${gigabytes(bytes)} free on the disk`,
    found: gigabytes(bavail * bsize),
    where: place,
    remedy: 'free some space, or choose another folder',
  });
}

function stopped(directory: string): UserError {
  return new UserError({
    expected: 'to write the whole model',
    found: 'an interruption',
    where: directory,
    remedy: 'repeat the command to go on from the last complete file',
  });
}
