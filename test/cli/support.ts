// SPDX-License-Identifier: Apache-2.0
// Runs the real command in a process of its own.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { projectRoot } from '../support/harness.js';
import { TINY, withFolder, writeRecipe, writeSmallModel, writeTokens } from '../support/small-model.js';

const MAIN = join(projectRoot, 'dist', 'cli', 'main.js');

export interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Starts `tacotune ARGS` in a folder. */
export function start(
  args: readonly string[],
  folder = projectRoot,
): { child: ChildProcess; outcome: Promise<Outcome> } {
  const child = spawn(process.execPath, [MAIN, ...args], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout!.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const outcome = new Promise<Outcome>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
  return { child, outcome };
}

export function tacotune(args: readonly string[], folder?: string): Promise<Outcome> {
  return start(args, folder).outcome;
}

/** Ends with code 1 or 2 and one message in the house's grammar, no stack. */
export function assertRefused({ code, stdout, stderr }: Outcome, expectedCode: 1 | 2, ...patterns: RegExp[]): void {
  assert.is(code, expectedCode, `exit code with: ${stderr}`);
  assert.is(stdout, '', 'nothing on stdout');
  assert.match(stderr, /^Expected .*, found /s);
  assert.not.match(stderr, /\n {4}at |bug/, 'no stack');
  for (const pattern of patterns) assert.match(stderr, pattern);
}

/** A folder with a tiny model, tokens and a recipe for both. */
export function withRun<Result>(body: (folder: string) => Promise<Result>, more = ''): Promise<Result> {
  return withFolder(async (folder) => {
    await writeSmallModel(join(folder, 'model'));
    writeTokens(join(folder, 'tokens.jsonl'), 12, 24, TINY.vocabularySize);
    writeRecipe(join(folder, 'recipe.yaml'), { more });
    return body(folder);
  });
}

/** Runs cases a few at a time: each spends most of its time starting. */
export async function concurrently<Case>(cases: readonly Case[], body: (item: Case) => Promise<void>): Promise<void> {
  const queue = [...cases];
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await body(item);
  };
  await Promise.all([worker(), worker(), worker()]);
}
