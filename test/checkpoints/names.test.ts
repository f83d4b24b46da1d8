// SPDX-License-Identifier: Apache-2.0
// Names of adapter tensors as found in the wild.
import * as assert from 'uvu/assert';
import { LINEAR_NAMES } from '../../checkpoints/index.js';
import { adapterFileName, linearOfTargetModule, parseAdapterFileName, targetModule } from '../../checkpoints/names.js';
import { suite } from '../support/harness.js';

const test = suite('checkpoints/names');

test('a name that we write is read as the same', () => {
  for (const linear of LINEAR_NAMES) {
    for (const factor of ['A', 'B'] as const) {
      assert.equal(parseAdapterFileName(adapterFileName(31, linear, factor)), { layer: 31, linear, factor });
    }
    assert.is(linearOfTargetModule(targetModule(linear)), linear);
  }
});

test('prefixes, wrappers and adapter names', () => {
  const path = 'layers.0.self_attn.v_proj.lora_B';
  for (const name of [
    `base_model.model.model.${path}.weight`,
    `base_model.model.model.${path}.default.weight`,
    `base_model.model.model.${path}.my-adapter_2.weight`,
    `base_model.model.${path}.weight`,
    `model.${path}.weight`,
    `${path}.weight`,
    `module.base_model.model.model.${path}.weight`,
    `_orig_mod.base_model.model.model.${path}.default.weight`,
    `base_model.model.model.layers.0._fsdp_wrapped_module.self_attn.v_proj.lora_B.default.weight`,
    `base_model.model.base_model.model.model.${path}.weight`,
  ]) {
    assert.equal(parseAdapterFileName(name), { layer: 0, linear: 'v', factor: 'B' }, name);
  }
});

test('what is no LoRA factor of a linear layer is not taken for one', () => {
  for (const name of [
    'base_model.model.model.layers.0.self_attn.q_proj.weight',
    'base_model.model.model.layers.0.self_attn.q_proj.lora_A.bias',
    'base_model.model.model.layers.0.self_attn.q_proj.lora_C.weight',
    'base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector.weight',
    'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight.extra',
    'base_model.model.model.layers.0.mlp.q_proj.lora_A.weight',
    'base_model.model.model.layers.00.self_attn.q_proj.lora_A.weight',
    'base_model.model.model.layers.999999.self_attn.q_proj.lora_A.weight',
    'base_model.model.model.layers.0.self_attn.W_pack.lora_A.weight',
    'base_model.model.lm_head.lora_A.weight',
    'base_model.model.model.embed_tokens.lora_embedding_A',
    'xbase_model.model.model.layers.0.self_attn.q_proj.lora_A.weight',
  ]) {
    assert.is(parseAdapterFileName(name), undefined, name);
  }
});
