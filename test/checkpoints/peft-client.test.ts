// SPDX-License-Identifier: Apache-2.0
// What we write, loaded by its real clients: PEFT and transformers give the reference logits with our adapter and our model.
// Runs where TACOTUNE_PYTHON names a Python interpreter that has both; no other test needs Python.
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { openModel, openSafetensors, readAdapter, writeAdapter, writeModel } from '../../checkpoints/index.js';
import { toF32 } from '../../checkpoints/tensor-file.js';
import { convert } from '../../tasks/convert.js';
import { exportGguf } from '../../tasks/export-gguf.js';
import { merge } from '../../tasks/merge.js';
import { quantize } from '../../tasks/quantize.js';
import { shared, skip, suite } from '../support/harness.js';
import { basicPieces, modelFile } from '../tokenizer/fixtures.js';
import { inDirectory } from './support.js';

const test = suite('checkpoints/peft-client', 300_000);

/** Arguments: model, adapter or '', inputs, where to put the logits. Every warning of PEFT about keys is an error. */
const SCRIPT = `
import sys, warnings, torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
warnings.filterwarnings('error', message='.*(missing|unexpected|Unexpected).*')
model_path, adapter_path, inputs_path, out_path = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32, attn_implementation='eager')
if adapter_path:
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, adapter_path)
model.eval()
inputs = load_file(inputs_path)
with torch.no_grad():
    out = model(input_ids=inputs['right.input_ids'], attention_mask=inputs['right.attention_mask'])
save_file({'logits': out.logits.contiguous()}, out_path)
`;

/** Largest difference of the client's logits from the reference, by the reference's largest, over rows that are no padding. */
function differenceInClient(model: string, adapter: string, inputs: string, reference: string, tensor: string): number {
  const python = process.env['TACOTUNE_PYTHON'];
  if (!python) skip('TACOTUNE_PYTHON names no interpreter with transformers and peft');
  return inDirectory((directory) => {
    const out = join(directory, 'logits.safetensors');
    const { status, stderr } = spawnSync(python, ['-c', SCRIPT, model, adapter, inputs, out], { encoding: 'utf8' });
    assert.is(status, 0, stderr);
    const files = [out, reference, inputs].map(openSafetensors);
    const [got, want, mask] = [
      files[0]!.read('logits'),
      files[1]!.read(tensor),
      files[2]!.read('right.attention_mask'),
    ] as [Float32Array, Float32Array, BigInt64Array];
    assert.is(got.length, want.length);
    const V = want.length / mask.length;
    let largest = 0;
    let difference = 0;
    for (let i = 0; i < want.length; i++) {
      if (mask[Math.floor(i / V)] === 0n) continue;
      largest = Math.max(largest, Math.abs(want[i]!));
      difference = Math.max(difference, Math.abs(got[i]! - want[i]!));
    }
    for (const file of files) file.close();
    assert.ok(largest > 0);
    return difference / largest;
  });
}

/** The tolerance of the reference data for logits in f32. */
const TOLERANCE = 9e-6;

for (const kind of ['r8_all', 'r32_qkvo']) {
  test(`PEFT loads our adapter: ${kind}`, () => {
    const golden = (...parts: string[]) => shared('goldens', 'forward', 'mha', ...parts);
    const adapter = readAdapter(golden(kind, 'adapter'));
    inDirectory((directory) => {
      writeAdapter(directory, adapter);
      const reference = golden(kind, 'f32base.safetensors');
      const model = shared('goldens', 'models', 'mha');
      const difference = differenceInClient(model, directory, golden('inputs.safetensors'), reference, 'logits_right');
      assert.ok(difference < TOLERANCE, `${difference}`);
    });
  });
}

for (const name of ['mha', 'gqa', 'llama3rope']) {
  test(`transformers loads our model: ${name}`, async () => {
    await inDirectory(async (directory) => {
      const model = openModel(shared('goldens', 'models', name));
      const values = (weight: Parameters<typeof model.weight>[0]) => {
        const { data, dtype } = model.weight(weight);
        return toF32(data, dtype);
      };
      await writeModel(directory, model.config, values, { dtype: model.weight('embedding').dtype });
      model.close();
      const inputs = shared('goldens', 'forward', name, 'inputs.safetensors');
      const reference = shared('goldens', 'forward', name, 'no_adapter.safetensors');
      const difference = differenceInClient(directory, '', inputs, reference, 'f32base.logits_right_f32');
      assert.ok(difference < TOLERANCE, `${difference}`);
    });
  });
}

for (const name of ['mha', 'gqa'] as const) {
  test(`transformers loads our merged model, and our model made of GGUF: ${name}`, async () => {
    await inDirectory(async (directory) => {
      const golden = (...parts: string[]) => shared('goldens', 'forward', name, ...parts);
      const model = shared('goldens', 'models', name);
      const merged = join(directory, 'merged');
      await merge({ model, adapter: golden('r8_all', 'adapter'), output: merged, dtype: 'f32', shardGigabytes: 2e-4 });
      const inputs = golden('inputs.safetensors');
      const withAdapter = golden('r8_all', 'f32base.safetensors');
      const difference = differenceInClient(merged, '', inputs, withAdapter, 'logits_right');
      assert.ok(difference < TOLERANCE, `merged: ${difference}`);

      const gguf = join(directory, 'model.gguf');
      const pieces = [...basicPieces, ...Array.from({ length: 200 }, (_, i) => ({ piece: `p${i}` }))];
      writeFileSync(join(directory, 'tokenizer.model'), modelFile({ pieces }));
      await exportGguf({ model, type: 'f32', tokenizer: directory, output: gguf });
      const back = join(directory, 'back');
      await convert({ input: gguf, output: back });
      const reference = golden('no_adapter.safetensors');
      const again = differenceInClient(back, '', inputs, reference, 'f32base.logits_right_f32');
      assert.ok(again < TOLERANCE, `from GGUF: ${again}`);
    });
  });

  test(`transformers and bitsandbytes load our 4-bit model: ${name}`, async () => {
    const python = process.env['TACOTUNE_PYTHON'];
    if (!python) skip('TACOTUNE_PYTHON names no interpreter with transformers and bitsandbytes');
    if (spawnSync(python, ['-c', 'import bitsandbytes']).status !== 0) skip('no bitsandbytes');
    await inDirectory(async (directory) => {
      const golden = (...parts: string[]) => shared('goldens', 'forward', name, ...parts);
      const output = join(directory, 'nf4');
      await quantize({ model: shared('goldens', 'models', name), output });
      const reference = golden('no_adapter.safetensors');
      const inputs = golden('inputs.safetensors');
      const difference = differenceInClient(output, '', inputs, reference, 'nf4base.logits_right');
      // bitsandbytes computes in the type of the weights: that of the 16-bit ones rounds.
      assert.ok(difference < (name === 'mha' ? 1e-4 : 5e-2), `${difference}`);
    });
  });
}
