// SPDX-License-Identifier: Apache-2.0
// Model directories: the same weights from one file, shards and other types; everything wrong with one said at once; and a
// written model that survives faults.
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import {
  LINEAR_NAMES as FILE_LINEAR_NAMES,
  type LlamaConfig,
  type Model,
  openModel,
  openSafetensors,
  type TensorData,
  type TensorInfo,
  type WeightName,
  weightPlaces,
  writeModel,
  writeSafetensors,
} from '../../checkpoints/index.js';
import { toF32 } from '../../checkpoints/tensor-file.js';
import { LINEAR_NAMES, type WeightSource, weightShapes } from '../../engine/index.js';
import { shared, suite } from '../support/harness.js';
import { contents, faultyLayer, inDirectory, throwsUserError } from './support.js';

const test = suite('checkpoints/hugging-face');

function values(model: Model, name: WeightName): Float32Array {
  const { data, dtype } = model.weight(name);
  return toF32(data, dtype);
}

/** Runs `body` on an open model. */
function withModel<T>(directory: string, body: (model: Model) => T): T {
  const model = openModel(directory);
  try {
    return body(model);
  } finally {
    model.close();
  }
}

type Tensors = Map<string, TensorInfo & { data: TensorData }>;

/** The tensors of a file, copied. */
function tensorsOf(path: string): Tensors {
  const file = openSafetensors(path);
  const tensors = new Map([...file.tensors].map(([name, info]) => [name, { ...info, data: file.read(name).slice() }]));
  file.close();
  return tensors;
}

/** Opens a copy of the `mha` reference model that `change` has worked on. */
function openChanged(change: {
  config?: object;
  tensors?: (tensors: Tensors) => void;
  files?: (directory: string) => void;
}): void {
  const source = shared('goldens', 'models', 'mha');
  inDirectory((directory) => {
    const config = JSON.parse(readFileSync(join(source, 'config.json'), 'utf8'));
    writeFileSync(join(directory, 'config.json'), JSON.stringify({ ...config, ...change.config }));
    const tensors = tensorsOf(join(source, 'model.safetensors'));
    change.tensors?.(tensors);
    writeSafetensors(join(directory, 'model.safetensors'), tensors);
    change.files?.(directory);
    openModel(directory).close();
  });
}

test("our names and shapes are the engine's", () => {
  assert.equal([...FILE_LINEAR_NAMES], [...LINEAR_NAMES]);
  for (const name of ['mha', 'gqa', 'llama3rope']) {
    withModel(shared('goldens', 'models', name), (model) => {
      const source: WeightSource = model; // an open model is what the engine loads from
      assert.equal(
        weightPlaces(model.config).map(({ name, shape }) => ({ name, shape })),
        weightShapes(model.config),
      );
      for (const { name, shape } of weightShapes(model.config)) assert.equal(source.weight(name).shape, shape);
    });
  }
});

test('every weight has its stored values and type', () => {
  for (const [name, dtype] of [
    ['mha', 'f32'],
    ['gqa', 'bf16'],
    ['llama3rope', 'f16'],
  ] as const) {
    const directory = shared('goldens', 'models', name);
    const stored = tensorsOf(join(directory, 'model.safetensors'));
    withModel(directory, (model) => {
      assert.is(model.tensorNames.length, stored.size);
      for (const { name, fileName } of weightPlaces(model.config)) {
        const weight = model.weight(name);
        assert.is(weight.dtype, dtype);
        assert.equal(weight.data, stored.get(fileName)!.data, name);
        model.done(name);
        assert.equal(weight.data, stored.get(fileName)!.data, `${name}, its pages dropped`);
      }
    });
  }
});

test('a tied head is the embedding', () => {
  withModel(shared('goldens', 'models', 'gqa'), (model) => {
    assert.ok(model.config.tiedHead);
    assert.not(model.tensorNames.includes('head'));
    assert.is(model.weight('head').data, model.weight('embedding').data);
  });
});

test('shards hold what the single file holds', () => {
  withModel(shared('goldens', 'models', 'mha'), (single) => {
    withModel(shared('goldens', 'models', 'mha-sharded'), (sharded) => {
      assert.equal(sharded.config, single.config);
      for (const name of single.tensorNames) {
        assert.is(sharded.weight(name).dtype, 'bf16');
        assert.equal(values(sharded, name), values(single, name), name);
      }
    });
  });
});

test('a real model opens', () => {
  withModel(shared('models', 'aidreams-260k'), (model) => {
    assert.is(model.config.layers, 4);
    assert.is(model.weight('layers.3.down').data.length, 64 * 172);
  });
});

test("links to files elsewhere are followed, as Hugging Face's cache needs", () => {
  inDirectory((directory) => {
    cpSync(shared('goldens', 'models', 'mha-sharded'), join(directory, 'blobs'), { recursive: true });
    mkdirSync(join(directory, 'snapshot'));
    for (const name of readdirSync(join(directory, 'blobs')))
      symlinkSync(join('..', 'blobs', name), join(directory, 'snapshot', name));
    withModel(join(directory, 'snapshot'), (model) => assert.is(model.weight('finalNorm').data.length, 64));
  });
});

