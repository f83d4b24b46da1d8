// SPDX-License-Identifier: Apache-2.0
// GGUF: values of packed types against the Python package's, models and adapters written and read again with the logits of the
// originals, and malformed files refused by name and place.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { GGML_TYPES, ggmlTypeOf, packQ8_0 } from '../../checkpoints/ggml-types.js';
import { openGguf, openModel, permuteRows, readAdapter, writeAdapter } from '../../checkpoints/index.js';
import { convert } from '../../tasks/convert.js';
import { exportGguf } from '../../tasks/export-gguf.js';
import { openForInference } from '../../tasks/open-model.js';
import { quantize } from '../../tasks/quantize.js';
import { GOLDEN_MODELS, type GoldenModel, goldenInputs } from '../support/golden-model.js';
import { relativeToMax } from '../support/goldens.js';
import { projectRoot, shared, suite } from '../support/harness.js';
import { inFolder, TINY_CONFIG, writeTinyModel } from '../support/tiny.js';
import { type ByteLevelOptions, byteLevelJson } from '../tokenizer/byte-level-json.js';
import { ggufBytes, tensorInfo, text, u32, u64, value } from './gguf-bytes.js';
import { throwsUserError, withScratchFile } from './support.js';

const test = suite('checkpoints/gguf');

interface Fixture {
  bytes: string;
  values: string;
}
const fixtures = () =>
  JSON.parse(readFileSync(join(projectRoot, 'test', 'checkpoints', 'fixtures', 'ggml-blocks.json'), 'utf8')) as Record<
    string,
    Fixture
  >;
const bytesOf = (base64: string) => Uint8Array.from(Buffer.from(base64, 'base64'));

test('packed values are those of the Python package, to the bit', () => {
  let compared = 0;
  for (const { name, unpack, bytes, elements } of GGML_TYPES) {
    if (!unpack) continue;
    const fixture = fixtures()[name]!;
    const packed = bytesOf(fixture.bytes);
    const out = new Float32Array((packed.length / bytes) * elements);
    unpack(packed, out);
    assert.equal(out, new Float32Array(bytesOf(fixture.values).buffer), name);
    compared++;
  }
  assert.is(compared, 4);
  const { bytes, values } = fixtures()['pack Q8_0']!;
  assert.equal(packQ8_0(new Float32Array(bytesOf(values).buffer)), bytesOf(bytes));
});

test('rows change their order and back', () => {
  const rows = Float32Array.from({ length: 2 * 6 * 3 }, (_, i) => Math.floor(i / 3));
  const there = permuteRows(rows, 3, 6, 'to-ggml');
  assert.equal(
    [...there].filter((_, i) => i % 3 === 0),
    [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11],
  );
  assert.equal(permuteRows(there, 3, 6, 'from-ggml'), rows);
});

async function logitsOf(model: string, name: GoldenModel, adapter?: string): Promise<Float32Array> {
  const opened = await openForInference({ model, adapter, compute: 'f32' });
  const logits = await opened.llama.logits(goldenInputs(name, 'right'));
  opened.close();
  return logits;
}

/** A vocabulary file as small as the golden models' vocabularies: its pieces are not looked at here. */
function vocabulary(path: string, size: number): string {
  const piece = (text: string, type: number) => {
    const bytes = Buffer.from(text);
    const body = Buffer.concat([Buffer.from([0x0a, bytes.length]), bytes, Buffer.from([0x15, 0, 0, 0, 0, 0x18, type])]);
    return Buffer.concat([Buffer.from([0x0a, body.length]), body]);
  };
  const pieces = [piece('<unk>', 2), piece('<s>', 3), piece('</s>', 3)];
  for (let id = 3; id < size; id++) pieces.push(piece(`p${id}`, 1));
  const trainer = Buffer.from([0x12, 2, 0x18, 2]); // model_type: bpe
  writeFileSync(path, Buffer.concat([...pieces, trainer]));
  return path;
}

for (const name of GOLDEN_MODELS) {
  test(`${name}: a model as GGUF gives its own logits when read again`, () =>
    inFolder(async (folder) => {
      const model = shared('goldens', 'models', name);
      const wanted = await logitsOf(model, name);
      const tokenizer = vocabulary(join(folder, 'v.model'), 200);
      for (const [type, tolerance] of [
        ['f32', 0],
        ['f16', 2e-3],
        ['bf16', 2e-2],
        ['q8_0', 3e-2],
      ] as const) {
        const output = join(folder, `${type}.gguf`);
        const { widened } = await exportGguf({ model, type, tokenizer, output });
        assert.is(widened.length, type === 'q8_0' && name === 'mha' ? 2 : 0, String(widened));
        const difference = relativeToMax(await logitsOf(output, name), wanted);
        assert.ok(difference <= tolerance, `${type}: off by ${difference}`);
        const [copy, original] = [openModel(output), openModel(model)];
        const { padTokenId: _, ...config } = original.config;
        const { padTokenId: __, ...read } = copy.config;
        assert.equal(read, config);
        copy.close();
        original.close();
      }
    }));
}

