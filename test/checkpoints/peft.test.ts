// SPDX-License-Identifier: Apache-2.0
// PEFT adapters: what PEFT wrote is read and written back as the same bytes; what is not implemented is refused by name; an
// adapter that is there survives every fault.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import {
  type Adapter,
  type AdapterTensorName,
  checkAdapterFits,
  type ElementType,
  openSafetensors,
  readAdapter,
  readLlamaConfig,
  systemFiles,
  writeAdapter,
  writeSafetensors,
} from '../../checkpoints/index.js';
import { fromF32 } from '../../checkpoints/tensor-file.js';
import { shared, suite } from '../support/harness.js';
import { contents, faultyLayer, inDirectory, throwsUserError } from './support.js';

const test = suite('checkpoints/peft');

const REFERENCE = ['mha', 'gqa', 'llama3rope'].flatMap((model) =>
  ['r8_all', 'r32_qkvo'].map((kind) => [model, kind] as const),
);

test('adapters that PEFT saved: settings, values, and the same bytes when written again', () => {
  for (const [model, kind] of REFERENCE) {
    const directory = shared('goldens', 'forward', model, kind, 'adapter');
    const adapter = readAdapter(directory);
    const rank = kind === 'r8_all' ? 8 : 32;
    assert.is(adapter.rank, rank);
    assert.is(adapter.alpha, 2 * rank);
    assert.is(adapter.dropout, 0.05);
    assert.is(adapter.rslora, false);
    assert.is(adapter.baseModel, 'tiny-llama');
    assert.equal(
      adapter.targets,
      kind === 'r8_all' ? ['q', 'k', 'v', 'o', 'gate', 'up', 'down'] : ['q', 'k', 'v', 'o'],
    );
    const file = openSafetensors(join(directory, 'adapter_model.safetensors'));
    assert.is(adapter.tensors.size, file.tensors.size);
    const stored = 'base_model.model.model.layers.1.self_attn.o_proj.lora_B.weight';
    assert.equal(adapter.tensors.get('layers.1.o.B')!.data, file.read(stored));
    assert.equal(adapter.tensors.get('layers.1.o.B')!.shape, file.tensors.get(stored)!.shape);
    file.close();
    checkAdapterFits(adapter, readLlamaConfig(shared('goldens', 'models', model)), directory);
    inDirectory((copy) => {
      writeAdapter(copy, adapter);
      const name = 'adapter_model.safetensors';
      assert.ok(readFileSync(join(copy, name)).equals(readFileSync(join(directory, name))), `${model} ${kind}`);
      assert.equal(readAdapter(copy), adapter);
    });
  }
});

test('the config that we write has only keys that PEFT has known from 0.3 on, and their order does not change', () => {
  const known = JSON.parse(
    readFileSync(shared('goldens', 'forward', 'mha', 'r32_qkvo', 'adapter-peft03', 'adapter_config.json'), 'utf8'),
  );
  inDirectory((directory) => {
    writeAdapter(directory, small(1));
    const text = readFileSync(join(directory, 'adapter_config.json'), 'utf8');
    const keys = Object.keys(JSON.parse(text));
    assert.equal(
      keys.filter((key) => !(key in known)),
      [],
    );
    assert.equal(keys, keys.toSorted());
    assert.match(text, '"target_modules": [\n    "down_proj",\n    "q_proj"\n  ]');
    writeAdapter(directory, { ...small(1), rslora: true, baseModel: 'a/b' });
    assert.is(readAdapter(directory).rslora, true);
    assert.is(readAdapter(directory).baseModel, 'a/b');
  });
});

const WIDTH = 4;
const OUTPUTS = 6;

/** Two layers of rank 2 on `q` and `down`, with values that every type holds exactly. */
function small(factor: number): Adapter {
  const tensors: Adapter['tensors'] = new Map();
  for (const layer of [0, 1]) {
    for (const linear of ['q', 'down'] as const) {
      tensors.set(`layers.${layer}.${linear}.A`, {
        shape: [2, WIDTH],
        data: Float32Array.from({ length: 2 * WIDTH }, (_, i) => (i - layer) * factor),
      });
      tensors.set(`layers.${layer}.${linear}.B`, {
        shape: [OUTPUTS, 2],
        data: Float32Array.from({ length: 2 * OUTPUTS }, (_, i) => (layer - i) * factor),
      });
    }
  }
  return { rank: 2, alpha: 16.5, dropout: 0.1, rslora: false, targets: ['q', 'down'], baseModel: undefined, tensors };
}

type FileTensors = Map<string, { dtype: ElementType; shape: number[]; data: Float32Array | Uint16Array | Int8Array }>;

