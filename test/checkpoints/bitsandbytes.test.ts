// SPDX-License-Identifier: Apache-2.0
// 4-bit checkpoints: those that transformers wrote give the very logits of quantising ourselves, those that we write have the
// library's bytes, and what is damaged or of another kind is refused by name.
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { dequantized, findPacked, pythonNumber, readPacked } from '../../checkpoints/bitsandbytes.js';
import { type Model, openModel, openSafetensors, writeSafetensors } from '../../checkpoints/index.js';
import { CpuDevice, Llama, planDevice, type Quantization, shapesOnly } from '../../engine/index.js';
import { quantize } from '../../tasks/quantize.js';
import { goldenInputs } from '../support/golden-model.js';
import { readGolden } from '../support/goldens.js';
import { shared, suite } from '../support/harness.js';
import { inDirectory, throwsUserError } from './support.js';

const test = suite('checkpoints/bitsandbytes');

const golden = (...parts: string[]) => shared('goldens', 'models', ...parts);

async function logitsOf(path: string, quantization: Quantization, model: 'mha' | 'gqa'): Promise<Float32Array> {
  const files = openModel(path);
  const llama = new Llama(new CpuDevice({ compute: 'f32', poison: true }), files.config, files, { quantization });
  const logits = await llama.logits(goldenInputs(model, 'right'));
  llama.dispose();
  files.close();
  return logits;
}

for (const name of ['mha', 'gqa'] as const) {
  test(`${name}: the 4-bit checkpoint of transformers gives the logits of quantising ourselves, to the bit`, async () => {
    const wanted = await logitsOf(golden(name), 'nf4', name);
    // As the files have them, and as training asks for: there is nothing to quantise.
    assert.equal(await logitsOf(golden(`${name}-bnb4`), 'none', name), wanted);
    assert.equal(await logitsOf(golden(`${name}-bnb4`), 'nf4', name), wanted);
  });

  test(`${name}: what we write has the tensors of the library, to the bit`, async () => {
    await inDirectory(async (directory) => {
      const output = join(directory, 'copy');
      await quantize({ model: golden(name), output, verify: true });
      const wanted = readGolden('models', `${name}-bnb4`, 'model.safetensors');
      const file = openSafetensors(join(output, 'model.safetensors'));
      assert.equal([...file.tensors.keys()].sort(), [...wanted.keys()].sort());
      for (const [tensor, { dtype, shape, data }] of wanted) {
        assert.equal(file.tensors.get(tensor)!.dtype, dtype, tensor);
        assert.equal(file.tensors.get(tensor)!.shape, shape, tensor);
        assert.equal(file.read(tensor), data, tensor);
      }
      file.close();
      assert.equal(await logitsOf(output, 'none', name), await logitsOf(golden(name), 'nf4', name));
      const ours = JSON.parse(readFileSync(join(output, 'config.json'), 'utf8'));
      const theirs = JSON.parse(readFileSync(golden(`${name}-bnb4`, 'config.json'), 'utf8'));
      // The type that the library computes in follows the weights; the goldens' was asked for.
      theirs.quantization_config.bnb_4bit_compute_dtype = { mha: 'float32', gqa: 'bfloat16' }[name];
      assert.equal(ours, theirs);
    });
  });
}

test('values, and what they stand for', () => {
  for (const [name, nested] of [
    ['linear4bit_single', false],
    ['linear4bit_dq', true],
    ['linear4bit_dq_bias', true],
  ] as const) {
    const file = openSafetensors(shared('goldens', 'nf4', `${name}.safetensors`));
    const wanted = readGolden('nf4', `${name}.dequant.safetensors`).get('weight_f32')!;
    const tensors = new Map([...file.tensors.keys()].map((tensor) => [tensor, file]));
    const packed = findPacked(tensors, 'layer.weight', wanted.shape)!;
    assert.is(packed.doubleQuantized, nested);
    assert.equal(packed.parts.length, nested ? 6 : 4);
    const values = readPacked(tensors, 'layer.weight', wanted.shape as [number, number], packed);
    assert.equal(dequantized(values), wanted.data);
    assert.is(findPacked(tensors, 'layer.other', [2, 2]), undefined);
    file.close();
  }
});