test('a GGUF model is a base to quantise and to adapt like any other', () =>
  inFolder(async (folder) => {
    const model = shared('goldens', 'models', 'gqa');
    const adapter = shared('goldens', 'forward', 'gqa', 'r8_all', 'adapter');
    const gguf = join(folder, 'model.gguf');
    await exportGguf({ model, type: 'bf16', tokenizer: vocabulary(join(folder, 'v.model'), 300), output: gguf });
    assert.equal(await logitsOf(gguf, 'gqa', adapter), await logitsOf(model, 'gqa', adapter));
    await quantize({ model: gguf, output: join(folder, 'nf4'), verify: true });
    await quantize({ model, output: join(folder, 'nf4-of-original') });
    assert.equal(await logitsOf(join(folder, 'nf4'), 'gqa'), await logitsOf(join(folder, 'nf4-of-original'), 'gqa'));
  }));

test('an adapter as GGUF: names, order of rows, scale', () =>
  inFolder(async (folder) => {
    const model = shared('goldens', 'models', 'gqa');
    const adapter = readAdapter(shared('goldens', 'forward', 'gqa', 'r8_all', 'adapter'));
    writeAdapter(join(folder, 'rs'), { ...adapter, rslora: true });
    for (const [path, alpha] of [
      [shared('goldens', 'forward', 'gqa', 'r8_all', 'adapter'), 16],
      [join(folder, 'rs'), 16 * Math.sqrt(8)],
    ] as const) {
      const output = join(folder, 'lora.gguf');
      await exportGguf({ model, adapter: path, output });
      const file = openGguf(output);
      assert.is(file.metadata.get('general.type'), 'adapter');
      assert.is(file.metadata.get('adapter.lora.alpha'), Math.fround(alpha));
      assert.is(file.tensors.size, adapter.tensors.size);
      assert.equal(file.read('blk.1.ffn_down.weight.lora_a'), adapter.tensors.get('layers.1.down.A')!.data);
      assert.equal(
        permuteRows(file.read('blk.2.attn_k.weight.lora_b'), 8, 16, 'from-ggml'),
        adapter.tensors.get('layers.2.k.B')!.data,
      );
      assert.equal(file.read('blk.2.attn_k.weight.lora_a'), adapter.tensors.get('layers.2.k.A')!.data);
      file.close();
    }
  }));

test('a model with its adapter merged', () =>
  inFolder(async (folder) => {
    const model = shared('goldens', 'models', 'llama3rope');
    const adapter = shared('goldens', 'forward', 'llama3rope', 'r8_all', 'adapter');
    const output = join(folder, 'merged.gguf');
    const tokenizer = vocabulary(join(folder, 'v.model'), 288);
    await exportGguf({ model, adapter, merge: true, type: 'f32', tokenizer, output });
    const difference = relativeToMax(
      await logitsOf(output, 'llama3rope'),
      await logitsOf(model, 'llama3rope', adapter),
    );
    assert.ok(difference <= 9e-6, `${difference}`);
    // Where nothing is cast, values that stay as they are have a shorter way into files of other formats.
    const wide = join(folder, 'f32');
    await convert({ input: model, output: wide, dtype: 'f32' });
    await exportGguf({ model: wide, adapter, merge: true, type: 'f32', tokenizer, output: join(folder, 'wide.gguf') });
    assert.equal(readFileSync(join(folder, 'wide.gguf')).subarray(-100_000), readFileSync(output).subarray(-100_000));
  }));