/** Writes `small` with changed settings, names or tensors, and reads it. undefined removes a setting. */
function readChanged(
  config: object,
  change: (tensors: FileTensors) => FileTensors | undefined = (tensors) => tensors,
): Adapter {
  return inDirectory((directory) => {
    writeAdapter(directory, small(1));
    const path = join(directory, 'adapter_model.safetensors');
    const file = openSafetensors(path);
    const tensors: FileTensors = new Map(
      [...file.tensors].map(([name, { dtype, shape }]) => [
        name,
        { dtype, shape: [...shape], data: (file.read(name) as Float32Array).slice() },
      ]),
    );
    file.close();
    writeSafetensors(path, change(tensors) ?? tensors);
    const configPath = join(directory, 'adapter_config.json');
    writeFileSync(configPath, JSON.stringify({ ...JSON.parse(readFileSync(configPath, 'utf8')), ...config }));
    return readAdapter(directory);
  });
}

const renamed = (rename: (name: string) => string) => (tensors: FileTensors) =>
  new Map([...tensors].map(([name, tensor]) => [rename(name), tensor]));

test('names as found in the wild, and every type of values', () => {
  for (const rename of [
    (name: string) => name.replace('.weight', '.default.weight'),
    (name: string) => name.replace('base_model.model.', ''),
    (name: string) => name.replace('base_model.model.model.', 'base_model.model.'),
    (name: string) => `module.${name}`,
  ]) {
    assert.equal(readChanged({}, renamed(rename)), small(1));
  }
  for (const [type, dtype] of [
    ['bf16', 'BF16'],
    ['f16', 'F16'],
  ] as const) {
    const converted = (tensors: FileTensors): FileTensors =>
      new Map(
        [...tensors].map(([name, { shape, data }]) => [
          name,
          { dtype, shape, data: fromF32(data as Float32Array, type) },
        ]),
      );
    assert.equal(readChanged({}, converted), small(1));
  }
});

test("settings: PEFT's defaults, and keys without effect", () => {
  const tiny = readChanged({
    ...{ lora_dropout: undefined, task_type: null, bias: undefined, base_model_name_or_path: null },
    ...{ enable_lora: null, merge_weights: false, layers_pattern: null, layers_to_transform: [0, 1], revision: 'main' },
    ...{
      auto_mapping: { base_model_class: 'LlamaForCausalLM' },
      rank_pattern: {},
      alpha_pattern: {},
      use_dora: false,
      use_rslora: false,
    },
    ...{
      loftq_config: { loftq_bits: 4 },
      megatron_core: 'megatron.core',
      qalora_group_size: 16,
      peft_version: '9.9',
      init_lora_weights: 'gaussian',
    },
    ...{ a_setting_of_tomorrow: null, another: false, exclude_modules: ['lm_head'] },
  });
  assert.equal(tiny, { ...small(1), dropout: 0 });
  assert.is(readChanged({ lora_alpha: undefined }).alpha, 8);
  assert.is(readChanged({ lora_alpha: 16.0 }).alpha, 16);
  assert.is(readChanged({ use_rslora: true }).rslora, true);
  for (const target_modules of [
    'all-linear',
    '.*(q|down)_proj',
    null,
    ['self_attn.q_proj', 'mlp.down_proj'],
    ['model.layers.0.self_attn.q_proj', 'q_proj', 'down_proj'],
  ]) {
    assert.equal(readChanged({ target_modules }).targets, ['q', 'down']);
  }
});

const NOT_IMPLEMENTED: [key: string, value: unknown][] = [
  ['use_dora', true],
  ['rank_pattern', { q_proj: 4 }],
  ['alpha_pattern', { q_proj: 4 }],
  ['modules_to_save', ['lm_head']],
  ['fan_in_fan_out', true],
  ['enable_lora', [true, false, true]],
  ['lora_bias', true],
  ['layer_replication', [[0, 1]]],
  ['trainable_token_indices', [1]],
  ['target_parameters', ['x']],
  ['use_qalora', true],
  ['use_bdlora', { a: 1 }],
  ['alora_invocation_tokens', [1]],
  ['arrow_config', { top_k: 3 }],
  ['megatron_config', { x: 1 }],
  ['a_setting_of_tomorrow', 'on'],
];
for (const [key, value] of NOT_IMPLEMENTED) {
  test(`refused by name: ${key}`, () => {
    throwsUserError(() => readChanged({ [key]: value }), {
      expected: new RegExp(`^${key}: nothing, as it is not implemented`),
      where: /adapter_config\.json$/,
      remedy: /merge the adapter/,
    });
  });
}

