// SPDX-License-Identifier: Apache-2.0
// The commands about training data, from outside: help, results in both forms, exit codes.
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { previewText } from '../../cli/data-preview.js';
import { projectRoot, suite } from '../support/harness.js';
import { withFolder } from '../support/small-model.js';
import { assertRefused, concurrently, start, tacotune } from './support.js';

const test = suite('cli/data', 300_000);

const COMMANDS = ['import', 'lint', 'preview', 'stats'];

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

test('an import that is killed leaves nothing that passes for one, and can be made again', async () => {
  await withFolder(async (folder) => {
    const line = `${JSON.stringify(row('क'.repeat(300)))}\n`;
    writeFileSync(join(folder, 'Nepali.jsonl'), line.repeat(20_000));
    const args = ['data', 'import', 'Nepali.jsonl', '--output', 'rows'];
    let killed = 0;
    for (const delayMs of [250, 600, 900, 1200]) {
      const { child, outcome } = start(args, folder);
      const timer = setTimeout(() => child.kill('SIGKILL'), delayMs);
      const { code } = await outcome;
      clearTimeout(timer);
      if (code === 0) break;
      killed++;
      if (existsSync(join(folder, 'rows', 'import.json'))) break; // it was done, and is whole: see below
      assert.is((await tacotune(['data', 'stats', 'rows'], folder)).code, 1);
    }
    assert.ok(killed > 0);
    const whole = existsSync(join(folder, 'rows', 'import.json')) ? 0 : (await tacotune(args, folder)).code;
    assert.is(whole, 0);
    assert.equal(
      readdirSync(join(folder, 'rows')).filter((name) => name.endsWith('.tmp')),
      [],
      'nothing of the killed ones',
    );
    assert.match((await tacotune(['data', 'stats', 'rows'], folder)).stdout, /\nNepali +20000 /);
  });
});

test('Ctrl-C during an import', async () => {
  await withFolder(async (folder) => {
    writeFileSync(join(folder, 'Nepali.jsonl'), `${JSON.stringify(row('क'.repeat(300)))}\n`.repeat(60_000));
    const { child, outcome } = start(['data', 'import', 'Nepali.jsonl', '--output', 'rows'], folder);
    child.stderr!.once('data', () => child.kill('SIGINT')); // with the first line of progress
    const { code, stderr } = await outcome;
    assert.is(code, 1, stderr);
    assert.match(
      stderr,
      /Stopping; nothing will be left of the import.*Expected to import all rows, found a stop after \d+/s,
    );
    assert.equal(readdirSync(join(folder, 'rows')), []);
  });
});

