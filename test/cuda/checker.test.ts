// SPDX-License-Identifier: Apache-2.0
// Is the checker awake? Every planted bug must be found, by its kind and at its line, under schedules and copies of both
// kinds, and its clean twin must pass. A bug that is found nowhere else is no reason to trust that there is none.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { buildEmulator, emulatedDriver, runOps } from '../support/emulator.js';
import { projectRoot, suite } from '../support/harness.js';

const test = suite('cuda: checker', 600_000);
const folder = join(projectRoot, 'kernels', 'lab', 'planted');

interface PlantedBug {
  name: string;
  kinds: string[];
  place: string;
}

/** Each source carries its expectation on the line of its bug. */
function plantedBugs(): PlantedBug[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith('.cu'))
    .map((file) => {
      const lines = readFileSync(join(folder, file), 'utf8').split('\n');
      const at = lines.findIndex((line) => line.includes('// BUG: '));
      assert.ok(at >= 0, `${file} has no line marked '// BUG: kind'`);
      const kinds = lines[at]!.slice(lines[at]!.indexOf('// BUG: ') + 8).split('|');
      return { name: file.replace('.cu', '').replaceAll('-', '_'), kinds, place: `${file}:${at + 1}` };
    });
}

function findings(order: string, copies: string): Map<string, string> {
  const { status, stdout, stderr } = spawnSync(join(projectRoot, 'build', 'emulator', 'planted'), {
    encoding: 'utf8',
    env: { ...process.env, TACOTUNE_EMULATOR_ORDER: order, TACOTUNE_EMULATOR_COPIES: copies },
  });
  assert.is(status, 0, stderr);
  const rows = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { kernel: string; found: string });
  return new Map(rows.map((row) => [row.kernel, row.found]));
}

test('every planted bug is found by its kind and line, and no clean twin is accused', () => {
  buildEmulator('--planted');
  const bugs = plantedBugs();
  assert.ok(bugs.length >= 12);
  for (const [order, copies] of [
    ['fifo', 'lazy'],
    ['greedy:7', 'eager'],
    ['reversed', 'lazy'],
  ] as const) {
    const found = findings(order, copies);
    const wrong: string[] = [];
    for (const { name, kinds, place } of bugs) {
      const text = found.get(`${name}_bug_kernel`) ?? 'no such kernel';
      const named = kinds.some((kind) => text.includes(kind)) && new RegExp(`${place}(?![0-9])`).test(text);
      if (!named) wrong.push(`${name}: expected ${kinds.join(' or ')} at ${place}, found '${text}'`);
      const twin = found.get(`${name}_clean_kernel`) ?? 'no such kernel';
      if (twin !== '') wrong.push(`${name}, the clean twin: found '${twin}'`);
    }
    assert.equal(wrong, [], `${order}, ${copies}: ${bugs.length} bugs`);
    assert.is(found.size, 2 * bugs.length);
  }
});

test('no op of ours has a race, reads past its operands, or reads what nobody has written', async () => {
  const settings = { TACOTUNE_EMULATOR_ORDER: 'greedy:11', TACOTUNE_EMULATOR_COPIES: 'eager' };
  const ops = await runOps({ ...emulatedDriver('checked'), ...settings }, '--exact', '--small');
  const troubles = ops.flatMap(({ op, troubles }) => troubles.map((trouble) => `${op} ${trouble}`));
  assert.equal(troubles, []);
  assert.ok(ops.length >= 31, `only ${ops.length} ops ran`);
});
