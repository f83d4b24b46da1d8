// SPDX-License-Identifier: Apache-2.0
// What a figure must be told with: processor, instruction set, threads, load, commit. And where figures are kept.
import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdirSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { native } from '../kernels/index.js';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

export interface Machine {
  date: string;
  commit: string;
  processor: string;
  instructionSet: string;
  threads: number;
  node: string;
  /** Processes that wanted to run, over the last minute: above `threads`, wall times are not this program's alone. */
  load: number;
}

export function describeMachine(): Machine {
  const commit = spawnSync('git', ['describe', '--always', '--dirty'], { cwd: root, encoding: 'utf8' });
  return {
    date: new Date().toISOString(),
    commit: commit.status === 0 ? commit.stdout.trim() : 'unknown',
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    instructionSet: native().instructionSet(),
    threads: native().threads(),
    node: process.version,
    load: Number(loadavg()[0]!.toFixed(1)),
  };
}

export function machineLine({ processor, instructionSet, threads, node, load, commit }: Machine): string {
  return `${processor}, ${instructionSet}, ${threads} threads, Node ${node}, load ${load}, commit ${commit}`;
}

/** Appends one JSON line to bench/results/NAME.jsonl. Returns the path. */
export function record(name: string, entry: object): string {
  const path = join(root, 'bench', 'results', `${name}.jsonl`);
  mkdirSync(dirname(path), { recursive: true });
  appendFileSync(path, `${JSON.stringify(entry)}\n`);
  return path;
}
