// SPDX-License-Identifier: Apache-2.0
// config.json in all its styles, its defaults, and what must be refused by name.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { type LlamaConfig, readLlamaConfig } from '../../checkpoints/index.js';
import { formatLlamaConfig } from '../../checkpoints/llama-config.js';
import { shared, suite } from '../support/harness.js';
import { inDirectory, throwsUserError } from './support.js';

const test = suite('checkpoints/llama-config');

const MINIMAL = {
  model_type: 'llama',
  hidden_size: 64,
  intermediate_size: 176,
  num_attention_heads: 4,
  num_hidden_layers: 2,
  vocab_size: 256,
};

function read(fields: object, generation?: object): LlamaConfig {
  return inDirectory((directory) => {
    writeFileSync(join(directory, 'config.json'), JSON.stringify(fields));
    if (generation) writeFileSync(join(directory, 'generation_config.json'), JSON.stringify(generation));
    return readLlamaConfig(directory);
  });
}

test('the three styles of the reference models', () => {
  const { models } = JSON.parse(readFileSync(shared('goldens', 'models', 'models.json'), 'utf8'));
  for (const name of ['mha', 'gqa', 'llama3rope']) {
    const { config: want } = models[name];
    const config = readLlamaConfig(shared('goldens', 'models', name));
    assert.is(config.width, want.hidden);
    assert.is(config.layers, want.layers);
    assert.is(config.queryHeads, want.heads);
    assert.is(config.keyValueHeads, want.kv_heads);
    assert.is(config.headWidth, want.head_dim);
    assert.is(config.feedForwardWidth, want.inter);
    assert.is(config.vocabularySize, want.vocab);
    assert.is(config.rmsNormEps, want.eps);
    assert.is(config.ropeTheta, want.theta);
    assert.is(config.tiedHead, want.tied);
    assert.is(config.bosTokenId, 1);
    assert.equal(config.eosTokenIds, [2]);
    assert.is(config.padTokenId, name === 'mha' ? 0 : undefined);
    assert.is(config.maxPositions, name === 'mha' ? 256 : 512);
    const scaling = {
      type: 'llama3',
      factor: 8,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalMaxPositions: 64,
    };
    assert.equal(config.ropeScaling, want.rope_scaling ? scaling : undefined);
  }
});

test('absent fields have the defaults of transformers', () => {
  assert.equal(read(MINIMAL), {
    vocabularySize: 256,
    width: 64,
    feedForwardWidth: 176,
    layers: 2,
    queryHeads: 4,
    keyValueHeads: 4,
    headWidth: 16,
    rmsNormEps: 1e-6,
    ropeTheta: 10_000,
    ropeScaling: undefined,
    tiedHead: false,
    maxPositions: 2048,
    bosTokenId: 1,
    eosTokenIds: [2],
    padTokenId: undefined,
  });
});

test('rotary positions, as transformers 4 and 5 write them', () => {
  const rope = (fields: object) => {
    const { ropeTheta, ropeScaling } = read({ ...MINIMAL, max_position_embeddings: 4096, ...fields });
    return [ropeTheta, ropeScaling];
  };
  const linear = { type: 'linear' as const, factor: 2 };
  assert.equal(rope({ rope_theta: 5e5, rope_scaling: null }), [5e5, undefined]);
  assert.equal(rope({ rope_scaling: { type: 'linear', factor: 2 } }), [10_000, linear]);
  assert.equal(rope({ rope_theta: 7, rope_scaling: { rope_type: 'linear', factor: 2.0, type: 'linear' } }), [
    7,
    linear,
  ]);
  assert.equal(rope({ rope_parameters: { rope_type: 'linear', factor: 2, rope_theta: 9 }, rope_theta: 7 }), [
    9,
    linear,
  ]);
  assert.equal(rope({ rope_parameters: { rope_theta: 9 } }), [9, undefined]);
  assert.equal(rope({ rope_parameters: { rope_type: 'default' }, rope_theta: 9 }), [9, undefined]);
  const llama3 = { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4 };
  const ours = { type: 'llama3' as const, factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4 };
  assert.equal(rope({ rope_scaling: { ...llama3, original_max_position_embeddings: 64 } })[1], {
    ...ours,
    originalMaxPositions: 64,
  });
  assert.equal(rope({ rope_parameters: llama3 })[1], { ...ours, originalMaxPositions: 4096 });
});

test('special tokens: lists, none, and the numbers below zero of old configs', () => {
  assert.equal(read({ ...MINIMAL, eos_token_id: [2, 5] }).eosTokenIds, [2, 5]);
  assert.equal(read({ ...MINIMAL, eos_token_id: null }).eosTokenIds, []);
  assert.equal(read({ ...MINIMAL, eos_token_id: 2 }, { eos_token_id: [2, 9] }).eosTokenIds, [2, 9]);
  assert.equal(read({ ...MINIMAL, eos_token_id: 3 }, { temperature: 1 }).eosTokenIds, [3]);
  assert.is(read({ ...MINIMAL, bos_token_id: null }).bosTokenId, undefined);
  assert.is(read({ ...MINIMAL, pad_token_id: -1 }).padTokenId, undefined);
  throwsUserError(() => read({ ...MINIMAL, bos_token_id: 256 }), {
    expected: /^bos_token_id: a whole number .* to 255/,
    found: /256/,
  });
  throwsUserError(() => read({ ...MINIMAL, eos_token_id: [2, 256] }), {
    expected: /^eos_token_id: .* below vocab_size \(256\)/,
  });
  throwsUserError(() => read(MINIMAL, { eos_token_id: 'x' }), {
    expected: /^eos_token_id/,
    where: /generation_config\.json/,
  });
});

