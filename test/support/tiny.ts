// SPDX-License-Identifier: Apache-2.0
// A model and rows of a size for tests of whole commands, made here so that no test needs files from elsewhere.
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type LlamaConfig, writeModel } from '../../checkpoints/index.js';
import { randomStart } from '../../engine/index.js';
import { projectRoot } from './harness.js';

export const TINY_CONFIG: LlamaConfig = {
  vocabularySize: 64,
  width: 32,
  feedForwardWidth: 48,
  layers: 2,
  queryHeads: 2,
  keyValueHeads: 1,
  headWidth: 16,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  ropeScaling: undefined,
  tiedHead: true,
  maxPositions: 128,
  bosTokenId: 1,
  eosTokenIds: [2],
};

/** Runs a body with a fresh folder that is removed afterwards. */
export async function inFolder(body: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'tacotune-'));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Writes a model of random weights without a tokenizer; ready token ids train it. */
export async function writeTinyModel(folder: string, config: LlamaConfig = TINY_CONFIG): Promise<string> {
  mkdirSync(folder, { recursive: true });
  const source = randomStart(config, 1);
  await writeModel(folder, config, (name) => source.weight(name).data as Float32Array);
  return folder;
}

/** JSONL of token ids: a pattern that a tiny model can learn. */
export function writeTokens(path: string, rows: number, length = 24): string {
  const lines = Array.from({ length: rows }, (_, row) => {
    const ids = Array.from({ length }, (_, t) => 3 + ((row * 7 + t * (1 + (row % 3))) % 61));
    return JSON.stringify({ ids, labels: ids.map((id, t) => (t < 4 ? -100 : id)) });
  });
  writeFileSync(path, `${lines.join('\n')}\n`);
  return path;
}

const MAIN = join(projectRoot, 'dist', 'cli', 'main.js');

/** Runs the real command line. */
export function tacotune(args: readonly string[], options: { cwd?: string; input?: string } = {}) {
  return spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8', ...options });
}

/** Starts the real command line. */
export function startTacotune(args: readonly string[]) {
  return spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
}