test('tensors missing, misshaped, of other types and too many are all named at once, with both shapes', () => {
  const error = throwsUserError(
    () =>
      openChanged({
        tensors: (tensors) => {
          tensors.delete('model.norm.weight');
          tensors.set('model.layers.1.self_attn.q_proj.weight', {
            dtype: 'F32',
            shape: [32, 64],
            data: new Float32Array(32 * 64),
          });
          tensors.set('model.layers.0.mlp.up_proj.weight', {
            dtype: 'I8',
            shape: [176, 64],
            data: new Int8Array(176 * 64),
          });
          tensors.set('model.layers.0.self_attn.q_proj.bias', {
            dtype: 'F32',
            shape: [64],
            data: new Float32Array(64),
          });
        },
      }),
    { expected: /the 21 tensors of the LLaMA model/, where: /tacotune-/, remedy: /same model/ },
  );
  assert.is(
    error.found,
    [
      'other tensors:',
      '    missing:',
      '      model.norm.weight [64]',
      '    misshaped:',
      '      model.layers.0.mlp.up_proj.weight: I8 in the file, not F32, BF16 or F16',
      '      model.layers.1.self_attn.q_proj.weight: [32, 64] in the file, [64, 64] by config.json',
      '    unexpected:',
      '      model.layers.0.self_attn.q_proj.bias [64]',
    ].join('\n'),
  );
});

test('a config for another size names the tensors, but not hundreds of them', () => {
  const error = throwsUserError(() => openChanged({ config: { num_hidden_layers: 40 } }), {
    found: /missing:\n {6}model\.layers\.2\./,
  });
  assert.match(error.message, '… and 330 more');
  throwsUserError(() => openChanged({ config: { vocab_size: 300 } }), {
    found: /model\.embed_tokens\.weight: \[256, 64\] in the file, \[300, 64\] by config\.json/,
  });
  throwsUserError(() => openChanged({ config: { num_hidden_layers: 1 } }), {
    found: /unexpected:\n.*model\.layers\.1\./,
  });
});

test('derived tables of old checkpoints are ignored', () => {
  openChanged({
    tensors: (tensors) => {
      for (const name of ['model.layers.0.self_attn.rotary_emb.inv_freq', 'model.rotary_emb.inv_freq'])
        tensors.set(name, { dtype: 'F32', shape: [8], data: new Float32Array(8) });
    },
  });
});

test('a head beside "tied" must equal the embedding', () => {
  const config = { tie_word_embeddings: true };
  throwsUserError(() => openChanged({ config }), {
    expected: /lm_head\.weight to equal/,
    remedy: /"tie_word_embeddings": false/,
  });
  openChanged({
    config,
    tensors: (tensors) => tensors.set('lm_head.weight', tensors.get('model.embed_tokens.weight')!),
  });
  openChanged({ config, tensors: (tensors) => tensors.delete('lm_head.weight') });
  throwsUserError(() => openChanged({ tensors: (tensors) => tensors.delete('lm_head.weight') }), {
    found: /lm_head\.weight \[256, 64\]/,
  });
});

/** Opens the sharded reference model after `change` has worked on its index and files. */
function openShardedChanged(
  change: (index: { weight_map?: Record<string, unknown> }, directory: string) => void,
): void {
  inDirectory((directory) => {
    const source = shared('goldens', 'models', 'mha-sharded');
    for (const name of readdirSync(source)) copyFileSync(join(source, name), join(directory, name));
    const index = JSON.parse(readFileSync(join(source, 'model.safetensors.index.json'), 'utf8'));
    change(index, directory);
    writeFileSync(join(directory, 'model.safetensors.index.json'), JSON.stringify(index));
    openModel(directory).close();
  });
}

/** As above, with entries added to the index; undefined removes one. */
function openReindexed(entries: Record<string, unknown>): void {
  openShardedChanged((index) => Object.assign(index.weight_map!, entries));
}

test('an index cannot name files elsewhere', () => {
  const elsewhere = [
    '../model.safetensors',
    '/etc/x.safetensors',
    'a/b.safetensors',
    'a\\b.safetensors',
    'x\0.safetensors',
  ];
  for (const shard of [...elsewhere, '..', '', 'model.bin', '.safetensors/../x.safetensors', 5, null]) {
    throwsUserError(() => openReindexed({ 'model.norm.weight': shard }), {
      expected: /^weight_map\.model\.norm\.weight: the name of a \.safetensors file in the same folder/,
      where: /index\.json$/,
    });
  }
});

