// SPDX-License-Identifier: Apache-2.0
// Training on rows as files have them and on the same rows imported, with kept examples and a thread that reads: the same bits,
// stopped and resumed too.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { importData, resume, train } from '../../tasks/index.js';
import { projectRoot, suite } from '../support/harness.js';
import { withFolder, writeSmallModel } from '../support/small-model.js';

const test = suite('tasks: feeding', 300_000);

const samples = (language: string) => join(projectRoot, 'samples', 'mits', `${language}.json`);

/** More rows than are made without a thread. */
const LANGUAGES = ['Nepali', 'Persian'];

const fromFiles = LANGUAGES.map((language) => ({ rows: samples(language), english: samples('English'), language }));

const recipe = (model: string, data: object[]) => ({
  model,
  quantize: 'none' as const,
  compute: 'f32' as const,
  adapter: { rank: 2, alpha: 4, dropout: 0 },
  batch: { context: 96, rows: 2 },
  data: { template: 'plain', heldOutShare: 0.01, evaluateBatches: 1 },
  checkpoints: { every: 2, keep: 1 },
  stages: [{ name: 'taco', steps: 4, data }],
});

/** Losses and the adapter's bytes. */
async function run(events: AsyncIterable<{ type: string }>, output: string) {
  const losses: number[] = [];
  for await (const event of events) if (event.type === 'step') losses.push((event as unknown as { loss: number }).loss);
  return { losses, adapter: readFileSync(join(output, 'adapter_model.safetensors')).toString('base64') };
}

test('from files, from an import, from kept examples, resumed: the same bits', async () => {
  await withFolder(async (folder) => {
    const model = await writeSmallModel(join(folder, 'model'));
    const rows = join(folder, 'rows');
    await importData({ sources: LANGUAGES.map(samples), output: rows });
    const imported = LANGUAGES.map((language) => ({ rows, language }));
    const output = (name: string) => join(folder, name);
    const files = await run(train(recipe(model, fromFiles), { output: output('files') }), output('files'));
    assert.is(files.losses.length, 4);
    assert.not.ok(existsSync(join(rows, '.examples')));
    for (const name of ['made', 'kept']) {
      const result = await run(train(recipe(model, imported), { output: output(name) }), output(name));
      assert.equal(result, files, name);
      assert.is(readdirSync(join(rows, '.examples')).length, 2, 'one entry a language');
    }
    const stop = new AbortController();
    const stopped: number[] = [];
    for await (const event of train(recipe(model, imported), { output: output('stopped'), signal: stop.signal })) {
      if (event.type === 'step' && stopped.push(event.loss ?? Number.NaN) === 2) stop.abort();
    }
    const rest = await run(resume(output('stopped')), output('stopped'));
    assert.equal([[...stopped, ...rest.losses].slice(0, 4), rest.adapter], [files.losses, files.adapter], 'resumed');
  });
});
