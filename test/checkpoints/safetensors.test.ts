// SPDX-License-Identifier: Apache-2.0
// The safetensors reader and writer. Files of the reference implementation, read and written again, are the same bytes.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { Replacement } from '../../checkpoints/files.js';
import { openSafetensors, SafetensorsWriter, systemFiles, writeSafetensors } from '../../checkpoints/index.js';
import { ELEMENT_BYTES, type ElementType, viewAs } from '../../checkpoints/tensor-file.js';
import { shared, suite } from '../support/harness.js';
import { contents, faultyLayer, inDirectory, safetensorsBytes, throwsUserError } from './support.js';

const test = suite('checkpoints/safetensors');

test('every file of the reference implementation reads, and written again gives the same bytes', () => {
  const root = shared('goldens');
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.safetensors'),
  );
  assert.ok(files.length > 40);
  inDirectory((directory) => {
    const copy = join(directory, 'copy.safetensors');
    for (const name of files) {
      const file = openSafetensors(join(root, name));
      const tensors = new Map([...file.tensors].map(([key, info]) => [key, { ...info, data: file.read(key) }]));
      writeSafetensors(copy, tensors, Object.fromEntries(file.metadata));
      file.close();
      assert.ok(readFileSync(copy).equals(readFileSync(join(root, name))), name);
    }
  });
});

test('every element type, scalars and empty tensors go through unchanged', () => {
  inDirectory((directory) => {
    const path = join(directory, 'all.safetensors');
    const bytes = (n: number) => Uint8Array.from({ length: n }, (_, i) => (i * 37) % 256).buffer;
    const types = Object.keys(ELEMENT_BYTES) as ElementType[];
    const tensors = new Map(
      types.map((dtype) => [
        `t.${dtype}`,
        { dtype, shape: [2, 3], data: viewAs(dtype, bytes(6 * ELEMENT_BYTES[dtype])) },
      ]),
    );
    tensors.set('scalar', { dtype: 'F32', shape: [], data: new Float32Array([1.5]) });
    tensors.set('empty', { dtype: 'F32', shape: [4, 0], data: new Float32Array(0) });
    for (const name of ['0', '__proto__', 'constructor', 'name with "quotes" and ü'])
      tensors.set(name, { dtype: 'U8', shape: [1], data: new Uint8Array([9]) });
    writeSafetensors(path, tensors, {});
    const file = openSafetensors(path);
    assert.is(file.metadata.size, 0);
    assert.is(file.tensors.size, tensors.size);
    for (const [name, { dtype, shape, data }] of tensors) {
      assert.is(file.tensors.get(name)?.dtype, dtype);
      assert.equal(file.tensors.get(name)?.shape, shape);
      assert.is(file.read(name).constructor, data.constructor);
      assert.equal(file.read(name), data, name);
    }
    file.close();
  });
});

test('the order of declaration and of writing, and the size of pieces, do not change the file', () => {
  inDirectory((directory) => {
    const declarations = [
      { name: 'b', dtype: 'F32' as const, shape: [1000] },
      { name: 'a', dtype: 'BF16' as const, shape: [3] },
      { name: 'c', dtype: 'I64' as const, shape: [2] },
    ];
    const values = {
      a: new Uint16Array([1, 2, 3]),
      b: Float32Array.from({ length: 1000 }, (_, i) => i),
      c: new BigInt64Array([5n, -6n]),
    };
    const write = (file: string, order: ('a' | 'b' | 'c')[], reversed: boolean, piece: number) => {
      const replacement = new Replacement(directory);
      const writer = new SafetensorsWriter(
        replacement.create(file),
        reversed ? declarations.toReversed() : declarations,
      );
      for (const name of order)
        for (let i = 0; i < values[name].length; i += piece) writer.write(name, values[name].subarray(i, i + piece));
      writer.finish();
      replacement.commit();
    };
    write('x', ['a', 'b', 'c'], false, 1000);
    write('y', ['c', 'a', 'b'], true, 7);
    const { x, y } = contents(directory);
    assert.is(x, y);
    assert.is((8 + Buffer.from(x!, 'latin1').readUInt32LE(0)) % 8, 0);
  });
});

