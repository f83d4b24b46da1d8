// SPDX-License-Identifier: Apache-2.0
// Merging adapters into models on disk: the merged model alone gives what base and adapter give together, within f32's error
// where it is written in f32 and within its rounding where in 16 bits; 4-bit bases are refused unless asked for.
import { cpSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { openModel } from '../../checkpoints/index.js';
import { UserError } from '../../errors.js';
import { merge } from '../../tasks/merge.js';
import { openForInference } from '../../tasks/open-model.js';
import { GOLDEN_MODELS, type GoldenModel, goldenInputs } from '../support/golden-model.js';
import { f32, goldenJson, readGolden, relativeToMax } from '../support/goldens.js';
import { shared, suite } from '../support/harness.js';
import { inFolder, tacotune, writeTinyModel } from '../support/tiny.js';

const test = suite('tasks/merge');

const models = (name: string) => shared('goldens', 'models', name);
const adapterOf = (model: GoldenModel, kind = 'r8_all') => shared('goldens', 'forward', model, kind, 'adapter');

async function logitsOf(model: string, name: GoldenModel, adapter?: string): Promise<Float32Array> {
  const opened = await openForInference({ model, adapter, compute: 'f32' });
  const logits = await opened.llama.logits(goldenInputs(name, 'right'));
  opened.close();
  return logits;
}

/** The tolerance of the goldens for logits computed in f32. */
const F32_TOLERANCE = 9e-6;
/** bf16 keeps 8 bits of each weight: the goldens' models move by 1e-2 to 3e-2 where all their arithmetic is rounded so. */
const BF16_TOLERANCE = 2e-2;

for (const name of GOLDEN_MODELS) {
  test(`${name}: merged logits equal unmerged ones`, () =>
    inFolder(async (folder) => {
      const wanted = await logitsOf(models(name), name, adapterOf(name));
      for (const [dtype, tolerance] of [
        ['f32', F32_TOLERANCE],
        ['f16', BF16_TOLERANCE / 4],
        ['bf16', BF16_TOLERANCE],
      ] as const) {
        const output = join(folder, dtype);
        const options = { model: models(name), adapter: adapterOf(name), output, dtype, verify: true };
        const { merged, verified } = await merge(options);
        assert.is(merged, name === 'gqa' ? 21 : 14);
        assert.ok(verified! > merged);
        const difference = relativeToMax(await logitsOf(output, name), wanted);
        assert.ok(difference <= tolerance, `${dtype}: off by ${difference}`);
        const copy = openModel(output);
        assert.is(copy.storedAs('layers.0.q'), dtype);
        copy.close();
      }
      // Without being told: the type of the model.
      const output = join(folder, 'own');
      await merge({ model: models(name), adapter: adapterOf(name, 'r32_qkvo'), output, shardGigabytes: 1e-4 });
      assert.ok(existsSync(join(output, 'model.safetensors.index.json')));
      const [copy, base] = [openModel(output), openModel(models(name))];
      assert.is(copy.storedAs('layers.0.q'), base.storedAs('layers.0.q'));
      assert.equal(copy.weight('layers.1.down').data, base.weight('layers.1.down').data);
      copy.close();
      base.close();
    }));
}

test('mha: merged weights are those of PEFT', () =>
  inFolder(async (folder) => {
    await merge({ model: models('mha'), adapter: adapterOf('mha'), output: join(folder, 'm') });
    const golden = readGolden('generate', 'mha_merged_weights.safetensors');
    const tolerance = goldenJson<{ mha: { tol_merged_weights_abs: number } }>('generate', 'generate.json').mha;
    const merged = openModel(join(folder, 'm'));
    let compared = 0;
    for (const name of merged.tensorNames) {
      const { fileName } = merged.place(name);
      if (!golden.has(fileName)) continue;
      const want = f32(golden, fileName);
      const worst = merged.values(name).reduce((most, x, i) => Math.max(most, Math.abs(x - want[i]!)), 0);
      assert.ok(worst <= tolerance.tol_merged_weights_abs, `${name} is off by ${worst}`);
      compared++;
    }
    merged.close();
    assert.is(compared, golden.size);
  }));

test('an adapter that torch saved, and a model in shards of torch', () =>
  inFolder(async (folder) => {
    const adapter = shared('goldens', 'forward', 'mha', 'r32_qkvo', 'adapter-peft03');
    const output = join(folder, 'm');
    const { trainedOn } = await merge({ model: models('mha-bin-sharded'), adapter, output, dtype: 'f32' });
    assert.is(
      trainedOn,
      JSON.parse(readFileSync(join(adapter, 'adapter_config.json'), 'utf8')).base_model_name_or_path,
    );
    const difference = relativeToMax(
      await logitsOf(output, 'mha'),
      await logitsOf(models('mha'), 'mha', adapterOf('mha', 'r32_qkvo')),
    );
    assert.ok(difference <= F32_TOLERANCE, `${difference}`);
  }));

test('a 4-bit base is refused with the reason, and merged as 16 bits where asked for', () =>
  inFolder(async (folder) => {
    const options = { model: models('gqa-bnb4'), adapter: adapterOf('gqa'), output: join(folder, 'm') };
    const [outcome] = await Promise.allSettled([merge(options)]);
    const { reason } = outcome as PromiseRejectedResult;
    assert.instance(reason, UserError);
    assert.match(reason.message, /a base model in 16 or 32 bits.*round every weight to 4 bits again/);
    assert.match(reason.message, /merge into the original model/);
    assert.not.ok(existsSync(options.output));

    await merge({ ...options, dequantize: true, dtype: 'f32' });
    const difference = relativeToMax(
      await logitsOf(options.output, 'gqa'),
      await logitsOf(options.model, 'gqa', options.adapter),
    );
    assert.ok(difference <= F32_TOLERANCE, `${difference}`);
    const config = JSON.parse(readFileSync(join(options.output, 'config.json'), 'utf8'));
    assert.is(config.quantization_config, undefined);
    assert.is(config.dtype, 'float32');
  }));

test("the command: tokenizer files go along, another model's adapter is refused", () =>
  inFolder(async (folder) => {
    const model = join(folder, 'model');
    cpSync(models('mha'), model, { recursive: true });
    cpSync(shared('goldens', 'tokenizer', 'bpe512.model'), join(model, 'tokenizer.model'));
    const args = ['merge', '--model', model, '--adapter', adapterOf('mha'), '--output', join(folder, 'm')];
    const { status, stdout, stderr } = tacotune([...args, '--dtype', 'bf16']);
    assert.is(status, 0, stderr);
    assert.match(stderr, /14 weights merged/);
    assert.match(stderr, /right ones also where training held them in 4 bits/);
    assert.match(stdout, /tokenizer\.model\n/);
    const other = await writeTinyModel(join(folder, 'other'));
    const wrong = tacotune(['merge', '--model', other, '--adapter', adapterOf('mha'), '--output', join(folder, 'x')]);
    assert.is(wrong.status, 1);
    assert.match(wrong.stderr, /an adapter for a model of 2 layers and width 32/);
    assert.not.ok(existsSync(join(folder, 'x')));
  }));