test('the plan of a 4-bit model counts the bytes that its files have', () => {
  const files = openModel(golden('gqa-bnb4'));
  const device = planDevice('f32');
  const source = shapesOnly(files.config, (name) => files.storedAs(name));
  new Llama(device, files.config, source, { quantization: 'none' });
  let bytes = files.config.width * 4 * (2 * files.config.layers + 1); // norms are held in f32
  const held = (model: Model, name: (typeof files.tensorNames)[number]) => {
    const packed = model.nf4(name);
    if (packed) return packed.codes.length + packed.absmaxCodes.length + packed.absmax.length * 4;
    return name.endsWith('Norm') ? 0 : model.weight(name).data.byteLength;
  };
  for (const name of files.tensorNames) bytes += held(files, name);
  assert.is(device.memory.live.get('weights'), bytes);
  files.close();
});

test('codes in another type of storage are the same codes', async () => {
  const wanted = await logitsOf(golden('mha-bnb4'), 'none', 'mha');
  await inDirectory(async (directory) => {
    cpSync(golden('mha-bnb4', 'config.json'), join(directory, 'config.json'));
    changeTensors(directory, (name, tensor) => {
      if (!name.endsWith('q_proj.weight')) return tensor;
      return { ...tensor, dtype: 'BF16', shape: [tensor.shape[0]! / 2, 1] };
    });
    assert.equal(await logitsOf(directory, 'none', 'mha'), wanted);
  });
});

test('a weight in 4 bits has no dense values', () => {
  const files = openModel(golden('mha-bnb4'));
  throwsUserError(() => files.weight('layers.0.q'), {
    expected: /16-bit or 32-bit values of .*q_proj/,
    remedy: /before/,
  });
  assert.is(files.storedAs('layers.0.q'), 'nf4');
  assert.is(files.storedAs('embedding'), 'f32');
  assert.is(files.nf4('embedding'), undefined);
  assert.is(files.stored('layers.1.down').length, 6);
  files.close();
});

test('numbers as Python writes them', () => {
  const cases: [number, string][] = [
    [0, '0.0'],
    [-0, '-0.0'],
    [1, '1.0'],
    [0.20915985107421875, '0.20915985107421875'],
    [0.0001, '0.0001'],
    [0.00001, '1e-05'],
    [1.5e-7, '1.5e-07'],
    [1e16, '1e+16'],
    [123456789012345680, '1.2345678901234568e+17'],
    [1e-100, '1e-100'],
    [-2.5e-5, '-2.5e-05'],
  ];
  for (const [value, text] of cases) assert.is(pythonNumber(value), text);
});

type Tensor = { dtype: 'U8' | 'F32' | 'BF16'; shape: number[]; data: Uint8Array };

/** The tensors of mha-bnb4, changed, as the weights of a folder. */
function changeTensors(directory: string, change: (name: string, tensor: Tensor) => Tensor | undefined): void {
  const file = openSafetensors(golden('mha-bnb4', 'model.safetensors'));
  const tensors = new Map<string, Tensor>();
  for (const [name, { dtype, shape }] of file.tensors) {
    const values = file.read(name);
    const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength).slice();
    const changed = change(name, { dtype: dtype as Tensor['dtype'], shape: [...shape], data });
    if (changed) tensors.set(name, changed);
  }
  file.close();
  writeSafetensors(join(directory, 'model.safetensors'), tensors);
}

const K = 'model.layers.1.self_attn.k_proj.weight';
const STATE = `${K}.quant_state.bitsandbytes__nf4`;
const text = (value: string): Pick<Tensor, 'shape' | 'data'> => ({ data: Buffer.from(value), shape: [value.length] });
const state = (change: (fields: Record<string, unknown>) => object) => (tensor: Tensor) => {
  const fields = JSON.parse(Buffer.from(tensor.data).toString()) as Record<string, unknown>;
  return { ...tensor, ...text(JSON.stringify(change(fields))) };
};

