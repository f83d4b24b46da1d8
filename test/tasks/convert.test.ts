// SPDX-License-Identifier: Apache-2.0
// Converting what people have: torch's files to safetensors, shards to one file and back, other types; what changed its name
// and what was left behind is said.
import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { openModel, openSafetensors, readAdapter, writeSafetensors } from '../../checkpoints/index.js';
import { UserError } from '../../errors.js';
import { convert } from '../../tasks/convert.js';
import { shared, suite } from '../support/harness.js';
import { inFolder, tacotune, writeTinyModel } from '../support/tiny.js';

const test = suite('tasks/convert');

const forward = (...parts: string[]) => shared('goldens', 'forward', 'mha', ...parts);
const models = (...parts: string[]) => shared('goldens', 'models', ...parts);

async function refused(body: () => Promise<unknown>, expected: RegExp): Promise<void> {
  const [outcome] = await Promise.allSettled([body()]);
  assert.is(outcome!.status, 'rejected');
  const { reason } = outcome as PromiseRejectedResult;
  assert.instance(reason, UserError);
  assert.match(reason.message, expected);
}

test("adapters of torch, with old PEFT's settings: values and types stay, settings without effect are named", () =>
  inFolder(async (folder) => {
    const output = join(folder, 'new');
    const result = await convert({ input: forward('r32_qkvo', 'adapter-peft03'), output, verify: true });
    assert.is(result.kind, 'adapter');
    assert.is(result.verified, 16);
    assert.equal(result.renamed, []);
    assert.match(result.dropped.join(' '), /enable_lora: .*merge_weights: /);
    assert.equal(readAdapter(output), readAdapter(forward('r32_qkvo', 'adapter-peft03')));
    const file = openSafetensors(join(output, 'adapter_model.safetensors'));
    assert.ok([...file.tensors.values()].every(({ dtype }) => dtype === 'F16'));
    file.close();
    // Again, over it, in f32: the reference's own bytes.
    await convert({ input: forward('r32_qkvo', 'adapter-peft03'), output, dtype: 'f32' });
    const name = 'adapter_model.safetensors';
    assert.equal(readFileSync(join(output, name)), readFileSync(forward('r32_qkvo', 'adapter', name)));
  }));

test('names found in the wild become the standard ones', () =>
  inFolder(async (folder) => {
    const input = join(folder, 'old');
    cpSync(forward('r8_all', 'adapter'), input, { recursive: true });
    const path = join(input, 'adapter_model.safetensors');
    const file = openSafetensors(path);
    const tensors = new Map(
      [...file.tensors].map(([name, info]) => [
        `module.${name.replace('.weight', '.default.weight')}`,
        { ...info, data: (file.read(name) as Float32Array).slice() },
      ]),
    );
    file.close();
    writeSafetensors(path, tensors);
    const result = await convert({ input, output: join(folder, 'new') });
    assert.is(result.renamed.length, 14);
    assert.equal(result.renamed[0], {
      from: 'module.base_model.model.model.layers.*.self_attn.q_proj.lora_A.default.weight',
      to: 'base_model.model.model.layers.*.self_attn.q_proj.lora_A.weight',
      count: 2,
    });
    assert.equal(readAdapter(join(folder, 'new')), readAdapter(forward('r8_all', 'adapter')));
  }));

test('models: shards of torch to one file, tables that follow from the config left behind, and to shards again', () =>
  inFolder(async (folder) => {
    const single = join(folder, 'single');
    const result = await convert({ input: models('mha-bin'), output: single, dtype: 'f32', verify: true });
    assert.is(result.dropped.length, 2);
    assert.match(result.dropped[0]!, /rotary_emb\.inv_freq: follows from the config/);
    assert.is(JSON.parse(readFileSync(join(single, 'config.json'), 'utf8')).torch_dtype, 'float32');
    const many = join(folder, 'many');
    await convert({ input: models('mha-bin-sharded'), output: many, shardGigabytes: 1e-4, verify: true });
    assert.ok(existsSync(join(many, 'model.safetensors.index.json')));
    const reference = openModel(models('mha'));
    for (const [path, dtype] of [
      [single, 'f32'],
      [many, 'f16'],
    ] as const) {
      const copy = openModel(path);
      for (const name of reference.tensorNames) {
        assert.is(copy.storedAs(name), dtype);
        assert.equal(copy.values(name), reference.values(name));
      }
      copy.close();
    }
    reference.close();
  }));

test('4-bit models are copied as they are, and not cast', () =>
  inFolder(async (folder) => {
    const input = models('gqa-bnb4');
    const result = await convert({ input, output: join(folder, 'copy'), verify: true });
    assert.is(result.verified, 134);
    assert.equal(
      readFileSync(join(folder, 'copy', 'model.safetensors')),
      readFileSync(join(input, 'model.safetensors')),
    );
    await refused(() => convert({ input, output: join(folder, 'b'), dtype: 'bf16' }), /weights in 16 or 32 bits/);
    assert.not.ok(existsSync(join(folder, 'b')));
  }));

test('a file of tensors, whatever they are', () =>
  inFolder(async (folder) => {
    const output = join(folder, 'tensors.safetensors');
    const result = await convert({ input: models('mha-bin', 'pytorch_model.bin'), output, verify: true, dtype: 'f32' });
    assert.is(result.tensors, 23);
    const file = openSafetensors(output);
    assert.ok([...file.tensors.values()].every(({ dtype }) => dtype === 'F32'));
    file.close();
    await refused(() => convert({ input: output, output: join(folder, 'x.bin') }), /named \*\.safetensors/);
  }));

test('what cannot be converted is refused and leaves the output alone', () =>
  inFolder(async (folder) => {
    const model = await writeTinyModel(join(folder, 'model'));
    await refused(() => convert({ input: model, output: model }), /apart from the input/);
    await refused(() => convert({ input: join(folder, 'none'), output: join(folder, 'x') }), /something to convert/);
    await refused(() => convert({ input: forward('r8_all', 'adapter'), output: model }), /a folder for an adapter/);
    const other = join(folder, 'other');
    await convert({ input: model, output: other });
    await refused(() => convert({ input: model, output: other }), /a folder without a model/);
    assert.not.ok(existsSync(join(folder, 'x')));
  }));

test('the command says what it did, and gives the files to stdout', () =>
  inFolder((folder) => {
    const input = forward('r32_qkvo', 'adapter-peft03');
    const { status, stdout, stderr } = tacotune(['convert', input, join(folder, 'new'), '--verify']);
    assert.is(status, 0, stderr);
    assert.match(stderr, /adapter: 16 tensors, names as they were/);
    assert.match(stderr, /left behind:\n {2}.*enable_lora/);
    assert.match(stderr, /16 tensors compared: all as written/);
    assert.equal(stdout.trim().split('\n'), [
      join(folder, 'new', 'adapter_model.safetensors'),
      join(folder, 'new', 'adapter_config.json'),
    ]);
    writeFileSync(join(folder, 'x.bin'), 'no tensors');
    const failed = tacotune(['convert', join(folder, 'x.bin'), join(folder, 'x.safetensors')]);
    assert.is(failed.status, 1);
    assert.match(failed.stderr, /a zip archive or pickle of torch\.save/);
  }));
