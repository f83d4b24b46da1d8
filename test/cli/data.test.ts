// SPDX-License-Identifier: Apache-2.0
// The commands about training data, from outside: help, results in both forms, exit codes.
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { suite } from '../support/harness.js';
import { withFolder } from '../support/small-model.js';
import { assertRefused, concurrently, tacotune } from './support.js';

const test = suite('cli/data', 300_000);

const COMMANDS = ['import'];

test('help lists the commands; each shows an example and says what its options are', async () => {
  const { code, stdout } = await tacotune(['data', '--help']);
  assert.is(code, 0);
  for (const name of COMMANDS) assert.match(stdout, new RegExp(`^  tacotune data ${name} .*[a-z]`, 'm'));
  await concurrently(COMMANDS, async (name) => {
    const help = await tacotune(['data', name, '--help']);
    assert.is(help.code, 0, name);
    assert.match(help.stdout, new RegExp(`Examples:\n  tacotune data ${name} `), name);
    for (const [, option] of help.stdout.matchAll(/^ +(?:-h, )?--([\w.-]+)(?: {2,}\[.*)?$/gm)) {
      assert.unreachable(`${name} --${option} has no description`);
    }
  });
});

test('slips', async () => {
  assertRefused(await tacotune(['data']), 2, /a command of 'tacotune data', found none/);
  assertRefused(await tacotune(['data', 'improt']), 2, /did you mean 'import'/);
  assertRefused(await tacotune(['data', 'import']), 2, /'tacotune data import <sources\.\.>', found nothing more/);
  assertRefused(
    await tacotune(['data', 'import', 'x', '--outputs', 'y', '--output', 'z']),
    2,
    /flag of 'tacotune data import'.*did you mean '--output'/s,
  );
  assertRefused(
    await tacotune(['data', 'import', 'x', '--output', 'y', '--column', 'z']),
    2,
    /our name=the file's for --column/,
  );
});

const row = (instruction: string) => ({ instruction, input: '', output: `${instruction} उत्तर` });

/** A translation with a bad row, beside its English. */
function writeRows(folder: string): void {
  writeFileSync(join(folder, 'Nepali.json'), JSON.stringify([row('क'), row('ख'), { instruction: 'ग' }]));
  writeFileSync(join(folder, 'English.json'), JSON.stringify([row('a'), row('b'), row('c')]));
}

test('import: counts, the report as JSON, and what stops it', async () => {
  await withFolder(async (folder) => {
    writeRows(folder);
    assertRefused(
      await tacotune(['data', 'import', 'Nepali.json', '--output', 'rows'], folder),
      1,
      /a column 'output'/,
    );
    assert.not.ok(existsSync(join(folder, 'rows', 'import.json')));
    const skipping = ['data', 'import', 'Nepali.json', 'English.json', '--skip-bad-rows', '--output'];
    const { code, stdout } = await tacotune([...skipping, 'rows'], folder);
    assert.is(code, 0);
    assert.match(
      stdout,
      /imported into rows\n {2}Nepali +2\n {2}English +3\n2 with English text\n1 bad rows left out, the first:\n {2}Expected a column 'output'/,
    );
    const json = await tacotune([...skipping, 'again', '--json'], folder);
    const report = JSON.parse(json.stdout);
    assert.equal([report.rows, report.bad, report.faults.length], [{ Nepali: { '': 2 }, English: { '': 3 } }, 1, 1]);
    assertRefused(await tacotune([...skipping, 'rows'], folder), 1, /found an earlier import/);
  });
});
