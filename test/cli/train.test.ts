// SPDX-License-Identifier: Apache-2.0
// The train command from outside: what it writes, what it says, and how it ends when it is told to.
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { readAdapter } from '../../checkpoints/index.js';
import { loadRecipe } from '../../recipes/index.js';
import { suite } from '../support/harness.js';
import { start, tacotune, withRun } from './support.js';

const test = suite('cli/train');

const LOG_KEYS = [
  'step',
  'stage',
  'loss',
  'gradNorm',
  'learningRate',
  'tokens',
  'targetTokens',
  'stepMs',
  'tokensPerSecond',
];

const logOf = (folder: string): Record<string, unknown>[] =>
  readFileSync(join(folder, 'log.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

test('writes adapter, log and recipe, and says what runs and where it went', async () => {
  await withRun(async (folder) => {
    const args = [
      'train',
      'recipe.yaml',
      '--output',
      'out',
      '--optimizer.learning-rate',
      '1e-3',
      '--set',
      'stages.0.steps=3',
    ];
    const { code, stdout, stderr } = await tacotune([...args, '--adapter.targets', 'q,v', '--threads', '1'], folder);
    assert.is(code, 0, stderr);
    assert.match(stdout, /^out\/adapter_config\.json$/m);
    assert.match(stdout, /^out\/adapter_model\.safetensors$/m);

    const log = logOf(join(folder, 'out'));
    assert.is(log.length, 3);
    for (const line of log) assert.equal(Object.keys(line).slice(0, LOG_KEYS.length), LOG_KEYS);
    assert.equal(readAdapter(join(folder, 'out')).targets, ['q', 'v']);
    const { recipe } = loadRecipe(join(folder, 'out', 'recipe.yaml'));
    assert.is(recipe.optimizer.learningRate, 1e-3);
    assert.is(recipe.model, join(folder, 'model'), 'paths are whole, so the run can be repeated from anywhere');

    assert.match(stderr, /compute +(f32|bf16) inputs, f32 sums: /);
    assert.match(stderr, /device +cpu: \S+, 1 threads/);
    for (const kind of ['weights', 'adapter', 'gradients', 'optimizer', 'activations', 'runtime', 'peak']) {
      assert.match(stderr, new RegExp(`^  ${kind} +[\\d.]+ [KMG]iB`, 'm'));
    }
    assert.match(stderr, /^only +step +1\/3 +loss +\d\.\d{4} +norm +\S+ +lr 1\.00e-3 .*tok\/s .*left$/m);
    assert.match(stderr, /only ends: 3 steps done/);
    assert.not.match(stderr, /\r/, 'no live line without a terminal');
  });
});

test('a faulty change says so, and 2', async () => {
  await withRun(async (folder) => {
    const { code, stderr } = await tacotune(['train', 'recipe.yaml', '--set', 'noequals'], folder);
    assert.is(code, 2);
    assert.match(stderr, /a change of the form key=value, found 'noequals'/);
  });
});

test('Ctrl-C ends after the running step, with the adapter saved', async () => {
  await withRun(async (folder) => {
    const { child, outcome } = start(
      ['train', 'recipe.yaml', '--output', 'out', '--set', 'stages.0.steps=100000'],
      folder,
    );
    await firstStep(child);
    child.kill('SIGINT');
    const { code, stdout, stderr } = await outcome;
    assert.is(code, 0, stderr);
    assert.match(stderr, /Stopping after this step/);
    assert.match(stderr, /stopped after \d+ steps/);
    assert.match(stdout, /out\/adapter_model\.safetensors/);
    const { step } = logOf(join(folder, 'out')).at(-1)!;
    assert.match(stderr, new RegExp(`saved as of step ${step}`));
    assert.is(readAdapter(join(folder, 'out')).rank, 4);
  });
});

test('a run goes on when nobody reads its progress any more', async () => {
  await withRun(async (folder) => {
    const { child, outcome } = start(['train', 'recipe.yaml', '--output', 'out', '--set', 'stages.0.steps=20'], folder);
    await saying(child, /stages/);
    child.stderr!.destroy();
    assert.is((await outcome).code, 0);
    assert.is(logOf(join(folder, 'out')).length, 20);
    assert.is(readAdapter(join(folder, 'out')).rank, 4);
  });
});

test('a second Ctrl-C ends at once, with 130', async () => {
  await withRun(async (folder) => {
    // One step of many micro-batches takes long, so the first Ctrl-C is still waiting for its end.
    const args = ['train', 'recipe.yaml', '--output', 'out', '--batch.accumulation', '20000', '--compute', 'f32'];
    const { child, outcome } = start(args, folder);
    await saying(child, /stages/);
    await new Promise((resolve) => setTimeout(resolve, 500));
    child.kill('SIGINT');
    await saying(child, /Stopping/);
    child.kill('SIGINT');
    assert.is((await outcome).code, 130);
    assert.not.ok(existsSync(join(folder, 'out', 'adapter_model.safetensors')));
  });
});

type Child = ReturnType<typeof start>['child'];

const firstStep = (child: Child): Promise<void> => saying(child, /step +1\//);

async function saying(child: Child, pattern: RegExp): Promise<void> {
  for (let text = ''; !pattern.test(text); ) text += (await once(child.stderr!, 'data'))[0];
}