test('a byte-level vocabulary as llama.cpp has it; ways to split text that it has no name for are refused', () =>
  inFolder(async (folder) => {
    const { bosTokenId: _, ...config } = TINY_CONFIG;
    const model = await writeTinyModel(join(folder, 'm'), { ...config, vocabularySize: 300 });
    const digits = { type: 'Digits', individual_digits: true };
    const gpt2 = { type: 'ByteLevel', add_prefix_space: false, use_regex: true };
    const cases: [name: string, ByteLevelOptions][] = [
      ['llama-bpe', {}],
      ['gpt-2', { steps: [gpt2], ignoreMerges: false }],
      ['smollm', { steps: [digits, gpt2], ignoreMerges: false }],
    ];
    const tokenizer = join(folder, 'tokenizer.json');
    const output = join(folder, 'x.gguf');
    for (const [name, options] of cases) {
      const json = byteLevelJson('the cat, the hat; the end', 8, { ...options, plain: ['<think>'] });
      writeFileSync(tokenizer, JSON.stringify(json));
      await exportGguf({ model, type: 'f32', tokenizer, output });
      const file = openGguf(output);
      const key = (key: string) => file.metadata.get(`tokenizer.ggml.${key}`);
      assert.equal([key('model'), key('pre'), key('add_bos_token')], ['gpt2', name, true]);
      const size = 256 + new Set(json.model.merges.map((pair) => pair.replace(' ', ''))).size;
      assert.equal([key('bos_token_id'), key('eos_token_id')], [size, 2], "the model's own eos");
      file.close();
      // The lists as they lie in the file: our reader passes over them.
      const bytes = readFileSync(output);
      const texts = (list: readonly string[]) => {
        return Buffer.concat([u32(8), u64(list.length), ...list.map(text)]);
      };
      const unused = Array.from({ length: 300 - size - 3 }, (_, i) => `[PAD${size + 3 + i}]`);
      const pieces = Object.entries(json.model.vocab).sort(([, a], [, b]) => a - b); // digits are keys that come first
      const tokens = [...pieces.map(([piece]) => piece), '<|begin|>', '<|end|>', '<think>', ...unused];
      assert.ok(bytes.includes(texts(tokens)), `${name}: tokens`);
      assert.ok(bytes.includes(texts(json.model.merges)), `${name}: merges`);
      const types = [...Array(size).fill(1), 3, 3, 4, ...unused.map(() => 5)];
      assert.ok(bytes.includes(Buffer.from(Int32Array.from(types).buffer)), `${name}: types`);
    }
    const before = readFileSync(output);
    for (const options of [{ ignoreMerges: false }, { steps: [gpt2] }, { steps: [digits, digits, gpt2] }]) {
      writeFileSync(tokenizer, JSON.stringify(byteLevelJson('the cat', 2, options)));
      const fault = await exportGguf({ model, tokenizer, output }).then(
        () => undefined,
        (error: Error) => error.message,
      );
      assert.match(String(fault), /split as by llama-bpe, gpt-2, smollm.*export the adapter alone/s);
    }
    assert.equal(readFileSync(output), before);
  }));

const F32 = ggmlTypeOf('F32').id;
const good = (tensors = [tensorInfo('a', [4], F32, 0)], keys = [value('k', 4, u32(1))]) => ggufBytes(keys, tensors, 32);
const long = (type: number, length: bigint, rest: Uint8Array = Buffer.alloc(0)) =>
  value('k', 9, Buffer.concat([u32(type), u64(length), rest]));

