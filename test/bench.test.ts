// SPDX-License-Identifier: Apache-2.0
// The kernels' benchmark runs, and says what is wrong with a command line. How fast is not tested: machines do other work.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { projectRoot, suite } from './support/harness.js';

const test = suite('bench');

function bench(...args: string[]) {
  return spawnSync(process.execPath, [join(projectRoot, 'dist', 'bench', 'main.js'), ...args], { encoding: 'utf8' });
}

test('ops: rates and shares of the ceilings, with the machine they were taken on', () => {
  const { status, stdout, stderr } = bench('ops', '--rounds', '1', '--threads', '1', '--only', 'linearWeightBackward');
  assert.is(status, 0, stderr);
  assert.match(stdout, /, 1 threads, Node v/);
  const line = stdout.split('\n').find((text) => text.startsWith('linearWeightBackward '))!;
  const numbers = line.split(/ {2,}/).slice(1).map(Number);
  assert.is(numbers.length, 7, line);
  assert.ok(
    numbers.every((value) => Number.isFinite(value) && value >= 0),
    line,
  );
});

test('an unknown benchmark and a wrong number are told', () => {
  const unknown = bench('opps');
  assert.is(unknown.status, 2);
  assert.match(unknown.stderr, /Expected a benchmark: .*ops \(.*found opps/);
  const wrong = bench('ops', '--rounds', 'many');
  assert.is(wrong.status, 2);
  assert.match(wrong.stderr, /--rounds: a whole number/);
  const bogus = bench('ops', '--bogus');
  assert.is(bogus.status, 2);
  assert.match(bogus.stderr, /--bogus/);
});
