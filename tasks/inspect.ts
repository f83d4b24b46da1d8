// SPDX-License-Identifier: Apache-2.0
// What a path holds: a model, an adapter, a tokenizer, a file of tensors, or a run. Tells by content, not by name. A model or
// adapter that cannot be used is described as far as it can be read, with what is wrong; nothing is loaded whole.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Adapter, openModel, openTensorFile, readAdapter, readLlamaConfig } from '../checkpoints/index.js';
import type { LlamaConfig } from '../engine/index.js';
import { UserError } from '../errors.js';
import { loadTokenizer, type Tokenizer } from '../tokenizer/index.js';
import { RUN_FILES } from './run-folder.js';

/** Tensors whose names differ in numbers alone, of one type and shape. */
export interface TensorGroup {
  /** `model.layers.{0…31}.self_attn.q_proj.weight` */
  name: string;
  dtype: string;
  shape: readonly number[];
  count: number;
}

export interface TensorSummary {
  /** Numbers in all tensors. */
  parameters: number;
  /** Of the files. */
  bytes: number;
  dtypes: string[];
  /** Of packed weights, where the names of the tensors show one. */
  quantization?: string;
  groups: TensorGroup[];
}

export interface TokenizerSummary {
  kind: string;
  vocabularySize: number;
  bos: string | undefined;
  eos: string | undefined;
  addBos: boolean;
}

export interface RunSummary {
  recipe: string | undefined;
  steps: number;
  lastStep: Record<string, unknown> | undefined;
}

export interface Inspection {
  kind: 'model' | 'adapter' | 'tokenizer' | 'tensors' | 'run';
  path: string;
  config?: LlamaConfig;
  tensors?: TensorSummary;
  tokenizer?: TokenizerSummary;
  adapter?: Omit<Adapter, 'tensors'>;
  run?: RunSummary;
  /** Why it cannot be used as what it is. */
  problem?: string;
}

/** @throws UserError where nothing known is */
export function inspect(path: string): Inspection {
  const status = statSync(path, { throwIfNoEntry: false });
  if (!status) throw new UserError({ expected: 'something to inspect', found: 'nothing of that name', where: path });
  return status.isDirectory() ? inspectDirectory(path) : inspectFile(path);
}

function inspectDirectory(path: string): Inspection {
  const has = (name: string): boolean => existsSync(join(path, name));
  if (has(RUN_FILES.log)) {
    const product = has('adapter_config.json') ? adapterOf(path) : has('config.json') ? modelOf(path) : {};
    return { ...product, kind: 'run', path, run: runSummary(path) };
  }
  if (has('adapter_config.json')) return { kind: 'adapter', path, ...adapterOf(path) };
  if (has('config.json')) return { kind: 'model', path, ...modelOf(path) };
  if (has('tokenizer.model') || has('tokenizer.json'))
    return { kind: 'tokenizer', path, tokenizer: tokenizerSummary(path) };
  const tensors = tensorsIn(path);
  if (tensors) return { kind: 'tensors', path, tensors };
  throw new UserError({
    expected: 'a model, an adapter, a tokenizer, a run, or safetensors files',
    found: `a folder with ${readdirSync(path).slice(0, 6).join(', ') || 'nothing in it'}`,
    where: path,
  });
}

function inspectFile(path: string): Inspection {
  if (path.endsWith('.gguf')) return { kind: 'model', path, ...ggufOf(path) };
  if (/\.(bin|pt)$/.test(path)) return { kind: 'tensors', path, tensors: summaryOf([path]) };
  if (path.endsWith('.safetensors')) return { kind: 'tensors', path, tensors: summaryOf([path]) };
  return { kind: 'tokenizer', path, tokenizer: tokenizerSummary(path) };
}

function modelOf(path: string): Partial<Inspection> {
  const parts: Partial<Inspection> = {};
  const tensors = tensorsIn(path);
  if (tensors) parts.tensors = tensors;
  const problem = problemOf(() => {
    parts.config = readLlamaConfig(path);
    openModel(path).close();
  });
  if (problem !== undefined) parts.problem = problem;
  if (existsSync(join(path, 'tokenizer.model')) || existsSync(join(path, 'tokenizer.json'))) {
    const fault = problemOf(() => {
      parts.tokenizer = tokenizerSummary(path);
    });
    if (fault !== undefined) parts.problem ??= fault;
  }
  return parts;
}

function adapterOf(path: string): Partial<Inspection> {
  const parts: Partial<Inspection> = {};
  const tensors = tensorsIn(path);
  if (tensors) parts.tensors = tensors;
  const problem = problemOf(() => {
    const { tensors: _, ...settings } = readAdapter(path);
    parts.adapter = settings;
  });
  if (problem !== undefined) parts.problem = problem;
  return parts;
}

