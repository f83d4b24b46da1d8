// SPDX-License-Identifier: Apache-2.0
// Model directories of any size with random weights, and data for them, in a folder that is gone afterwards.
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeModel } from '../../checkpoints/index.js';
import { type LlamaConfig, randomStart } from '../../engine/index.js';
import { projectRoot } from './harness.js';

/** The bundled tokenizer, whose vocabulary the small models have. */
export const TOKENIZER = join(projectRoot, 'samples', 'tiny-base', 'tokenizer.model');

export const TINY: LlamaConfig = {
  vocabularySize: 2000,
  width: 32,
  feedForwardWidth: 48,
  layers: 2,
  queryHeads: 4,
  keyValueHeads: 2,
  headWidth: 8,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  tiedHead: false,
  maxPositions: 96,
};

/** A folder for one test. */
export async function withFolder<Result>(body: (folder: string) => Promise<Result>): Promise<Result> {
  const folder = mkdtempSync(join(tmpdir(), 'tacotune-test-'));
  try {
    return await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Writes config, weights and tokenizer. */
export async function writeSmallModel(
  directory: string,
  config: LlamaConfig = TINY,
  { dtype = 'f32' as 'f32' | 'bf16', seed = 1 } = {},
): Promise<string> {
  mkdirSync(directory, { recursive: true });
  const source = randomStart(config, seed);
  const values = (name: Parameters<typeof source.weight>[0]) => source.weight(name).data as Float32Array;
  await writeModel(directory, { ropeScaling: undefined, eosTokenIds: [2], ...config }, values, { dtype });
  copyFileSync(TOKENIZER, join(directory, 'tokenizer.model'));
  return directory;
}

/** JSONL of token ids: `count` examples of `length` tokens. */
export function writeTokens(path: string, count: number, length: number, vocabularySize = TINY.vocabularySize): string {
  const id = (i: number, t: number) => 3 + ((t * 31 + i * 17) % (vocabularySize - 3));
  const example = (i: number) => JSON.stringify({ ids: Array.from({ length }, (_, t) => id(i, t)) });
  writeFileSync(path, `${Array.from({ length: count }, (_, i) => example(i)).join('\n')}\n`);
  return path;
}

/** A recipe file for a model in `model` and tokens in `tokens.jsonl` beside it, with more lines of YAML. */
export function writeRecipe(path: string, { steps = 4, more = '' }: { steps?: number; more?: string } = {}): string {
  const lines = [
    'model: model',
    'batch: { context: 32, rows: 2 }',
    'adapter: { rank: 4, alpha: 8, dropout: 0 }',
    more,
    'stages:',
    '  - name: only',
    `    steps: ${steps}`,
    '    data: [{ tokens: tokens.jsonl }]',
  ];
  writeFileSync(path, lines.filter(Boolean).join('\n'));
  return path;
}
