// SPDX-License-Identifier: Apache-2.0
// The command line itself: help, version, exit codes, and what it says to a slip.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { projectRoot, suite } from '../support/harness.js';
import { assertRefused, concurrently, start, tacotune } from './support.js';

const test = suite('cli/usage');

const COMMANDS = ['train', 'generate', 'score', 'plan', 'profile', 'inspect', 'demo'];

test('help lists the commands; each shows an example and says what its options are', async () => {
  const { code, stdout } = await tacotune(['--help']);
  assert.is(code, 0);
  for (const name of COMMANDS) assert.match(stdout, new RegExp(`^  tacotune ${name} .*[a-z]`, 'm'));
  await concurrently(COMMANDS, async (name) => {
    const help = await tacotune([name, '--help']);
    assert.is(help.code, 0, name);
    assert.match(help.stdout, new RegExp(`Examples:\n  tacotune ${name} `), name);
    for (const [, option] of help.stdout.matchAll(/^ +(?:-h, )?--([\w.-]+)(?: {2,}\[.*)?$/gm)) {
      assert.unreachable(`${name} --${option} has no description`);
    }
  });
});

test('train has a flag for each scalar of a recipe, with its default and grouped by section', async () => {
  const { stdout } = await tacotune(['train', '--help']);
  assert.match(
    stdout,
    /Recipe, optimizer:\n(?:.*\n)*? +--optimizer\.learningRate .*at its highest.*\[default: 0\.0002\]/,
  );
  assert.match(stdout, /--memoryGiB /);
  assert.match(stdout, /--adapter\.targets .*\[q, k, v, o, gate, up, down\]/);
  assert.not.match(stdout, /--stages/);
});

test("the version is the package's", async () => {
  const { version } = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8')) as { version: string };
  assert.equal(await tacotune(['--version']), { code: 0, stdout: `${version}\n`, stderr: '' });
});

test('without a command, the help on stderr and 2', async () => {
  const { code, stdout, stderr } = await tacotune([]);
  assert.is(code, 2);
  assert.is(stdout, '');
  assert.match(stderr, /Commands:/);
});

test('slips are told with the nearest command or flag, and 2', async () => {
  const slips: [string[], ...RegExp[]][] = [
    [['trian', 'x.yaml'], /a command, found 'trian'/, /did you mean 'train'\?/],
    [['train'], /a recipe, or --resume/],
    [['plan'], /'tacotune plan <recipe>', found nothing more/],
    [['train', 'x.yaml', 'y.yaml'], /'y\.yaml' besides/],
    [
      ['train', 'x.yaml', '--optimizer.learningrat', '1'],
      /--optimizer\.learningrat/,
      /did you mean '--optimizer\.learningRate'\?/,
    ],
    [['train', 'x.yaml', '--ouput=runs'], /found '--ouput'/, /did you mean '--output'\?/],
    [['train', 'x.yaml', '--optimizer.learningRate', 'abc'], /a number > 0 for --optimizer\.learningRate, found 'abc'/],
    [['train', 'x.yaml', '--batch.rows', '1.5'], /a whole number ≥ 1 for --batch\.rows, found '1\.5'/],
    [['train', 'x.yaml', '--batch.rows', 'NaN'], /--batch\.rows, found 'NaN'/],
    [['train', 'x.yaml', '--seed', '1', '--seed', '2'], /--seed, found several values/],
    [['train', 'x.yaml', '--quantize', 'nf5'], /one of nf4, none for --quantize/, /did you mean 'nf4'\?/],
    [['--nothing'], /a command, found '--nothing'/],
    [['train', 'x.yaml', '--seed'], /a value after --seed/],
    [['generate', '--model', 'm'], /--prompt, found none/],
    [['generate', '--model', 'm', '--prompt', 'x', '--max-new-tokens', '0'], /a whole number ≥ 1 for --max-new-tokens/],
    [['generate', '--model', 'm', '--prompt', 'x', '--temperature', '-1'], /a number ≥ 0 for --temperature/],
    [['score', '--model', 'm', '--input', 'x', '--compute', 'f16'], /one of auto, f32, bf16 for --compute/],
    [['profile', 'x.yaml', '--steps', ''], /--steps/],
  ];
  await concurrently(slips, async ([args, ...patterns]) => assertRefused(await tacotune(args), 2, ...patterns));
});

test('a reader that has gone is no error', async () => {
  const { child, outcome } = start(['train', '--help']);
  child.stdout!.destroy();
  const { code, stderr } = await outcome;
  assert.equal({ code, stderr }, { code: 0, stderr: '' });
});
