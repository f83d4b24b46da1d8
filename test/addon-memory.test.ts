// SPDX-License-Identifier: Apache-2.0
// Memory that the addon hands out: it is freed once, by whoever comes first, and parts of files are mapped within bounds.
// Run: `npm test -- addon-memory`.
import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as assert from 'uvu/assert';
import { native } from '../kernels/index.js';
import { suite } from './support/harness.js';

const test = suite('addon memory');

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Collects garbage and lets finalisers run, which Node defers to later turns of the event loop. */
async function finalize(): Promise<void> {
  for (let turn = 0; turn < 4; turn++) {
    collectGarbage();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A sparse file of `bytes`, with its descriptor, for the time of `body`. */
function withFile(bytes: number, body: (file: number, path: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'tacotune-'));
  const path = join(directory, 'file');
  const file = openSync(path, 'w+');
  try {
    ftruncateSync(file, bytes);
    body(file, path);
  } finally {
    closeSync(file);
    rmSync(directory, { recursive: true });
  }
}

test('a released buffer that is collected later does not take the memory that got its address', async () => {
  const bytes = 1 << 20;
  for (let round = 0; round < 20; round++) {
    native().release(native().allocate(bytes));
    const next = new Float32Array(native().allocate(bytes)).fill(round);
    await finalize();
    assert.is(next[bytes / 8], round); // a mistake here is a segmentation fault
  }
});

test('a released buffer is detached, and cannot be released again', () => {
  const buffer = native().allocate(64);
  native().release(buffer);
  assert.is(buffer.byteLength, 0);
  native().release(buffer);
  assert.throws(() => native().release(new ArrayBuffer(8)), /not of allocate or mapFile/);
});

test('parts of a file are mapped at any offset, and writing to them does not reach the file', () => {
  withFile(20_000, (file, path) => {
    writeSync(file, 'hello', 5001);
    const part = native().mapFile(file, 5001, 5);
    assert.is(Buffer.from(part).toString(), 'hello');
    new Uint8Array(part)[0] = 0;
    assert.is(readFileSync(path).toString('latin1', 5001, 5006), 'hello');
    native().release(part);
    assert.is(native().mapFile(file, 20_000, 0).byteLength, 0);
  });
});

test('a file larger than an ArrayBuffer may be is mapped in parts', () => {
  withFile(20 * 2 ** 30, (file) => {
    writeSync(file, 'far', 12 * 2 ** 30 + 24);
    const part = native().mapFile(file, 12 * 2 ** 30 + 24, 2 ** 32 - 8);
    assert.is(Buffer.from(part, 0, 3).toString(), 'far');
    native().release(part);
  });
});

test('pages of a mapped file are dropped and come back', () => {
  withFile(64 << 20, (file) => {
    writeSync(file, 'here', 4096 * 3 + 7);
    const part = native().mapFile(file, 5, (64 << 20) - 5);
    const bytes = new Uint8Array(part);
    let sum = 0;
    for (let i = 0; i < bytes.length; i += 4096) sum += bytes[i]!;
    assert.is(sum, 0);
    const before = process.memoryUsage.rss();
    native().dropPages(part);
    assert.ok(
      before - process.memoryUsage.rss() > 48 << 20,
      `${(before - process.memoryUsage.rss()) >> 20} MB given back`,
    );
    assert.is(Buffer.from(part, 4096 * 3 + 2, 4).toString(), 'here');
    native().release(part);
    assert.throws(() => native().dropPages(native().allocate(64)), /not of mapFile/);
  });
});

test('a wrong range or descriptor throws', () => {
  withFile(100, (file) => {
    assert.throws(() => native().mapFile(file, 0, 101), /ends behind the file's end at 100 bytes/);
    assert.throws(() => native().mapFile(file, 101, 0), /ends behind/);
    assert.throws(() => native().mapFile(file, -1, 5), /expected an open file/);
    assert.throws(() => native().mapFile(file, 0.5, 5), /expected an open file/);
    assert.throws(() => native().mapFile(99_999, 0, 1), /Bad file descriptor/);
  });
});