const WRONG: [name: string, config: object, expected: RegExp, found: RegExp][] = [
  ['another kind', { peft_type: 'IA3' }, /^peft_type: 'LORA'/, /"IA3"/],
  ['no kind', { peft_type: undefined }, /^peft_type/, /nothing/],
  ['another task', { task_type: 'SEQ_CLS' }, /^task_type: 'CAUSAL_LM'/, /"SEQ_CLS"/],
  ['biases', { bias: 'lora_only' }, /^bias: 'none'/, /"lora_only"/],
  [
    'a start that changes the base',
    { init_lora_weights: 'pissa_niter_16' },
    /^init_lora_weights: a start that leaves the base/,
    /"pissa_niter_16"/,
  ],
  ['a rank of text', { r: '8' }, /^r: a whole number from 1/, /"8"/],
  ['a rank of zero', { r: 0 }, /^r: a whole number from 1/, /0/],
  ['alpha of text', { lora_alpha: '16' }, /^lora_alpha: a number > 0/, /"16"/],
  ['dropout of one', { lora_dropout: 1 }, /^lora_dropout: a number ≥ 0 and < 1/, /1/],
  ['targets that are no list', { target_modules: { q_proj: 1 } }, /^target_modules: a list/, /q_proj/],
  [
    'a target elsewhere',
    { target_modules: ['q_proj', 'lm_head'] },
    /^target_modules: names among q_proj, .*down_proj/,
    /"lm_head"/,
  ],
];
for (const [name, config, expected, found] of WRONG) {
  test(`refused: ${name}`, () => {
    throwsUserError(() => readChanged(config), { expected, found, where: /adapter_config\.json$/ });
  });
}

test('wrong tensors are all named at once', () => {
  const q = (factor: string, layer = 0) =>
    `base_model.model.model.layers.${layer}.self_attn.q_proj.lora_${factor}.weight`;
  const error = throwsUserError(
    () =>
      readChanged({}, (tensors) => {
        tensors.delete(q('B', 1));
        tensors.set(q('A'), { dtype: 'F32', shape: [3, WIDTH], data: new Float32Array(3 * WIDTH) });
        tensors.set(q('B'), { dtype: 'I8', shape: [OUTPUTS, 2], data: new Int8Array(2 * OUTPUTS) });
        for (const name of [
          'base_model.model.lm_head.weight',
          q('A').replace('q_proj', 'v_proj'),
          q('A', 1).replace('.weight', '.default.weight'),
        ]) {
          tensors.set(name, { dtype: 'F32', shape: [2, WIDTH], data: new Float32Array(2 * WIDTH) });
        }
        return tensors;
      }),
    {
      expected: /factors A and B of q_proj, down_proj in every layer/,
      where: /adapter_model\.safetensors$/,
      remedy: /same plain LoRA/,
    },
  );
  assert.is(
    error.found,
    [
      'other tensors:',
      '    missing:',
      `      ${q('B', 1)}`,
      '    misshaped:',
      `      ${q('A')}: [3, 4] in the file, [2, inputs] by r in adapter_config.json`,
      `      ${q('B')}: I8 in the file, not F32, BF16 or F16`,
      '    unexpected:',
      '      base_model.model.lm_head.weight [2, 4]: no LoRA factor of a linear layer',
      `      ${q('A').replace('q_proj', 'v_proj')}: not among target_modules`,
      `      ${q('A', 1)}: the same place as ${q('A', 1).replace('.weight', '.default.weight')}`,
    ].join('\n'),
  );
  throwsUserError(() => readChanged({ target_modules: ['q_proj', 'down_proj', 'up_proj'] }), {
    found: /missing:\n.*layers\.0\.mlp\.up_proj\.lora_A/,
  });
  throwsUserError(() => readChanged({ r: 4 }), { found: /\[2, 4\] in the file, \[4, inputs\] by r/ });
  throwsUserError(() => readChanged({}, () => new Map()), { found: /no tensors/ });
  throwsUserError(
    () =>
      readChanged(
        {},
        renamed((name) => name.replace('layers.1', 'layers.5000')),
      ),
    { found: /layers\.5000.*no LoRA factor/ },
  );
});

test('folders without an adapter that can be read', () => {
  const mha = (...parts: string[]) => shared('goldens', 'forward', 'mha', 'r32_qkvo', ...parts);
  throwsUserError(() => readAdapter('no-such-folder'), { expected: /the folder of an adapter/ });
  throwsUserError(() => readAdapter(mha('adapter', 'adapter_config.json')), {
    found: /a file/,
    remedy: /the folder that holds it/,
  });
  throwsUserError(() => readAdapter(mha()), { expected: /adapter_config\.json/, found: /nothing of that name/ });
});