const FILES: Record<string, [bytes: Uint8Array, expected: RegExp, found: RegExp]> = {
  'an empty file': [Buffer.alloc(0), /a GGUF file/, /other bytes/],
  'another file': [Buffer.alloc(100), /a GGUF file/, /other bytes/],
  'version 1': [ggufBytes([], [], 0, { version: 1 }), /version 2 or 3/, /version 1/],
  'big-endian': [ggufBytes([], [], 0, { version: 0x03000000 }), /version 2 or 3/, /50331648/],
  '2⁶³ tensors': [ggufBytes([], [], 0, { tensors: 1n << 63n }), /below 2⁵³/, /9223372036854775808/],
  'a million tensors': [ggufBytes([], [], 0, { tensors: 1_000_000n }), /at most 131072 tensors/, /1000000/],
  '2⁶⁴-1 keys': [ggufBytes([], [], 0, { keys: (1n << 64n) - 1n }), /below 2⁵³/, /18446744073709551615/],
  'a million keys': [ggufBytes([], [], 0, { keys: 1_000_000n }), /at most 65536 keys/, /1000000/],
  'a key twice': [good(undefined, [value('k', 4, u32(1)), value('k', 4, u32(1))]), /each key once/, /'k' twice/],
  'a key of 2⁶² bytes': [good(undefined, [Buffer.concat([u64(1n << 62n), Buffer.alloc(8)])]), /below 2⁵³/, /4611686/],
  'a key of a megabyte': [
    good(undefined, [Buffer.concat([u64(1_000_000n), Buffer.alloc(8)])]),
    /a key of at most 65536/,
    /1000000/,
  ],
  'a key that is no UTF-8': [
    good(undefined, [Buffer.concat([u64(1n), Buffer.from([0xff]), u32(4), u32(1)])]),
    /UTF-8/,
    /not/,
  ],
  'a value of an unknown type': [good(undefined, [value('k', 13, u32(1))]), /'k' of a type from 0 to 12/, /type 13/],
  'a text beyond the file': [good(undefined, [value('k', 8, u64(1_000_000n))]), /a header of at most/, /longer/],
  'a list of 2⁵² elements': [
    good(undefined, [long(4, 1n << 52n)]),
    /as many elements as the file can hold/,
    /4503599627370496/,
  ],
  'a list of an unknown type': [good(undefined, [long(99, 1n, u32(0))]), /a type from 0 to 12/, /type 99/],
  'lists within lists': [
    good(undefined, [long(9, 1n, Buffer.concat([9, 9, 9, 9].flatMap((t) => [u32(t), u64(1n)])))]),
    /lists at most 4 deep/,
    /deeper/,
  ],
  'an odd alignment': [
    good(undefined, [value('general.alignment', 4, u32(12))]),
    /general\.alignment: a multiple of 8/,
    /12/,
  ],
  'no alignment': [good(undefined, [value('general.alignment', 4, u32(0))]), /general\.alignment/, /0/],
  'a tensor twice': [
    good([tensorInfo('a', [4], F32, 0), tensorInfo('a', [4], F32, 0)]),
    /each tensor once/,
    /'a' twice/,
  ],
  'two tensors in one place': [
    good([tensorInfo('a', [4], F32, 0), tensorInfo('b', [4], F32, 0)]),
    /'b' behind the end of 'a'/,
    /overlap/,
  ],
  'a tensor beyond the file': [
    good([tensorInfo('a', [1000], F32, 0)]),
    /a file of at least \d+ bytes, as 'a' F32 \[1000\]/,
    /\d+/,
  ],
  'a tensor far beyond the file': [good([tensorInfo('a', [4], F32, 2 ** 52)]), /a file of at least/, /\d+/],
  'a tensor out of line': [good([tensorInfo('a', [4], F32, 4)]), /'a' at a multiple of 32/, /4/],
  'absurd dimensions': [
    good([tensorInfo('a', [2 ** 40, 2 ** 40], F32, 0)]),
    /number of elements below 2⁵³/,
    /1099511627776/,
  ],
  'five dimensions': [good([tensorInfo('a', [1, 1, 1, 1, 4], F32, 0)]), /at most 4 dimensions/, /5/],
  'a type that is not read': [good([tensorInfo('a', [256], 10, 0)]), /'a' in a type that is read/, /Q2_K/],
  'a type that nobody knows': [good([tensorInfo('a', [4], 77, 0)]), /'a' in a type that is read/, /type 77/],
  'rows that are no whole blocks': [good([tensorInfo('a', [31, 2], 8, 0)]), /in blocks of 32, as Q8_0/, /rows of 31/],
};

for (const [name, [bytes, expected, found]] of Object.entries(FILES)) {
  test(`refused: ${name}`, () => {
    withScratchFile('x.gguf', (path, set) => {
      set(bytes);
      const error = throwsUserError(() => openGguf(path), { expected, found, where: /x\.gguf/ });
      assert.ok(error.message.length < 600, error.message);
    });
  });
}

test('a good file cut at every byte', () => {
  const bytes = good();
  withScratchFile('x.gguf', (path, set) => {
    set(bytes);
    const file = openGguf(path);
    assert.is(file.metadata.get('k'), 1);
    assert.is(file.read('a').length, 4);
    file.close();
    for (let length = 0; length < bytes.length - 16; length++) {
      set(bytes.subarray(0, length));
      throwsUserError(() => openGguf(path), { where: /x\.gguf/ });
    }
  });
});

test('models of other kinds are refused by the key that says so', () => {
  const llama = (...more: Uint8Array[]) => [
    value('general.architecture', 8, text('llama')),
    value('llama.embedding_length', 4, u32(64)),
    value('llama.block_count', 4, u32(1)),
    value('llama.feed_forward_length', 4, u32(32)),
    value('llama.attention.head_count', 4, u32(4)),
    ...more,
  ];
  const cases: [keys: Uint8Array[], expected: RegExp][] = [
    [[value('general.architecture', 8, text('mamba'))], /general\.architecture: 'llama'/],
    [llama(value('llama.expert_count', 4, u32(8))), /llama\.expert_count: 0/],
    [llama(value('llama.rope.dimension_count', 4, u32(8))), /llama\.rope\.dimension_count: 16/],
    [llama(value('llama.rope.scaling.type', 8, text('yarn'))), /llama\.rope\.scaling\.type: 'none' or 'linear'/],
    [llama(value('llama.context_length', 8, text('many'))), /max_position_embeddings: a whole number/],
    [llama(), /the 11 tensors of the LLaMA model/],
  ];
  for (const [keys, expected] of cases) {
    withScratchFile('x.gguf', (path, set) => {
      set(ggufBytes(keys, [tensorInfo('token_embd.weight', [64, 8], F32, 0)], 2048));
      throwsUserError(() => openModel(path), { expected, where: /x\.gguf/ });
    });
  }
});
