// SPDX-License-Identifier: Apache-2.0
// Each kind of thing is told for what it is, from its contents; what cannot be used says why.
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { weightShapes } from '../../engine/index.js';
import { inspect, train } from '../../tasks/index.js';
import { goldenPath } from '../support/goldens.js';
import { suite } from '../support/harness.js';
import { TINY, TOKENIZER, withFolder, writeRecipe, writeSmallModel, writeTokens } from '../support/small-model.js';

const test = suite('tasks/inspect');

const PARAMETERS = weightShapes(TINY).reduce((sum, { shape }) => sum + shape.reduce((size, n) => size * n, 1), 0);

test('a model: shape, tensors by group, size, tokenizer', async () => {
  await withFolder(async (folder) => {
    const { kind, config, tensors, tokenizer, problem } = inspect(
      await writeSmallModel(folder, TINY, { dtype: 'bf16' }),
    );
    assert.is(kind, 'model');
    assert.is(problem, undefined);
    assert.is(config!.feedForwardWidth, TINY.feedForwardWidth);
    assert.is(tensors!.parameters, PARAMETERS);
    assert.equal(tensors!.dtypes, ['BF16']);
    assert.ok(tensors!.bytes > 2 * PARAMETERS && tensors!.bytes < 2 * PARAMETERS + 10_000);
    const group = tensors!.groups.find(({ name }) => name.endsWith('q_proj.weight'));
    assert.equal(group, {
      name: 'model.layers.{0…1}.self_attn.q_proj.weight',
      dtype: 'BF16',
      shape: [32, 32],
      count: 2,
    });
    assert.is(
      tensors!.groups.reduce((sum, { count }) => sum + count, 0),
      weightShapes(TINY).length,
    );
    assert.equal(tokenizer, {
      kind: 'sentencepiece-bpe',
      vocabularySize: 2000,
      bos: '<s> (1)',
      eos: '</s> (2)',
      addBos: true,
    });
  });
});

test('a model that cannot be used: what it is, and why not', async () => {
  await withFolder(async (folder) => {
    await writeSmallModel(folder);
    const path = join(folder, 'config.json');
    writeFileSync(path, readFileSync(path, 'utf8').replace('"intermediate_size": 48', '"intermediate_size": 64'));
    const { kind, tensors, problem } = inspect(folder);
    assert.is(kind, 'model');
    assert.is(tensors!.parameters, PARAMETERS);
    assert.match(problem!, /gate_proj.*\[48, 32\] in the file, \[64, 32\] by config\.json/);
    rmSync(join(folder, 'model.safetensors'));
    assert.match(inspect(folder).problem!, /model\.safetensors/);
    assert.is(inspect(folder).tensors, undefined);
  });
});

test('a run with its adapter; the adapter alone; a file of tensors; a tokenizer', async () => {
  await withFolder(async (folder) => {
    await writeSmallModel(join(folder, 'model'));
    writeTokens(join(folder, 'tokens.jsonl'), 8, 24);
    writeRecipe(join(folder, 'recipe.yaml'));
    const output = join(folder, 'run');
    const recipe = {
      model: join(folder, 'model'),
      batch: { context: 32 },
      adapter: { rank: 4, targets: ['q', 'down'] },
      stages: [{ name: 'only', steps: 2, data: [{ tokens: join(folder, 'tokens.jsonl') }] }],
    };
    for await (const _ of train(recipe, { output })) {
      // only what it leaves is looked at
    }
    const run = inspect(output);
    assert.is(run.kind, 'run');
    assert.is(run.run!.steps, 2);
    assert.is(run.run!.lastStep!['step'], 2);
    assert.match(run.run!.recipe!, /rank: 4/);
    assert.equal(run.adapter!.targets, ['q', 'down']);

    const adapter = join(folder, 'adapter');
    mkdirSync(adapter);
    for (const name of ['adapter_config.json', 'adapter_model.safetensors'])
      copyFileSync(join(output, name), join(adapter, name));
    const alone = inspect(adapter);
    assert.is(alone.kind, 'adapter');
    assert.is(alone.adapter!.rank, 4);
    assert.is(alone.tensors!.parameters, 2 * 4 * (32 + 32 + 48 + 32));

    const file = inspect(join(adapter, 'adapter_model.safetensors'));
    assert.is(file.kind, 'tensors');
    assert.equal(file.tensors, alone.tensors);
    assert.is(inspect(TOKENIZER).kind, 'tokenizer');
    assert.is(inspect(TOKENIZER).tokenizer!.vocabularySize, 2000);

    rmSync(join(adapter, 'adapter_model.safetensors'));
    assert.match(inspect(adapter).problem!, /adapter_model\.safetensors/);
  });
});

test('bitsandbytes tensors are told', () => {
  const { tensors, problem } = inspect(goldenPath('models', 'mha-bnb4'));
  assert.is(tensors!.quantization, 'bitsandbytes nf4');
  assert.is(problem, undefined); // it is read as it is
});

test('a log whose last line was cut off', async () => {
  await withFolder(async (folder) => {
    writeFileSync(join(folder, 'log.jsonl'), '{"step":1}\n{"step":2}\n{"ste');
    assert.equal(inspect(folder).run!.lastStep, { step: 2 });
  });
});