const FAULTS: Record<
  string,
  [tensor: string, (tensor: Tensor) => Tensor | undefined, expected: RegExp, found: RegExp]
> = {
  'no absmax': [`${K}.absmax`, () => undefined, /tensor '.*k_proj.weight.absmax' beside it/, /none/],
  'a short absmax': [`${K}.absmax`, (t) => ({ ...t, shape: [63], data: t.data.subarray(1) }), /U8 \[64\]/, /U8 \[63\]/],
  'a short nested map': [
    `${K}.nested_quant_map`,
    (t) => ({ ...t, shape: [255], data: t.data.subarray(4) }),
    /F32 \[256\]/,
    /\[255\]/,
  ],
  'another table of values': [`${K}.quant_map`, (t) => ({ ...t, data: t.data.toReversed() }), /-1 at 0 of/, /./],
  'codes missing': [K, (t) => ({ ...t, shape: [2047, 1], data: t.data.subarray(1) }), /2048 bytes of codes/, /2047/],
  'codes without a state': [STATE, () => undefined, /the 21 tensors/, /k_proj/],
  'no JSON': [STATE, (t) => ({ ...t, ...text('{"quant_type"') }), /state of a quantised weight: JSON/, /./],
  'no UTF-8': [STATE, (t) => ({ ...t, data: Buffer.from([0xff]), shape: [1] }), /in UTF-8/, /bytes that are not/],
  'a huge state': [STATE, (t) => ({ ...t, ...text(' '.repeat(5000)) }), /at most 4096 U8/, /\[5000\]/],
  'another type': [STATE, state((f) => ({ ...f, quant_type: 'fp4' })), /quant_type: 'nf4'/, /fp4/],
  'another block size': [STATE, state((f) => ({ ...f, blocksize: 128 })), /blocksize: a whole number from 64/, /128/],
  'another shape': [STATE, state((f) => ({ ...f, shape: [64, 32] })), /shape: \[64, 64\]/, /\[64,32\]/],
  'a shape of texts': [STATE, state((f) => ({ ...f, shape: 'x' })), /shape: \[64, 64\]/, /x/],
  'no offset': [STATE, state(({ nested_offset, ...f }) => f), /nested_offset: a number/, /nothing/],
  'another nested type': [
    STATE,
    state((f) => ({ ...f, nested_dtype: 'float16' })),
    /nested_dtype: 'float32'/,
    /float16/,
  ],
};

for (const [name, [tensor, change, expected, found]] of Object.entries(FAULTS)) {
  test(`refused: ${name}`, () => {
    inDirectory((directory) => {
      cpSync(golden('mha-bnb4', 'config.json'), join(directory, 'config.json'));
      changeTensors(directory, (candidate, values) => (candidate === tensor ? change(values) : values));
      throwsUserError(() => openModel(directory), { expected, found, where: /tacotune-/ });
    });
  });
}

test('refused: quantisation of other kinds, by the config', () => {
  const fields = JSON.parse(readFileSync(golden('mha-bnb4', 'config.json'), 'utf8'));
  for (const [change, expected] of [
    [{ load_in_4bit: false, load_in_8bit: true }, /load_in_4bit: true: 8-bit/],
    [{ bnb_4bit_quant_type: 'fp4' }, /bnb_4bit_quant_type: 'nf4'/],
    [{ quant_method: 'gptq' }, /quant_method: 'bitsandbytes'/],
  ] as const) {
    inDirectory((directory) => {
      const quantization_config = { ...fields.quantization_config, ...change };
      writeFileSync(join(directory, 'config.json'), JSON.stringify({ ...fields, quantization_config }));
      throwsUserError(() => openModel(directory), { expected, where: /config\.json/, remedy: /original model/ });
    });
  }
});
