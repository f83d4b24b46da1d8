// SPDX-License-Identifier: Apache-2.0
// Training on rows as files have them and on the same rows imported, with kept examples and a thread that reads: the same bits,
// stopped and resumed too. What goes wrong with kept examples is told, and changes nothing in the run's folder.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { importData, type RunEvent, resume, train } from '../../tasks/index.js';
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

/** Losses and the adapter's bytes. @param notices gets what is told */
async function run(events: AsyncIterable<RunEvent>, output: string, notices: string[] = []) {
  const losses: (number | null)[] = [];
  for await (const event of events) {
    if (event.type === 'step') losses.push(event.loss);
    if (event.type === 'notice') notices.push(event.text);
  }
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
    for (const entry of readdirSync(join(rows, '.examples'))) {
      const shard = join(rows, '.examples', entry, 'examples-00000.arrow');
      const bytes = readFileSync(shard);
      bytes[bytes.length >> 1]! ^= 1;
      writeFileSync(shard, bytes);
    }
    const notices: string[] = [];
    const damaged = await run(
      train(recipe(model, imported), { output: output('damaged') }),
      output('damaged'),
      notices,
    );
    assert.equal(damaged, files);
    assert.match(notices.join(), /Expected the Arrow file that was written here.*are made anew/s);
    const events = (name: string) => readFileSync(join(output(name), 'events.jsonl'), 'utf8');
    assert.is(events('damaged'), events('files'), 'notices are not part of a run');
    const stop = new AbortController();
    const stopped: number[] = [];
    for await (const event of train(recipe(model, imported), { output: output('stopped'), signal: stop.signal })) {
      if (event.type === 'step' && stopped.push(event.loss ?? Number.NaN) === 2) stop.abort();
    }
    const rest = await run(resume(output('stopped')), output('stopped'));
    assert.equal([[...stopped, ...rest.losses].slice(0, 4), rest.adapter], [files.losses, files.adapter], 'resumed');
    const again: string[] = [];
    await run(train(recipe(model, imported), { output: output('files') }), output('files'), again);
    assert.match(again.join(), /The files of an earlier run in .*files are now in .*earlier-1\.$/);
  });
});