test('an adapter for another model is refused with both shapes', () => {
  const adapter = readAdapter(shared('goldens', 'forward', 'mha', 'r32_qkvo', 'adapter'));
  const gqa = readLlamaConfig(shared('goldens', 'models', 'gqa'));
  throwsUserError(() => checkAdapterFits(adapter, gqa, 'the/adapter'), {
    expected: /an adapter for a model of 3 layers and width 96/,
    found:
      /another model \('tiny-llama'\):\n {4}missing:\n {6}layers\.2\.q\.A \[32, 96\][\s\S]*layers\.0\.q\.A: \[32, 64\] in the adapter, \[32, 96\] for the model/,
    where: /the\/adapter/,
  });
  const mha = readLlamaConfig(shared('goldens', 'models', 'mha'));
  throwsUserError(() => checkAdapterFits(adapter, { ...mha, layers: 1 }, ''), {
    found: /unexpected:\n {6}layers\.1\.q\.A/,
  });
});

test('wrong sizes are found before a file is touched', () => {
  inDirectory((directory) => {
    writeAdapter(directory, small(1));
    const old = contents(directory);
    const broken = (name: AdapterTensorName, tensor: { shape: [number, number]; data: Float32Array } | undefined) => {
      const adapter = small(2);
      if (tensor) adapter.tensors.set(name, tensor);
      else adapter.tensors.delete(name);
      return adapter;
    };
    const never = { ...systemFiles, create: () => assert.unreachable('no file may be made') };
    const layer = never as unknown as typeof systemFiles;
    for (const adapter of [
      broken('layers.1.down.B', { shape: [OUTPUTS, 2], data: new Float32Array(3) }),
      broken('layers.0.q.A', { shape: [3, WIDTH], data: new Float32Array(3 * WIDTH) }),
      broken('layers.0.q.A', undefined),
      { ...small(2), targets: ['q'] as Adapter['targets'] },
      { ...small(2), tensors: new Map() },
    ]) {
      assert.throws(
        () => writeAdapter(directory, adapter, layer),
        /expected a factor of rank 2|an adapter of \d tensors/,
      );
    }
    assert.equal(contents(directory), old);
  });
});

/** Writes a second adapter over a first with a layer that fails at each call in turn, and looks at what is left. */
function overwriteAtEveryCall(
  second: Adapter,
  duration: 'once' | 'after',
  look: (directory: string, n: number) => void,
): number {
  for (let n = 0; ; n++) {
    const layer = faultyLayer(n, duration);
    inDirectory((directory) => {
      writeAdapter(directory, small(1));
      try {
        writeAdapter(directory, second, layer);
      } catch {
        // What it left is looked at.
      }
      look(directory, n);
    });
    if (layer.calls <= n) return n;
  }
}

test('a new adapter over an old one: a fault at any call leaves the old or the new', () => {
  const second = { ...small(2), alpha: 99 };
  let old = 0;
  const calls = overwriteAtEveryCall(second, 'once', (directory, n) => {
    const found = readAdapter(directory);
    if (found.alpha === 16.5) old++;
    assert.equal(found, found.alpha === 16.5 ? small(1) : second, `fault at call ${n}`);
    const names = Object.keys(contents(directory)).filter((name) => !name.endsWith('.previous'));
    assert.equal(names, ['adapter_config.json', 'adapter_model.safetensors'], `fault at call ${n}`);
  });
  assert.ok(calls > 15 && old >= calls - 4, `${calls} calls, ${old} times the old`);
});

test('killed at any call: the old adapter, the new one, or a clear word; never a mix', () => {
  const second = { ...small(2), alpha: 99 };
  let interrupted = 0;
  overwriteAtEveryCall(second, 'after', (directory, n) => {
    try {
      const found = readAdapter(directory);
      assert.equal(found, found.alpha === 16.5 ? small(1) : second, `killed at call ${n}`);
    } catch {
      interrupted++;
      throwsUserError(() => readAdapter(directory), { found: /interrupted/, remedy: /\.previous/ });
      for (const name of Object.keys(contents(directory)).filter((name) => name.endsWith('.previous'))) {
        renameSync(join(directory, name), join(directory, name.replace('.previous', '')));
      }
      assert.equal(readAdapter(directory), small(1), `killed at call ${n}: the remedy gives the old one back`);
    }
  });
  assert.ok(interrupted > 0 && interrupted < 5, `${interrupted} times interrupted`);
});

test('killed at any call while only values change, as in training: always a whole adapter', () => {
  overwriteAtEveryCall(small(2), 'after', (directory, n) => {
    const found = readAdapter(directory);
    const isNew = found.tensors.get('layers.0.q.A')!.data[1] === 2;
    assert.equal(found, small(isNew ? 2 : 1), `killed at call ${n}`);
  });
});