test('plain Mistral passes, with a sliding window or unstated it does not', () => {
  const mistral = { ...MINIMAL, model_type: 'mistral', num_key_value_heads: 2 };
  assert.is(read({ ...mistral, sliding_window: null }).keyValueHeads, 2);
  throwsUserError(() => read(mistral), { expected: /sliding_window/, found: /"mistral"/ });
  throwsUserError(() => read({ ...mistral, sliding_window: 4096 }), { expected: /sliding_window/ });
  throwsUserError(() => read({ ...MINIMAL, model_type: 'mistral', sliding_window: null }), {
    expected: /num_key_value_heads/,
  });
});

const REFUSED: [name: string, fields: object, expected: RegExp, found: RegExp][] = [
  ['another family', { model_type: 'gpt2' }, /^model_type: 'llama'/, /"gpt2"/],
  ['no family', { model_type: undefined }, /^model_type/, /nothing/],
  ['attention biases', { attention_bias: true }, /^attention_bias: false/, /true/],
  ['feed-forward biases', { mlp_bias: true }, /^mlp_bias: false/, /true/],
  ['another activation', { hidden_act: 'gelu' }, /^hidden_act: 'silu'/, /"gelu"/],
  [
    '4-bit weights of another type',
    { quantization_config: { quant_method: 'bitsandbytes', load_in_4bit: true } },
    /^quantization_config\.bnb_4bit_quant_type: 'nf4'/,
    /"fp4"/,
  ],
  ['GPTQ weights', { quantization_config: { quant_method: 'gptq' } }, /^quantization_config/, /"gptq"/],
  [
    'dynamic positions',
    { rope_scaling: { type: 'dynamic', factor: 2 } },
    /^rope_scaling\.type: 'default', 'linear' or 'llama3'/,
    /"dynamic"/,
  ],
  ['YaRN positions', { rope_parameters: { rope_type: 'yarn', factor: 2 } }, /^rope_parameters\.rope_type/, /"yarn"/],
  ['a scaling without a type', { rope_scaling: { factor: 2 } }, /^rope_scaling\.type: a text/, /nothing/],
  [
    'a scaling that shrinks',
    { rope_scaling: { type: 'linear', factor: 0.5 } },
    /^rope_scaling\.factor: a number ≥ 1/,
    /0\.5/,
  ],
  [
    'frequency factors that meet',
    { rope_scaling: { rope_type: 'llama3', factor: 8, low_freq_factor: 4, high_freq_factor: 4 } },
    /high_freq_factor: a number > 4/,
    /4/,
  ],
  ['partly rotated heads', { partial_rotary_factor: 0.5 }, /^partial_rotary_factor: 1/, /0\.5/],
  [
    'partly rotated heads, style 5',
    { rope_parameters: { rope_type: 'default', partial_rotary_factor: 0.5 } },
    /^rope_parameters\.partial_rotary_factor: 1/,
    /0\.5/,
  ],
  ['a text for a number', { hidden_size: '64' }, /^hidden_size: a whole number/, /"64"/],
  ['no width', { hidden_size: undefined }, /^hidden_size/, /nothing/],
  ['an absurd width', { hidden_size: 1e12 }, /^hidden_size: .* to 16777216/, /1000000000000/],
  ['absurd layers', { num_hidden_layers: 1e9 }, /^num_hidden_layers: .* to 1024/, /1000000000/],
  ['no layers', { num_hidden_layers: 0 }, /^num_hidden_layers: a whole number from 1/, /0/],
  ['half a layer', { num_hidden_layers: 1.5 }, /^num_hidden_layers/, /1\.5/],
  [
    'heads that do not divide the width',
    { num_attention_heads: 3 },
    /^hidden_size: a multiple of num_attention_heads \(3\)/,
    /64/,
  ],
  [
    'heads that cannot be grouped',
    { num_key_value_heads: 3 },
    /^num_key_value_heads: a divisor of num_attention_heads \(4\)/,
    /3/,
  ],
  ['an odd head width', { head_dim: 15 }, /^head_dim: an even number/, /15/],
  ['an epsilon below zero', { rms_norm_eps: -1 }, /^rms_norm_eps: a number ≥ 0/, /-1/],
  ['theta of zero', { rope_theta: 0 }, /^rope_theta: a number > 0/, /0/],
  ['a text for true', { tie_word_embeddings: 'true' }, /^tie_word_embeddings: true or false/, /"true"/],
];
for (const [name, fields, expected, found] of REFUSED) {
  test(`refused: ${name}`, () => {
    throwsUserError(() => read({ ...MINIMAL, ...fields }), { expected, found, where: /config\.json$/ });
  });
}

test('no config, and an adapter in its place', () => {
  inDirectory((directory) => {
    throwsUserError(() => readLlamaConfig(directory), { expected: /config\.json/, found: /nothing of that name/ });
    mkdirSync(join(directory, 'adapter'));
    writeFileSync(join(directory, 'adapter', 'adapter_config.json'), '{}');
    throwsUserError(() => readLlamaConfig(join(directory, 'adapter')), { found: /an adapter/, remedy: /base model/ });
  });
});

test('what is written is read again as the same', () => {
  const plain = read({
    ...MINIMAL,
    head_dim: 32,
    num_key_value_heads: 1,
    tie_word_embeddings: true,
    bos_token_id: null,
    eos_token_id: [2, 7],
    pad_token_id: 0,
  });
  const linear = { ...plain, ropeScaling: { type: 'linear' as const, factor: 4 }, eosTokenIds: [2] };
  const llama3 = {
    ...plain,
    eosTokenIds: [],
    ropeScaling: {
      type: 'llama3' as const,
      factor: 8,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalMaxPositions: 64,
    },
  };
  for (const config of [plain, linear, llama3])
    assert.equal(read(JSON.parse(formatLlamaConfig(config, 'float32'))), config);
});