test('the writer refuses what was not declared, too much, and too little', () => {
  inDirectory((directory) => {
    const replacement = new Replacement(directory);
    const start = (...names: string[]) =>
      new SafetensorsWriter(
        replacement.create('f'),
        names.map((name) => ({ name, dtype: 'F32', shape: [2] })),
      );
    assert.throws(() => start('a', 'a'), /a second of that name/);
    assert.throws(() => start('__metadata__'), /cannot declare/);
    const writer = start('a', 'b');
    assert.throws(() => writer.write('c', new Float32Array(2)), /more than were declared/);
    assert.throws(() => writer.write('a', new Float32Array(3)), /12 bytes more/);
    writer.write('a', new Float32Array(1));
    assert.throws(() => writer.finish(), /'a': 4 bytes are missing/);
    replacement.close();
    assert.equal(contents(directory), {});
  });
});

test('an existing file survives a fault at any call', () => {
  inDirectory((directory) => {
    const path = join(directory, 'f.safetensors');
    const tensor = (value: number) =>
      new Map([['a', { dtype: 'F32' as const, shape: [1], data: new Float32Array([value]) }]]);
    writeSafetensors(path, tensor(1));
    const before = contents(directory);
    let n = 0;
    for (; ; n++) {
      const layer = faultyLayer(n, 'once');
      try {
        writeSafetensors(path, tensor(2), {}, layer);
        break;
      } catch {
        // Checked below.
      }
      if (n < 6) assert.equal(contents(directory), before, `fault at call ${n}`);
    }
    assert.is(n, 7); // create, write header, write values, sync, close, rename, syncDirectory
    const file = openSafetensors(path);
    assert.equal(file.read('a'), new Float32Array([2]));
    file.close();
    throwsUserError(
      () => writeSafetensors(path, new Map(), {}, { ...systemFiles, sync: faultyLayer(0, 'once').sync }),
      { found: /no space/ },
    );
    assert.equal(Object.keys(contents(directory)), ['f.safetensors']);
  });
});

test('values that lie unaligned are copied, the others are views into the file', () => {
  inDirectory((directory) => {
    const path = join(directory, 'f');
    const header =
      '{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"F32","shape":[2],"data_offsets":[3,11]}}';
    const data = Buffer.concat([Buffer.from([1, 2, 3]), Buffer.from(new Float32Array([4, 5]).buffer)]);
    writeFileSync(path, safetensorsBytes(header, data));
    const file = openSafetensors(path);
    assert.equal(file.read('b'), new Float32Array([4, 5]));
    assert.equal(file.read('a'), new Uint8Array([1, 2, 3]));
    assert.is(file.read('a'), file.read('a'));
    (file.read('a') as Uint8Array)[0] = 77;
    assert.ok(readFileSync(path).equals(safetensorsBytes(header, data)), 'a write to a view must not reach the file');
    const a = file.read('a');
    file.release('a');
    file.release('b');
    assert.equal(a, new Uint8Array([1, 2, 3]), 'read again from the file');
    assert.equal(file.read('b'), new Float32Array([4, 5]));
    file.close();
    assert.is(a.length, 0);
    file.close();
    assert.throws(() => file.read('a'), /closed/);
  });
});

test('a header of any length, padded or not, with a file replaced or cut while it is open', () => {
  inDirectory((directory) => {
    const path = join(directory, 'f');
    const header = '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}';
    for (const multiple of [1, 2, 3, 8, 64]) {
      writeFileSync(path, safetensorsBytes(header, Buffer.from(new Float32Array([3]).buffer), multiple));
      const file = openSafetensors(path);
      assert.equal(file.read('a'), new Float32Array([3]), `padded to ${multiple}`);
      file.close();
    }
    const file = openSafetensors(path);
    writeSafetensors(
      path,
      new Map([['zzzzzzzzzzzzzzzzzzzzz', { dtype: 'F32', shape: [1], data: new Float32Array([8]) }]]),
    );
    assert.equal(file.read('a'), new Float32Array([3]), 'still the file that was opened');
    file.close();
    writeFileSync(path, safetensorsBytes(header, new Uint8Array(4)));
    const cut = openSafetensors(path);
    writeFileSync(path, 'short');
    throwsUserError(() => cut.read('a'), { expected: /values of 'a'/, found: /shorter/, where: /f$/ });
    cut.close();
  });
});
