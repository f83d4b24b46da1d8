// SPDX-License-Identifier: Apache-2.0
// The house's own rules: imports go one way and through entrances, files open with their purpose, the README's tree is true.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import * as assert from 'uvu/assert';
import { projectRoot, suite } from './support/harness.js';

const test = suite('structure');

/** Which rooms each room may import from, itself aside. errors.ts is open to all. */
const ALLOWED: Record<string, readonly string[]> = {
  kernels: [],
  tokenizer: [],
  samples: ['engine', 'checkpoints'],
  recipes: [],
  engine: ['kernels'],
  datasets: ['kernels', 'tokenizer'],
  checkpoints: ['kernels'],
  tasks: ['recipes', 'engine', 'datasets', 'checkpoints', 'kernels', 'tokenizer'],
  cli: ['tasks', 'recipes', 'engine', 'datasets', 'checkpoints', 'kernels', 'tokenizer'],
  bench: ['tasks', 'recipes', 'engine', 'datasets', 'checkpoints', 'kernels', 'tokenizer', 'samples', 'test'],
};

/** Rooms whose files are each an entrance: a task is loaded by the command that needs it, since start-up is felt each time. */
const OPEN_ROOMS = new Set(['tasks', 'test']);

const sources = Object.keys(ALLOWED).flatMap((room) =>
  readdirSync(join(projectRoot, room), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => join(room, file)),
);

test('imports go one way, and enter a room by its index.ts', () => {
  assert.ok(sources.length > 50, 'the sources were not found');
  const faults: string[] = [];
  for (const file of sources) {
    const room = file.split('/')[0]!;
    const text = readFileSync(join(projectRoot, file), 'utf8');
    for (const [, target] of text.matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)) {
      const path = relative(projectRoot, join(projectRoot, dirname(file), target!));
      const other = path.split('/')[0]!;
      if (path === 'errors.js' || other === room) continue;
      if (!ALLOWED[room]!.includes(other)) faults.push(`${file} imports ${path}: ${room} may not see ${other}`);
      else if (!OPEN_ROOMS.has(other) && path !== `${other}/index.js`)
        faults.push(`${file} imports ${path}: enter ${other} by its index.ts`);
    }
  }
  assert.equal(faults, []);
});

test('every source opens with its licence', () => {
  const bare = sources.filter(
    (file) =>
      !readFileSync(join(projectRoot, file), 'utf8').slice(0, 120).includes('SPDX-License-Identifier: Apache-2.0'),
  );
  assert.equal(bare, []);
});

test("the README's tree is the project's", () => {
  const { status, stderr } = spawnSync(process.execPath, [join(projectRoot, 'scripts', 'tree.mjs'), '--check'], {
    encoding: 'utf8',
  });
  assert.is(status, 0, stderr);
});
