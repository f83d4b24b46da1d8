// SPDX-License-Identifier: Apache-2.0
// Malformed safetensors files, each made here by one line: every one is refused with a message that names file and place,
// before a value is touched. Then random damage to a good file: an error of ours or a good reading, never anything else.
import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { openSafetensors } from '../../checkpoints/index.js';
import { UserError } from '../../errors.js';
import { suite } from '../support/harness.js';
import { generator, inDirectory, safetensorsBytes, throwsUserError, withScratchFile } from './support.js';

const test = suite('checkpoints/hostile');

const entry = (dtype: unknown, shape: unknown, offsets: unknown) =>
  JSON.stringify({ dtype, shape, data_offsets: offsets });
/** A file of 8 data bytes with tensor `a` as given. */
const single = (dtype: unknown, shape: unknown, offsets: unknown) =>
  safetensorsBytes(`{"a":${entry(dtype, shape, offsets)}}`, new Uint8Array(8));
const two = (a: string, b: string, bytes: number) => safetensorsBytes(`{"a":${a},"b":${b}}`, new Uint8Array(bytes));
const lengthField = (value: bigint, rest = '{}') => {
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(value);
  return Buffer.concat([start, Buffer.from(rest)]);
};
const good = single('F32', [2], [0, 8]);

const FILES: Record<string, [bytes: Uint8Array, expected: RegExp, found: RegExp]> = {
  'an empty file': [new Uint8Array(0), /at least 8 bytes/, /0 bytes/],
  'seven bytes': [new Uint8Array(7), /at least 8 bytes/, /7 bytes/],
  'a length and no header': [lengthField(2n, ''), /a header of 2 bytes/, /ends within its header/],
  'a header of 2⁶³ bytes': [lengthField(1n << 63n), /at most 100000000 bytes/, /9223372036854775808 bytes/],
  'a header of 2⁶⁴-1 bytes': [lengthField((1n << 64n) - 1n), /at most 100000000/, /18446744073709551615/],
  'a header of one byte more than the limit': [lengthField(100_000_001n), /at most 100000000/, /100000001/],
  'a header longer than the file': [lengthField(100_000_000n), /a header of 100000000 bytes/, /a file of 10 bytes/],
  'a header of no bytes': [lengthField(0n, ''), /begins with '\{'/, /""/],
  'a header that begins with a space': [safetensorsBytes(' {}', new Uint8Array(0)), /begins with '\{'/, /" \{\}/],
  'a pickle': [Buffer.from('80027d7100285800000000', 'hex'), /at most 100000000/, /\d+ bytes/],
  'no UTF-8': [safetensorsBytes(Buffer.from([0x7b, 0xff, 0x7d]), new Uint8Array(0)), /UTF-8/, /bytes that are not/],
  'no JSON': [safetensorsBytes('{"a":}', new Uint8Array(0)), /header: JSON/, /token/],
  'JSON that ends early': [safetensorsBytes('{"a":{"dtype":"F32"', new Uint8Array(0)), /header: JSON/, /./],
  'JSON and more': [safetensorsBytes('{}{}', new Uint8Array(0)), /header: JSON/, /./],
  'no terminating null bytes': [safetensorsBytes('{}\0\0', new Uint8Array(0)), /header: JSON/, /./],
  'a name twice': [
    safetensorsBytes(`{"a":${entry('U8', [1], [0, 1])},"a":${entry('U8', [1], [1, 2])}}`, new Uint8Array(2)),
    /each name once/,
    /'a' twice/,
  ],
  'a field twice': [
    safetensorsBytes('{"a":{"dtype":"U8","shape":[1],"shape":[2],"data_offsets":[0,2]}}', new Uint8Array(2)),
    /each name once/,
    /'shape' twice/,
  ],
  'an entry that is a list': [safetensorsBytes('{"a":[1,2]}', new Uint8Array(0)), /an object with dtype/, /\[1,2\]/],
  'an entry that is null': [safetensorsBytes('{"a":null}', new Uint8Array(0)), /an object with dtype/, /null/],
  'an unknown dtype': [single('F128', [2], [0, 8]), /dtype to be one of .*F32/, /"F128"/],
  'a dtype that objects inherit': [single('constructor', [2], [0, 8]), /dtype to be one of/, /"constructor"/],
  'a dtype of a number': [single(5, [2], [0, 8]), /dtype to be one of/, /5/],
  'an 8-bit float, which nothing here computes with': [
    single('F8_E4M3', [8], [0, 8]),
    /dtype to be one of/,
    /"F8_E4M3"/,
  ],
  'no dtype': [single(undefined, [2], [0, 8]), /dtype to be one of/, /nothing/],
  'a dtype of the wrong size': [single('F64', [2], [0, 8]), /16 bytes apart, as F64 \[2\] takes/, /\[0,8\]: 8 bytes/],
  'no shape': [single('F32', undefined, [0, 8]), /shape: a list/, /nothing/],
  'a shape of text': [single('F32', '2', [0, 8]), /shape: a list/, /"2"/],
  'a dimension below zero': [single('F32', [-2], [0, 8]), /whole numbers ≥ 0/, /\[-2\]/],
  'two dimensions below zero': [single('F32', [-1, -2], [0, 8]), /whole numbers ≥ 0/, /\[-1,-2\]/],
  'half a dimension': [single('F32', [0.5, 4], [0, 8]), /whole numbers/, /0\.5/],
  'a dimension of text': [single('F32', ['2'], [0, 8]), /whole numbers/, /\["2"\]/],
  'a dimension of 2⁵³': [single('F32', [2 ** 53], [0, 8]), /product below 2⁵³/, /9007199254740992/],
  'a product that overflows 64 bits to 2': [
    single('F32', [2 ** 33, 2 ** 31, 2], [0, 8]),
    /product below 2⁵³/,
    /8589934592/,
  ],
  'a product that overflows only in bytes': [single('F64', [2 ** 52], [0, 8]), /product below 2⁵³/, /4503599627370496/],
  'absurd dimensions': [single('F32', [1e6, 1e6], [0, 8]), /4000000000000 bytes apart/, /8 bytes/],
  'no offsets': [single('F32', [2], undefined), /data_offsets: two/, /nothing/],
  'one offset': [single('F32', [2], [8]), /data_offsets: two/, /\[8\]/],
  'three offsets': [single('F32', [2], [0, 8, 8]), /data_offsets: two/, /\[0,8,8\]/],
  'offsets of text': [single('F32', [2], ['0', '8']), /data_offsets: two/, /"0"/],
  'an offset below zero': [single('F32', [2], [-8, 0]), /data_offsets: two/, /-8/],
  'an offset of half': [single('F32', [2], [0.5, 8.5]), /data_offsets: two/, /0\.5/],
  'offsets beyond 2⁵³': [single('F32', [2], [2 ** 53, 2 ** 53 + 8]), /data_offsets: two/, /9007199254740992/],
  'offsets backwards': [single('F32', [2], [8, 0]), /8 bytes apart/, /-8 bytes/],
  'offsets and shape that differ': [single('F32', [3], [0, 8]), /12 bytes apart, as F32 \[3\]/, /8 bytes/],
  'a tensor beyond the file': [single('F32', [4], [0, 16]), /a file of \d+ bytes, as its header says/, /\d+ bytes/],
  'a tensor far beyond the file': [
    single('F32', [2], [2 ** 40, 2 ** 40 + 8]),
    /'a' to begin at 0/,
    /belong to no tensor/,
  ],
  'a hole at the beginning': [single('F32', [1], [4, 8]), /'a' to begin at 0/, /4: bytes between them/],
  'bytes behind the last tensor': [single('F32', [1], [0, 4]), /a file of \d+ bytes/, /\d+ bytes/],
  'an overlap': [
    two(entry('F32', [2], [0, 8]), entry('F32', [2], [4, 12]), 12),
    /'b' to begin at 8/,
    /4: they overlap/,
  ],
  'two tensors in one place': [
    two(entry('F32', [2], [0, 8]), entry('F32', [2], [0, 8]), 8),
    /'b' to begin at 8/,
    /overlap/,
  ],
  'a hole between tensors': [
    two(entry('F32', [1], [0, 4]), entry('F32', [1], [8, 12]), 12),
    /'b' to begin at 4/,
    /belong to no tensor/,
  ],
  'metadata of numbers': [
    safetensorsBytes('{"__metadata__":{"a":1}}', new Uint8Array(0)),
    /__metadata__: an object of texts/,
    /1/,
  ],
  'metadata of a list': [
    safetensorsBytes('{"__metadata__":["a"]}', new Uint8Array(0)),
    /__metadata__: an object of texts/,
    /\["a"\]/,
  ],
  'a header nested 100,000 deep': [
    safetensorsBytes(`{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`, new Uint8Array(0)),
    /an object with dtype/,
    /\[/,
  ],
};

for (const [name, [bytes, expected, found]] of Object.entries(FILES)) {
  test(name, () => {
    inDirectory((directory) => {
      const path = join(directory, 'hostile.safetensors');
      writeFileSync(path, bytes);
      const error = throwsUserError(() => openSafetensors(path), { expected, found, where: /hostile\.safetensors/ });
      assert.ok(error.message.length < 600, error.message);
    });
  });
}

test('a good file cut at every byte', () => {
  withScratchFile('cut.safetensors', (path, set) => {
    for (let bytes = 0; bytes < good.length; bytes++) {
      set(good.subarray(0, bytes));
      throwsUserError(() => openSafetensors(path), { where: /cut/ });
    }
  });
});

test('a sparse file that claims the largest header allowed is refused by its first byte', () => {
  inDirectory((directory) => {
    const path = join(directory, 'sparse.safetensors');
    const file = openSync(path, 'w');
    writeSync(file, lengthField(99_999_999n, ''));
    ftruncateSync(file, 2 ** 34);
    closeSync(file);
    throwsUserError(() => openSafetensors(path), { expected: /begins with '\{'/ });
  });
});

const seed = Number(process.env['TACOTUNE_SEED'] ?? 1);
test(`random damage, seed ${seed}`, () => {
  withScratchFile('fuzz.safetensors', (path, set) => {
    const random = generator(seed);
    const source = two(entry('F32', [2, 3], [0, 24]), entry('BF16', [4], [24, 32]), 32);
    const interesting = Buffer.from('{}[]",:0123456789-e\\ \0\xff', 'latin1');
    let refused = 0;
    for (let run = 0; run < 3000; run++) {
      let bytes = Buffer.from(source);
      for (let edits = 1 + random(3); edits > 0; edits--) {
        const at = random(bytes.length);
        const kind = random(4);
        if (kind === 0) bytes[at] = interesting[random(interesting.length)]!;
        else if (kind === 1) bytes[at] = bytes[at]! ^ (1 << random(8));
        else if (kind === 2) bytes = bytes.subarray(0, at + 1);
        else bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(random(bytes.length))]);
      }
      set(bytes);
      try {
        const file = openSafetensors(path);
        for (const name of file.tensors.keys()) file.read(name);
        file.close();
      } catch (error) {
        if (!(error instanceof UserError)) throw new Error(`seed ${seed}, run ${run}`, { cause: error });
        refused++;
      }
    }
    assert.ok(refused > 1000 && refused < 3000, `${refused} refused`);
  });
});
