// SPDX-License-Identifier: Apache-2.0
// Torch's own files: those that torch saved hold the reference values; malformed and malicious ones are refused by name, and
// nothing in a file runs.
import { readFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import * as assert from 'uvu/assert';
import { openModel, openSafetensors, openTensorFile, readAdapter } from '../../checkpoints/index.js';
import { toF32, weightType } from '../../checkpoints/tensor-file.js';
import { UserError } from '../../errors.js';
import { shared, suite } from '../support/harness.js';
import { generator, throwsUserError, withScratchFile } from './support.js';
import {
  archive,
  bytesOf,
  call,
  code,
  dict,
  int,
  legacy,
  name,
  program,
  storage,
  tensor,
  text,
  tuple,
  zip,
} from './torch-bytes.js';

const test = suite('checkpoints/torch');

type Body = (file: ReturnType<typeof openTensorFile>) => void;

/** Runs `body` on an open file. */
function openPath(path: string, body: Body): void {
  const file = openTensorFile(path);
  try {
    body(file);
  } finally {
    file.close();
  }
}

/** Opens these bytes as a torch file. */
function open(bytes: Uint8Array, body: Body = () => undefined): void {
  withScratchFile('x.bin', (path, set) => {
    set(bytes);
    openPath(path, body);
  });
}

test('models that torch saved, in one file and in shards, hold the values of the safetensors model', () => {
  const reference = openModel(shared('goldens', 'models', 'mha'));
  for (const [directory, dtype] of [
    ['mha-bin', 'bf16'],
    ['mha-bin-sharded', 'f16'],
  ] as const) {
    const model = openModel(shared('goldens', 'models', directory));
    assert.equal(model.config, reference.config);
    for (const weight of reference.tensorNames) {
      const { data, dtype: found, shape } = model.weight(weight);
      assert.is(found, dtype);
      assert.equal(shape, reference.weight(weight).shape);
      assert.equal(toF32(data, found), reference.weight(weight).data, `${directory} ${weight}`);
      model.done(weight);
    }
    model.close();
  }
  reference.close();
});

test('adapters that torch saved, in both of its formats, hold the values of the safetensors ones', () => {
  const golden = (...parts: string[]) => shared('goldens', 'forward', 'mha', ...parts);
  for (const [kind, ...files] of [
    ['r8_all', 'adapter_model.bin'],
    ['r32_qkvo', 'adapter_model.bin', 'adapter_model.legacy.bin'],
  ] as const) {
    const reference = openSafetensors(golden(kind, 'adapter', 'adapter_model.safetensors'));
    for (const fileName of files) {
      const file = openTensorFile(golden(kind, 'adapter', fileName));
      assert.equal([...file.tensors.keys()].sort(), [...reference.tensors.keys()].sort());
      for (const [key, { dtype, shape }] of file.tensors) {
        assert.equal(shape, reference.tensors.get(key)!.shape);
        const type = weightType(dtype)!;
        assert.is(type, kind === 'r8_all' ? 'f32' : 'f16');
        assert.equal(toF32(file.read(key) as Float32Array, type), reference.read(key), `${fileName} ${key}`);
      }
      file.close();
    }
    reference.close();
  }
  const old = readAdapter(golden('r32_qkvo', 'adapter-peft03'));
  assert.equal(old, { ...readAdapter(golden('r32_qkvo', 'adapter')) });
});

const SIX = new Float32Array([0, 1, 2, 3, 4, 5]);
const FLOATS = storage('0', 'torch.FloatStorage', 6);

test('views: shared storages, offsets, strides, scalars, empty tensors', () => {
  const value = dict(
    ...[text('whole'), tensor(FLOATS, 0, [2, 3], [3, 1])],
    ...[text('transposed'), tensor(FLOATS, 0, [3, 2], [1, 3])],
    ...[text('column'), tensor(FLOATS, 1, [2, 1], [3, 1])],
    ...[text('cube'), tensor(FLOATS, 0, [1, 2, 3], [77, 1, 2])],
    ...[text('part'), tensor(FLOATS, 2, [3], [1])],
    ...[text('scalar'), tensor(FLOATS, 5, [], [])],
    ...[text('empty'), tensor(FLOATS, 0, [0, 3], [3, 1])],
    ...[
      text('parameter'),
      call('torch._utils._rebuild_parameter', tensor(FLOATS, 4, [2], [1]), code('\x88'), code('N')),
    ],
  );
  const expected: Record<string, number[]> = {
    whole: [0, 1, 2, 3, 4, 5],
    transposed: [0, 3, 1, 4, 2, 5],
    column: [1, 4],
    cube: [0, 2, 4, 1, 3, 5],
    part: [2, 3, 4],
    scalar: [5],
    empty: [],
    parameter: [4, 5],
  };
  for (const bytes of [archive(value, { '0': bytesOf(SIX) }), legacy(value, [['0', 6, bytesOf(SIX)]])]) {
    open(bytes, (file) => {
      assert.equal([...file.tensors.keys()], Object.keys(expected));
      for (const [key, values] of Object.entries(expected))
        assert.equal(file.read(key), Float32Array.from(values), key);
    });
  }
});

test('every type of storage', () => {
  const types = {
    DoubleStorage: new Float64Array([1.5]),
    FloatStorage: new Float32Array([1.5]),
    HalfStorage: new Uint16Array([0x3e00]),
    BFloat16Storage: new Uint16Array([0x3fc0]),
    LongStorage: new BigInt64Array([-7n]),
    IntStorage: new Int32Array([-7]),
    ShortStorage: new Int16Array([-7]),
    CharStorage: new Int8Array([-7]),
    ByteStorage: new Uint8Array([7]),
    BoolStorage: new Uint8Array([1]),
  };
  const keys = Object.keys(types);
  const value = dict(
    ...keys.flatMap((type, i) => [text(type), tensor(storage(`${i}`, `torch.${type}`, 1), 0, [1], [1])]),
  );
  const storages = Object.fromEntries(Object.values(types).map((data, i) => [i, bytesOf(data)]));
  open(archive(value, storages), (file) => {
    for (const [key, data] of Object.entries(types)) assert.equal(file.read(key), data, key);
  });
});

test('archives: large-file records, no byte order, an OrderedDict with attributes', () => {
  const value = code(
    call('collections.OrderedDict'),
    '(',
    text('a'),
    tensor(FLOATS, 0, [6], [1]),
    'u',
    dict(text('_metadata'), int(1)),
    'b',
  );
  for (const [zip64, zip64End] of [
    [false, true],
    [true, false],
    [true, true],
  ] as const) {
    const bytes = zip(
      [
        ['m/data.pkl', program(value), { zip64 }],
        ['m/data/0', bytesOf(SIX), { zip64 }],
      ],
      zip64End,
    );
    open(bytes, (file) => assert.equal(file.read('a'), SIX));
  }
});

/** A value nested in itself twice, over and over: 2¹⁰⁰ leaves if it were written out. */
const BOMB = code(
  ']',
  ...Array.from({ length: 100 }, (_, i) =>
    code('q', Uint8Array.of(i), '0](h', Uint8Array.of(i), 'h', Uint8Array.of(i), 'e'),
  ),
);
const good = dict(text('a'), tensor(FLOATS, 0, [6], [1]));
const data = { '0': bytesOf(SIX) };
const one = (value: Uint8Array) => archive(dict(text('a'), value), data);
const entries = (...list: Parameters<typeof zip>[0]) => zip([['m/data.pkl', program(good)], ...list]);

const FILES: Record<string, [bytes: Uint8Array, expected: RegExp, found: RegExp]> = {
  'a command for the shell': [
    archive(call('posix.system', text('touch /tmp/x'))),
    /tensors and containers/,
    /a call for posix\.system/,
  ],
  'a command in the older format': [
    legacy(call('builtins.eval', text('1')), []),
    /tensors and containers/,
    /builtins\.eval/,
  ],
  'a command by a name from the stack': [
    archive(code(text('os'), text('system'), '\x93')),
    /tensors and containers/,
    /os\.system/,
  ],
  'a name that objects inherit': [
    archive(name('toString.constructor')),
    /tensors and containers/,
    /toString\.constructor/,
  ],
  'a name with an absurd length': [
    archive(name(`a.${'b'.repeat(5000)}`)),
    /tensors and containers/,
    /^a call for a\.b{1,100}$/,
  ],
  'an instruction to import a module': [archive(code('i')), /an instruction/, /0x69/],
  'an instruction for new objects': [archive(code(name('collections.OrderedDict'), ')\x81')), /an instruction/, /0x81/],
  'a call of a text': [archive(code(text('x'), ')R')), /a known function/, /something else/],
  'a call of a storage type': [archive(call('torch.FloatStorage')), /a tensor/, /a call of a type/],
  'a call without arguments': [
    archive(code(name('collections.OrderedDict'), text('x'), 'R')),
    /a known function and its arguments/,
    /./,
  ],
  'a dict made of numbers': [archive(call('collections.OrderedDict', tuple(int(1)))), /pairs of a dict/, /\[1\]/],
  'a number for the file': [archive(int(5)), /a dict of names and tensors/, /a number/],
  'a tensor for the file': [archive(tensor(FLOATS, 0, [6], [1]), data), /a dict of names/, /a tensor/],
  'a dict in the dict': [archive(dict(text('model'), good), data), /a tensor by the name "model"/, /a dict/],
  'a number for a name': [archive(dict(int(1), tensor(FLOATS, 0, [6], [1])), data), /a tensor by the name 1/, /./],
  'a value in itself': [archive(dict(text('a'), code(']q\x01h\x01a'))), /a tensor by the name "a"/, /a list/],
  'a value with 2¹⁰⁰ leaves': [archive(dict(BOMB, int(1))), /a tensor by the name \[\[\[/, /a number/],
  'that value for a storage': [
    one(tensor(code(tuple(text('storage'), BOMB, BOMB), 'Q'), 0, [1], [1])),
    /the description of a storage/,
    /\["storage"/,
  ],
  'a stack that runs empty': [archive(code('0000')), /a value on the stack/, /none/],
  'a tuple across a mark': [archive(code('N(\x86')), /a value on the stack/, /none/],
  'no mark': [archive(code('t')), /a mark on the stack/, /none/],
  'pairs for a list': [archive(code(']K\x01K\x02s')), /a dict to add pairs to/, /./],
  'half a pair': [archive(code('}(K\x01u')), /a dict to add pairs to/, /./],
  'a list for a dict': [archive(code('}K\x01a')), /a list to append to/, /./],
  'a memory that was never set': [archive(code('h\x07')), /a remembered value 7/, /none/],
  'a text longer than the pickle': [archive(code('X\xff\xff\xff\x7f')), /2147483647 more bytes/, /the end/],
  'a pickle without an end': [zip([['m/data.pkl', code('\x80\x02}')]]), /1 more bytes/, /the end/],
  'a text that is no UTF-8': [archive(code('U\x02\xff\xfe')), /UTF-8/, /./],
  'a storage of an unknown type': [
    one(tensor(storage('0', 'torch.QInt8Storage', 6), 0, [6], [1])),
    /tensors and containers/,
    /QInt8Storage/,
  ],
  'a storage that leaves the archive': [
    one(tensor(storage('../../etc/passwd', 'torch.FloatStorage', 6), 0, [6], [1])),
    /the description of a storage/,
    /etc\/passwd/,
  ],
  'a storage of less than nothing': [
    one(tensor(storage('0', 'torch.FloatStorage', -6), 0, [6], [1])),
    /the description of a storage/,
    /-6/,
  ],
  'a storage of two types': [
    archive(
      dict(
        text('a'),
        tensor(FLOATS, 0, [6], [1]),
        text('b'),
        tensor(storage('0', 'torch.HalfStorage', 6), 0, [6], [1]),
      ),
      data,
    ),
    /storage '0' to be one thing/,
    /F32 and F16/,
  ],
  'a storage that is not there': [archive(good), /storage '0' in the archive/, /no such entry/],
  'a storage of another size': [archive(good, { '0': new Uint8Array(20) }), /storage '0' of 24 bytes/, /20/],
  'a view of a storage': [
    legacy(dict(text('a'), tensor(storage('0', 'torch.FloatStorage', 6, tuple(int(1))), 0, [6], [1])), [
      ['0', 6, bytesOf(SIX)],
    ]),
    /a whole storage/,
    /a view/,
  ],
  'a tensor behind its storage': [one(tensor(FLOATS, 1, [6], [1])), /within its storage of 6/, /ends at 7/],
  'a tensor wider than its storage': [one(tensor(FLOATS, 0, [2, 3], [4, 1])), /within its storage of 6/, /ends at 7/],
  'a tensor larger than its storage, by strides of 0': [
    one(tensor(FLOATS, 0, [100_000, 100_000], [0, 0])),
    /within its storage/,
    /\[100000, 100000\]/,
  ],
  'absurd dimensions': [
    one(tensor(FLOATS, 0, [2 ** 30, 2 ** 30, 2 ** 30], [1, 1, 1])),
    /within its storage/,
    /1073741824/,
  ],
  'strides below zero': [one(tensor(FLOATS, 5, [6], [-1])), /storage, offset, shape and strides/, /./],
  'strides of another number': [one(tensor(FLOATS, 0, [6], [1, 1])), /within its storage/, /\[6\]/],
  'a tensor without a storage': [one(tensor(int(1), 0, [6], [1])), /storage, offset, shape and strides/, /./],
  'a view that negates': [one(tensor(FLOATS, 0, [6], [1], dict(text('neg'), code('\x88')))), /plain values/, /negates/],
  'big-endian values': [
    zip([
      ['m/data.pkl', program(good)],
      ['m/byteorder', Buffer.from('big')],
      ['m/data/0', bytesOf(SIX)],
    ]),
    /little-endian/,
    /big/,
  ],
  'no pickle in the archive': [zip([['m/data/0', bytesOf(SIX)]]), /one data\.pkl/, /0/],
  'two pickles': [
    zip([
      ['m/data.pkl', program(good)],
      ['n/data.pkl', program(good)],
    ]),
    /one data\.pkl/,
    /2/,
  ],
  'compressed entries': [
    entries(['m/data/0', bytesOf(SIX), { method: 8 }]),
    /'m\/data\/0' as plain bytes/,
    /compression method 8/,
  ],
  'encrypted entries': [entries(['m/data/0', bytesOf(SIX), { flags: 1 }]), /'m\/data\/0' as plain bytes/, /encrypted/],
  'an entry twice': [
    entries(['m/data/0', bytesOf(SIX)], ['m/data/0', bytesOf(SIX)]),
    /each name once/,
    /'m\/data\/0' twice/,
  ],
  'an entry beyond the file': [
    entries(['m/data/0', bytesOf(SIX), { bytes: 1 << 20 }]),
    /'m\/data\/0' of 1048576 bytes/,
    /the end of the file/,
  ],
  'an entry far beyond the file': [
    entries(['m/data/0', bytesOf(SIX), { bytes: 2 ** 40, zip64: true }]),
    /of 1099511627776 bytes/,
    /the end/,
  ],
  'an entry of 2⁵³ bytes': [
    entries(['m/data/0', bytesOf(SIX), { bytes: 2 ** 53, zip64: true }]),
    /below 2⁵³/,
    /9007199254740992/,
  ],
  'a pickle of an absurd size': [zip([['m/data.pkl', program(good), { bytes: 2 ** 31 }]]), /the end|data\.pkl/, /./],
  'an archive without a directory': [Buffer.from('PK\x03\x04 and no more'), /a directory at its end/, /none/],
  'no torch file': [Buffer.from('hello'), /a zip archive or pickle of torch\.save/, /other bytes/],
  'an empty file': [new Uint8Array(0), /a zip archive or pickle/, /other bytes/],
  'another magic number': [
    legacy(good, [['0', 6, bytesOf(SIX)]], '00000000000000000001'),
    /a zip archive or pickle/,
    /other bytes/,
  ],
  'older format: a storage too short': [
    legacy(good, [['0', 6, bytesOf(SIX).subarray(0, 20)]]),
    /a file of \d+ bytes/,
    /\d+/,
  ],
  'older format: another number of elements': [
    legacy(good, [['0', 5, bytesOf(SIX)]]),
    /6 elements in storage '0'/,
    /5/,
  ],
  'older format: a storage that no tensor has': [legacy(good, [['9', 6, bytesOf(SIX)]]), /storage "9"/, /none/],
  'older format: a storage that is not there': [legacy(good, []), /storage '0' in the file|a file of/, /./],
};

for (const [title, [bytes, expected, found]] of Object.entries(FILES)) {
  test(`refused: ${title}`, () => {
    const error = throwsUserError(() => open(bytes), { expected, found, where: /x\.bin/ });
    assert.ok(error.message.length < 700, error.message);
  });
}

test('checksums: values and pickle are compared with them, where the writer counted them', () => {
  const entries = (pickleCrc: number, dataCrc: number) =>
    zip([
      ['m/data.pkl', program(good), { crc: pickleCrc }],
      ['m/data/0', bytesOf(SIX), { crc: dataCrc }],
    ]);
  const [pickleCrc, dataCrc] = [crc32(program(good)), crc32(bytesOf(SIX))];
  open(entries(pickleCrc, dataCrc), (file) => {
    assert.equal(file.read('a'), SIX);
    assert.equal([...file.blocks('a')], [SIX]);
  });
  open(entries(0, 0), (file) => assert.equal(file.read('a'), SIX));
  throwsUserError(() => open(entries(1, dataCrc)), { expected: /data\.pkl with checksum 1/ });
  open(entries(pickleCrc, 1), (file) => {
    const parts = { expected: /values of 'a' as they were written, with checksum 1/, where: /x\.bin/ };
    throwsUserError(() => file.read('a'), parts);
    throwsUserError(() => [...file.blocks('a')], parts);
  });
});

test('a bit flipped in the values of a file that torch saved is found when they are read', () => {
  const bytes = readFileSync(shared('goldens', 'models', 'mha-bin', 'pytorch_model.bin'));
  open(bytes, (file) => {
    for (const key of file.tensors.keys()) file.read(key);
  });
  const random = generator(7);
  for (let run = 0; run < 40; run++) {
    const at = 20_000 + random(200_000);
    bytes[at] = bytes[at]! ^ (1 << random(8));
    // Between storages there is padding, which no checksum covers and nothing reads.
    const faults: string[] = [];
    open(bytes, (file) => {
      for (const key of file.tensors.keys()) {
        try {
          file.read(key);
        } catch (error) {
          faults.push((error as Error).message);
        }
      }
    });
    assert.ok(faults.length <= 1 && faults.every((fault) => fault.includes('as they were written')));
    if (faults.length === 1) return;
  }
  assert.unreachable('no flipped bit was found');
});

test('blocks hold what the whole holds, in pieces of bounded size', () => {
  const many = new Float32Array(2_500_000).map((_, i) => i);
  const value = dict(
    ...[text('rows'), tensor(storage('0', 'torch.FloatStorage', many.length), 0, [2500, 1000], [1000, 1])],
    ...[text('columns'), tensor(storage('0', 'torch.FloatStorage', many.length), 3, [3, 2], [1, 3])],
  );
  open(archive(value, { '0': bytesOf(many) }), (file) => {
    let count = 0;
    for (const block of file.blocks('rows')) {
      assert.ok(block.byteLength <= 1 << 22);
      assert.equal(block, many.subarray(count, count + block.length));
      count += block.length;
    }
    assert.is(count, many.length);
    assert.equal([...file.blocks('columns')], [Float32Array.of(3, 6, 4, 7, 5, 8)]);
  });
});

test('one long list used many times costs no more than its length', () => {
  const times = (count: number, part: Uint8Array) => Buffer.concat(Array.from({ length: count }, () => part));
  const list = (body: Uint8Array) => code(']q\x01(', body, 'e');
  const sizes = code(list(times(100_000, int(1))), '0'); // remembered, then taken from the stack
  const recalled = code('h\x01');
  const reused = call('torch._utils._rebuild_tensor_v2', FLOATS, int(0), recalled, recalled);
  throwsUserError(() => open(archive(dict(text('a'), code(sizes, reused)))), { expected: /storage, offset, shape/ });
  const pairs = code(list(times(100_000, tuple(int(1), int(2)))), '0');
  const dicts = times(20_000, code(name('collections.OrderedDict'), recalled, '\x85R0'));
  throwsUserError(() => open(archive(code(pairs, dicts, '}'))), { expected: /dicts of at most 1048576 pairs/ });
  const manyArguments = code(name('collections.OrderedDict'), '(', times(200_000, int(1)), 'tR');
  throwsUserError(() => open(archive(manyArguments)), { expected: /a known function and its arguments/ });
});

test('good files cut at every byte', () => {
  for (const bytes of [archive(good, data), legacy(good, [['0', 6, bytesOf(SIX)]])]) {
    open(bytes, (file) => assert.equal(file.read('a'), SIX));
    withScratchFile('cut.bin', (path, set) => {
      for (let length = 0; length < bytes.length; length++) {
        set(bytes.subarray(0, length));
        throwsUserError(() => openPath(path, () => undefined), { where: /cut\.bin/ });
      }
    });
  }
});

test('deep nesting and long texts are no problem', () => {
  const deep = code(']'.repeat(200_000), 'a'.repeat(199_999));
  throwsUserError(() => open(archive(dict(text('a'), deep))), { found: /a list/ });
  throwsUserError(() => open(archive(dict(deep, int(1)))), { found: /a number/ });
});

const seed = Number(process.env['TACOTUNE_SEED'] ?? 1);
test(`random damage, seed ${seed}`, () => {
  const random = generator(seed);
  const sources = [archive(good, data), legacy(good, [['0', 6, bytesOf(SIX)]])];
  let refused = 0;
  withScratchFile('fuzz.bin', (path, set) => {
    for (let run = 0; run < 3000; run++) {
      let bytes = Buffer.from(sources[run % 2]!);
      for (let edits = 1 + random(3); edits > 0; edits--) {
        const at = random(bytes.length);
        const kind = random(8);
        if (kind < 4) bytes[at] = bytes[at]! ^ (1 << random(8));
        else if (kind < 7) bytes[at] = random(256);
        else bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(random(bytes.length))]);
      }
      set(bytes);
      try {
        openPath(path, (file) => {
          for (const key of file.tensors.keys()) file.read(key);
        });
      } catch (error) {
        if (!(error instanceof UserError)) throw new Error(`seed ${seed}, run ${run}`, { cause: error });
        refused++;
      }
    }
  });
  assert.ok(refused > 1000 && refused < 3000, `${refused} refused`);
});
