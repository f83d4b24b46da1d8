// SPDX-License-Identifier: Apache-2.0
// `device: tfjs` in recipes and on the command line: a run is stopped and resumed on it, its losses are those of the cpu
// device, and what cannot be is refused in words.
// Run: npm test -- tfjs/commands
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { resolvePlace } from '../../tasks/index.js';
import { suite } from '../support/harness.js';
import { writeRecipe } from '../support/small-model.js';
import { inFolder, startTacotune, tacotune, writeTinyModel, writeTokens } from '../support/tiny.js';

const test = suite('tfjs: commands');

const losses = (run: string): number[] =>
  readFileSync(join(run, 'log.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { loss: number }).loss);

test('a recipe trains on it with the losses of the cpu device, and a killed run ends with the bytes of a whole one', () =>
  inFolder(async (folder) => {
    await writeTinyModel(join(folder, 'model'));
    writeTokens(join(folder, 'tokens.jsonl'), 20);
    const more = 'compute: f32\noptimizer: { kind: adamw-8bit }\ncheckpoints: { every: 2 }';
    const recipe = writeRecipe(join(folder, 'recipe.yaml'), { steps: 8, more });
    const train = (device: string, ...words: string[]) => {
      const run = join(folder, device);
      const { status, stderr } = tacotune(['train', recipe, '--set', `device=${device}`, '--output', run, ...words]);
      assert.is(status, 0, stderr);
      return run;
    };
    const [got, want] = [losses(train('tfjs')), losses(train('cpu'))];
    assert.is(got.length, 8);
    for (const [i, loss] of want.entries())
      assert.ok(Math.abs(got[i]! - loss) < 2e-5, `step ${i + 1}: ${got[i]}, ${loss}`);

    const run = join(folder, 'killed');
    const child = startTacotune(['train', recipe, '--set', 'device=tfjs', '--output', run]);
    const ended = new Promise((resolve) => child.on('close', resolve));
    while (child.exitCode === null && !existsSync(join(run, 'checkpoints', 'latest'))) await sleep(5);
    child.kill('SIGKILL');
    await ended;
    const { status, stderr } = tacotune(['train', '--resume', run]);
    assert.is(status, 0, stderr);
    const adapter = (of: string) => readFileSync(join(of, 'adapter_model.safetensors'));
    assert.ok(adapter(run).equals(adapter(join(folder, 'tfjs'))), 'other bytes than those of the whole run');
  }));

test('never chosen by auto, f32 alone, and its reason names the package', () => {
  assert.is.not(resolvePlace({}).device, 'tfjs');
  const { device, deviceReason, compute } = resolvePlace({ device: 'tfjs' });
  assert.equal([device, compute], ['tfjs', 'f32']);
  assert.match(deviceReason, /^@tensorflow\/tfjs-\S+ 4\.\d+\.\d+, backend \w+$/);
});

test('bf16 is refused before anything is computed', () =>
  inFolder(async (folder) => {
    await writeTinyModel(join(folder, 'model'));
    writeTokens(join(folder, 'tokens.jsonl'), 4);
    const recipe = writeRecipe(join(folder, 'recipe.yaml'), { more: 'device: tfjs\ncompute: bf16' });
    const { status, stderr } = tacotune(['train', recipe, '--output', join(folder, 'run')]);
    assert.is(status, 1);
    assert.match(stderr, 'TensorFlow.js has no other floating type');
  }));
