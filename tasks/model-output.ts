// SPDX-License-Identifier: Apache-2.0
// What every task that makes a model of a model shares: which files it is made of, which go along unchanged, its config with
// what changes, writing and comparing. Knows nothing of what happens to the weights in between.
import { existsSync, readdirSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import {
  type JsonObject,
  type Model,
  type StoredType,
  TORCH_TYPES,
  verifyModelDirectory,
  type WeightStream,
  writeModelDirectory,
} from '../checkpoints/index.js';
import { UserError } from '../errors.js';

export interface ModelOutputOptions {
  /** Folder for the new model. */
  output: string;
  /** Files are of at most so many gigabytes (10⁹ bytes); default 5. */
  shardGigabytes?: number | undefined;
  /** Read everything again and compare it with what should have been written. */
  verify?: boolean | undefined;
  onProgress?: ((phase: 'write' | 'verify', doneBytes: number, totalBytes: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** What was made of a model. */
export interface ModelOutput {
  files: string[];
  bytes: number;
  seconds: number;
  /** Files that were complete from an interrupted run. */
  resumed: number;
  /** Tensors that were compared, where asked for. */
  verified?: number;
}

/** What goes along with weights unchanged. */
const COMPANIONS = [
  'tokenizer.model',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'generation_config.json',
  'chat_template.jinja',
  'chat_template.json',
  'LICENSE',
  'LICENSE.txt',
  'USE_POLICY.md',
];

export function companionsOf(directory: string): string[] {
  return COMPANIONS.map((name) => join(directory, name)).filter((path) => existsSync(path));
}

/** Files by size and time: what an interrupted run must find again to go on. */
export function fingerprint(paths: readonly string[]): string[] {
  return paths.map((path) => {
    const { size, mtimeMs } = statSync(path);
    return `${path.slice(dirname(path).length + 1)} ${size} ${mtimeMs}`;
  });
}

const WEIGHT_FILES = /\.(safetensors|bin|gguf)$/;

/** Writes a model that is made of another one. @param config its config.json @param changes what the job does, by name */
export async function writeModelOutput(
  model: Model,
  from: string,
  weights: readonly WeightStream[],
  { config, job }: { config: JsonObject; job: JsonObject },
  options: ModelOutputOptions,
): Promise<ModelOutput> {
  const { output, shardGigabytes, verify, onProgress, signal } = options;
  checkApart(from, output);
  const start = performance.now();
  const sources = statSync(from).isDirectory()
    ? readdirSync(from)
        .filter((name) => WEIGHT_FILES.test(name) || name === 'config.json')
        .map((name) => join(from, name))
    : [from];
  const written = await writeModelDirectory(output, {
    weights,
    config,
    copies: companionsOf(model.directory),
    job: { ...job, from: resolve(from), files: fingerprint(sources) },
    maxShardBytes: shardGigabytes && shardGigabytes * 1e9,
    onProgress: onProgress && ((done, total) => onProgress('write', done, total)),
    signal,
  });
  const result = { ...written, files: written.files.map((name) => join(output, name)) };
  if (!verify) return { ...result, seconds: secondsSince(start) };
  let done = 0;
  const counted = weights.map(({ declarations, produce }) => ({
    declarations,
    produce: (put: Parameters<WeightStream['produce']>[0]) =>
      produce((name, data) => {
        put(name, data);
        done += data.byteLength;
        onProgress?.('verify', done, written.bytes);
      }),
  }));
  const verified = await verifyModelDirectory(output, counted);
  return { ...result, verified, seconds: secondsSince(start) };
}

export const secondsSince = (start: number): number => (performance.now() - start) / 1000;

/** A model must not be written over the one that it is made of. */
function checkApart(from: string, output: string): void {
  if (resolve(from) !== resolve(output)) return;
  throw new UserError({ expected: 'an output folder apart from the input', found: 'the same', where: output });
}

/** config.json with the type of its weights. transformers 5 says `dtype`, older ones `torch_dtype`. */
export function withDtype(fields: JsonObject, dtype: keyof typeof TORCH_TYPES): JsonObject {
  return { ...fields, [Object.hasOwn(fields, 'dtype') ? 'dtype' : 'torch_dtype']: TORCH_TYPES[dtype] };
}

export function isPacked(type: StoredType): type is 'nf4' | 'nf4-single' {
  return type === 'nf4' || type === 'nf4-single';
}
