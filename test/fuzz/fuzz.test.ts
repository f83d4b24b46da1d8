// SPDX-License-Identifier: Apache-2.0
// Every reader of files that strangers wrote, fed damaged files: it reads them, or ends in a UserError that says what and where;
// it never crashes, hangs, or takes memory without bound. TACOTUNE_FUZZ=n runs n cases per reader, TACOTUNE_SEED others.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as assert from 'uvu/assert';
import { projectRoot, suite } from '../support/harness.js';
import type { FuzzResult } from './main.js';
import { TARGETS } from './targets.js';

/** Per reader: 22,000 in all. */
const CASES = 1000;
const cases = Number(process.env['TACOTUNE_FUZZ'] ?? CASES);
const seed = Number(process.env['TACOTUNE_SEED'] ?? 1);

/** No file here is above 30 KB. What Node, the addon and a reader's own tables take is below this; the memory of a lie is not. */
const MAX_PEAK_MIB = 400;
/** A damaged file of this size is read or refused in milliseconds; the machine may be busy. */
const MAX_CASE_MS = 5000;

const test = suite('fuzz', 120_000 + cases * 100);

const names = Object.keys(TARGETS);
/** A process for several readers each, since starting one costs as much as hundreds of cases. */
const GROUPS = 3;
for (let group = 0; group < GROUPS; group++) {
  const readers = names.filter((_, i) => i % GROUPS === group);
  test(`${readers.join(', ')}: ${cases} cases each, seed ${seed}`, async () => {
    const main = join(projectRoot, 'dist', 'test', 'fuzz', 'main.js');
    const args = ['--max-old-space-size=256', main, String(seed), String(cases), ...readers];
    const { stdout } = await promisify(execFile)(process.execPath, args, {
      timeout: 110_000 + cases * 100,
      maxBuffer: 1 << 24,
    });
    const results = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as FuzzResult);
    assert.equal(
      results.map(({ reader }) => reader),
      readers,
    );
    for (const { reader, refused, slowestMs, peakMiB, fault } of results) {
      assert.is(fault, undefined, `${reader}: ${fault}`);
      assert.ok(refused > cases / 10, `${reader}: only ${refused} files were refused`);
      assert.ok(slowestMs < MAX_CASE_MS, `${reader}: a case took ${slowestMs.toFixed(0)} ms`);
      assert.ok(peakMiB < MAX_PEAK_MIB, `${reader}: ${peakMiB.toFixed(0)} MiB`);
    }
  });
}

test('there are 20,000 cases', () => {
  assert.ok(names.length * CASES >= 20_000, `${names.length} readers`);
});