test('lint: a table, JSON, and exit code 1 above a limit', async () => {
  await withFolder(async (folder) => {
    writeRows(folder);
    const { code, stdout } = await tacotune(['data', 'lint', 'Nepali.json'], folder);
    assert.is(code, 0);
    assert.match(stdout, /^3 rows\n {2}badRow +1 +33\.3 % +cannot be read/m);
    assert.match(stdout, /\nbadRow\n {2}Expected a column 'output'/);
    const over = await tacotune(
      ['data', 'lint', 'Nepali.json', '--limit', 'badRow=0.3', '--limit', 'duplicate=0', '--json'],
      folder,
    );
    assert.is(over.code, 1);
    assert.equal(JSON.parse(over.stdout).exceeded, [{ check: 'badRow', share: 1 / 3, limit: 0.3 }]);
    assert.is((await tacotune(['data', 'lint', 'Nepali.json', '--limit', 'badRow=0.5'], folder)).code, 0);
    assertRefused(
      await tacotune(['data', 'lint', 'Nepali.json', '--limit', 'badrow=0.1'], folder),
      2,
      /a check \(badRow, .*did you mean 'badRow'/s,
    );
    assertRefused(
      await tacotune(['data', 'lint', 'Nepali.json', '--limit', 'badRow'], folder),
      2,
      /--limit duplicate=0\.01/,
    );
    assertRefused(await tacotune(['data', 'lint', 'nothing'], folder), 1, /a data file or folder, found nothing there/);
  });
});

test('lint tells lengths, and what contexts would cut', async () => {
  await withFolder(async (folder) => {
    writeRows(folder);
    const tokenizer = join(projectRoot, 'samples', 'tiny-base');
    const measured = [
      'data',
      'lint',
      'Nepali.json',
      '--tokenizer',
      tokenizer,
      '--template',
      'plain',
      '--context',
      '20',
      '--context',
      '400',
    ];
    const { stdout } = await tacotune(measured, folder);
    assert.match(stdout, /lengths of 2 examples in tokens\n {2}median +\d+\n/);
    assert.match(stdout, /context {2}longer {2}final answer cut {2}lost\n +20 +2 +\d +\d\n +400 +0 +0 +0/);
  });
});

test('preview: what counts stands in marks, with or without tokens; colours are for terminals', async () => {
  await withFolder(async (folder) => {
    writeRows(folder);
    const show = (...args: string[]) =>
      tacotune(['data', 'preview', 'Nepali.json', '--template', 'plain', ...args], folder);
    const chain = 'Instruction in English: b\nResponse in English: b उत्तर\nResponse in Nepali: ख उत्तर';
    assert.is(
      (await show('--row', '2')).stdout,
      `Nepali.json, line 1, byte 65, id 1, Nepali\n\n<bos>ख\n⟦${chain}<eos>⟧\n`,
    );
    const tokens = await show(
      '--row',
      '2',
      '--tokenizer',
      join(projectRoot, 'samples', 'tiny-base'),
      '--loss',
      'finalAnswerOnly',
    );
    assert.match(
      tokens.stdout,
      /id 1, Nepali, \d+ of \d+ tokens count\n\n<s> ?ख\n ?Instruction in English: b\nResponse in English: b उत्तर\nResponse in Nepali:⟦ ख उत्तर<\/s>⟧\n$/,
    );
    const { parts } = JSON.parse((await show('--id', '0', '--json')).stdout) as {
      parts: { text: string; counts: boolean }[];
    };
    assert.equal(
      parts.map(({ counts }) => counts),
      [false, true],
    );
    assertRefused(await show('--row', '7'), 1, /row 7, found none among 2 rows/);
    assertRefused(await show('--id', 'x'), 1, /a row with the id 'x'/);
    assertRefused(
      await show('--english', 'none'),
      1,
      /a row to show, found 2 rows, the last a row that has no English text/,
    );
  });
});

test('in colours what counts is green, the rest faint', () => {
  const preview = {
    where: 'x, row 1',
    id: '1',
    language: 'Nepali',
    parts: [
      { text: 'a', counts: false },
      { text: 'b', counts: true },
    ],
  };
  assert.is(previewText(preview, true), 'x, row 1, id 1, Nepali\n\n\u001b[2ma\u001b[22m\u001b[32mb\u001b[39m');
});

test('stats: by language and source', async () => {
  await withFolder(async (folder) => {
    writeRows(folder);
    const { stdout } = await tacotune(['data', 'stats', 'Nepali.json', 'English.json', '--source', 'mine'], folder);
    assert.match(
      stdout,
      /^language {2}source {2}rows.*\nNepali +mine +2 +0 +2 +0 +1 +7 +7\nEnglish +mine +3 +0 +0 +0 +1 +7 +7\n/,
    );
    assert.match(stdout, /1 bad rows are not counted/);
    const json = JSON.parse(
      (
        await tacotune(
          ['data', 'stats', 'Nepali.json', '--tokenizer', join(projectRoot, 'samples', 'tiny-base'), '--json'],
          folder,
        )
      ).stdout,
    );
    assert.is(json.bad, 1);
    assert.ok(json.sources[0].tokens > 4);
  });
});