test('an index that does not fit its files', () => {
  const SHARD = 'model-00001-of-00003.safetensors';
  const emptied = (index: { weight_map?: object }) => {
    index.weight_map = {};
  };
  throwsUserError(() => openShardedChanged(emptied), { expected: /1 to 512 files/, found: /^0$/ });
  throwsUserError(() => openShardedChanged((index) => delete index.weight_map), { expected: /^weight_map: an object/ });
  throwsUserError(() => openReindexed({ x: 'gone.safetensors' }), { found: /nothing of that name/, where: /gone/ });
  throwsUserError(() => openReindexed({ 'model.norm.weight': SHARD }), {
    found:
      /norm\.weight: the index places it in model-00001-.*does not have it\n.*norm\.weight: in model-00003.*, but the index places it in model-00001/,
  });
  throwsUserError(() => openReindexed({ 'model.norm.weight': undefined }), {
    found:
      /missing:\n {6}model\.norm\.weight \[64\][\s\S]*norm\.weight: in model-00003.*, but the index does not name it/,
  });
  const cut = (_: object, directory: string) => writeFileSync(join(directory, SHARD), 'x');
  throwsUserError(() => openShardedChanged(cut), { where: /model-00001/, remedy: /damaged/ });
  const removed = (_: object, directory: string) => unlinkSync(join(directory, SHARD));
  throwsUserError(() => openShardedChanged(removed), { where: /model-00001/ });
});

test('folders without weights that can be read', () => {
  throwsUserError(() => openModel('no-such-folder'), {
    expected: /the folder of a model/,
    found: /nothing of that name/,
  });
  throwsUserError(() => openModel(shared('goldens', 'models', 'mha', 'model.safetensors')), {
    found: /a file/,
    remedy: /the folder that holds it/,
  });
  throwsUserError(() => openChanged({ files: (directory) => unlinkSync(join(directory, 'model.safetensors')) }), {
    expected: /model\.safetensors, pytorch_model\.bin, /,
    found: /none of them/,
  });
});

/** A small model with values that f16 and bf16 hold exactly. */
const SMALL: LlamaConfig = {
  vocabularySize: 16,
  width: 8,
  feedForwardWidth: 12,
  layers: 2,
  queryHeads: 2,
  keyValueHeads: 1,
  headWidth: 4,
  rmsNormEps: 1e-5,
  ropeTheta: 10_000,
  ropeScaling: undefined,
  tiedHead: true,
  maxPositions: 32,
  bosTokenId: 1,
  eosTokenIds: [2],
  padTokenId: undefined,
};
const smallValues = (factor: number) => (name: WeightName) => {
  const size = weightPlaces(SMALL)
    .find((place) => place.name === name)!
    .shape.reduce((a, b) => a * b, 1);
  return Float32Array.from({ length: size }, (_, i) => ((i % 100) - 50) * factor);
};

test('a model is written and read again in every type', async () => {
  await inDirectory(async (directory) => {
    for (const dtype of ['f32', 'bf16', 'f16'] as const) {
      await writeModel(directory, SMALL, async (name) => smallValues(0.5)(name), { dtype });
      withModel(directory, (model) => {
        assert.equal(model.config, SMALL);
        for (const name of model.tensorNames) {
          assert.is(model.weight(name).dtype, dtype);
          assert.equal(values(model, name), smallValues(0.5)(name), name);
        }
      });
    }
    assert.equal(readdirSync(directory).sort(), ['config.json', 'model.safetensors']);
  });
});

test('a model written over another: a fault at any call leaves the old or the new one', async () => {
  await inDirectory(async (directory) => {
    const restart = () => writeModel(directory, SMALL, smallValues(1));
    let n = 0;
    for (; ; n++) {
      await restart();
      const old = contents(directory);
      const layer = faultyLayer(n, 'once');
      // Another epsilon, so that both files change.
      let failed = false;
      await writeModel(directory, { ...SMALL, rmsNormEps: 1e-6 }, smallValues(2), { layer }).catch(() => {
        failed = true;
      });
      if (layer.calls <= n) break;
      withModel(directory, (model) => {
        const isNew = model.config.rmsNormEps === 1e-6;
        assert.equal(values(model, 'finalNorm'), smallValues(isNew ? 2 : 1)('finalNorm'), `fault at call ${n}`);
        if (!isNew) assert.equal(contents(directory), old, `fault at call ${n}`);
        assert.is(failed || isNew, true);
      });
    }
    assert.ok(n > 30, `${n} calls`);
  });
});

test('values of a wrong size, or a source that fails, leave the old model', async () => {
  await inDirectory(async (directory) => {
    await writeModel(directory, SMALL, smallValues(1));
    const old = contents(directory);
    const rejects = async (source: (name: WeightName) => Float32Array, message: RegExp) => {
      const error = await writeModel(directory, SMALL, source).then(
        () => undefined,
        (thrown: Error) => thrown,
      );
      assert.match(String(error?.message), message);
      assert.equal(contents(directory), old);
    };
    await rejects(
      (name) => (name === 'finalNorm' ? new Float32Array(7) : smallValues(1)(name)),
      /finalNorm: expected \[8\] values, got 7/,
    );
    await rejects((name) => {
      if (name === 'layers.1.q') throw new Error('device lost');
      return smallValues(2)(name);
    }, /device lost/);
    writeFileSync(join(directory, 'model.safetensors.index.json'), '{}');
    const error = await writeModel(directory, SMALL, smallValues(1)).catch((thrown: Error) => thrown);
    assert.match(String(error?.message), /a folder without a model in shards/);
  });
});