/** The message of a UserError that `body` meets. */
function problemOf(body: () => void): string | undefined {
  try {
    body();
    return undefined;
  } catch (error) {
    if (error instanceof UserError) return error.message;
    throw error;
  }
}

/** A GGUF file is a model, or an adapter that is described by its tensors alone. */
function ggufOf(path: string): Partial<Inspection> {
  const parts: Partial<Inspection> = { tensors: summaryOf([path]) };
  const problem = problemOf(() => {
    const model = openModel(path);
    parts.config = model.config;
    model.close();
  });
  if (problem !== undefined) parts.problem = problem;
  return parts;
}

/** All files of tensors of a folder together, safetensors before torch's; nothing where there are none, or one is damaged. */
function tensorsIn(path: string): TensorSummary | undefined {
  const all = readdirSync(path);
  const safe = all.filter((name) => name.endsWith('.safetensors'));
  const torch = all.filter((name) => /^(pytorch|adapter)_model.*\.bin$/.test(name));
  const names = safe.length > 0 ? safe : torch;
  let summary: TensorSummary | undefined;
  if (names.length > 0) problemOf(() => (summary = summaryOf(names.map((name) => join(path, name)))));
  return summary;
}

/** A number within a tensor's name: that of a layer. */
const NUMBER = /(?<=\.)\d+(?=\.)/g;

function summaryOf(paths: readonly string[]): TensorSummary {
  const groups = new Map<string, TensorGroup & { numbers: Set<number>[] }>();
  let parameters = 0;
  let quantization: string | undefined;
  for (const path of paths) {
    const file = openTensorFile(path);
    file.close(); // the header has been read
    for (const [name, { dtype, shape }] of file.tensors) {
      parameters += shape.reduce((product, size) => product * size, 1);
      quantization ??= /\.quant_state\.bitsandbytes__(\w+)$/.exec(name)?.[1];
      const numbers = (name.match(NUMBER) ?? []).map(Number);
      const pattern = name.replace(NUMBER, '{}');
      const key = `${pattern} ${dtype} ${shape}`;
      const group = groups.get(key) ?? { name: pattern, dtype, shape, count: 0, numbers: numbers.map(() => new Set()) };
      group.count++;
      for (const [i, number] of numbers.entries()) group.numbers[i]!.add(number);
      groups.set(key, group);
    }
  }
  const list = [...groups.values()];
  return {
    parameters,
    bytes: paths.reduce((sum, path) => sum + statSync(path).size, 0),
    dtypes: [...new Set(list.map(({ dtype }) => dtype))],
    ...(quantization !== undefined && { quantization: `bitsandbytes ${quantization}` }),
    groups: list.map(({ numbers, ...group }) => ({ ...group, name: withRanges(group.name, numbers) })),
  };
}

/** `layers.{}.q` with the numbers that stand there: `layers.{0…31}.q`, `layers.{0,2}.q`, or `layers.0.q`. */
function withRanges(pattern: string, numbers: readonly Set<number>[]): string {
  let i = 0;
  return pattern.replaceAll('{}', () => {
    const sorted = [...numbers[i++]!].sort((a, b) => a - b);
    const [first, last] = [sorted[0]!, sorted.at(-1)!];
    if (sorted.length === 1) return String(first);
    return last - first + 1 === sorted.length ? `{${first}…${last}}` : `{${sorted.join(',')}}`;
  });
}

function tokenizerSummary(path: string): TokenizerSummary {
  const tokenizer: Tokenizer = loadTokenizer(path);
  const spelled = (id: number | undefined) => (id === undefined ? undefined : `${tokenizer.piece(id)} (${id})`);
  const { kind, vocabularySize, bosId, eosId, addBos } = tokenizer;
  return { kind, vocabularySize, bos: spelled(bosId), eos: spelled(eosId), addBos };
}

function runSummary(path: string): RunSummary {
  const read = (name: string) => (existsSync(join(path, name)) ? readFileSync(join(path, name), 'utf8') : undefined);
  const lines = (read(RUN_FILES.log) ?? '').trimEnd().split('\n').filter(Boolean);
  return { recipe: read(RUN_FILES.recipe), steps: lines.length, lastStep: lastStep(lines) };
}

/** A run that was killed may have left half a line. */
function lastStep(lines: readonly string[]): Record<string, unknown> | undefined {
  for (const line of lines.slice(-2).reverse()) {
    try {
      return JSON.parse(line) as Record<string, unknown>;
    } catch {
      // the line before it is whole
    }
  }
  return undefined;
}
