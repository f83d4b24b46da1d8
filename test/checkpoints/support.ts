// SPDX-License-Identifier: Apache-2.0
// What the tests of checkpoints/ share: a temporary directory, a file layer that fails at a chosen call, malformed files, and
// a closer look at errors.
import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { type FileLayer, systemFiles } from '../../checkpoints/index.js';
import { UserError } from '../../errors.js';

/** Runs `body` in a fresh directory that is removed afterwards. */
export function inDirectory<T>(body: (directory: string) => T): T {
  const directory = mkdtempSync(join(tmpdir(), 'tacotune-'));
  const clean = () => rmSync(directory, { recursive: true, force: true });
  let result: T;
  try {
    result = body(directory);
  } catch (error) {
    clean();
    throw error;
  }
  if (result instanceof Promise) return result.finally(clean) as T;
  clean();
  return result;
}

/** A file whose contents change often: `set` makes it anew, since file systems are slow to truncate one. */
export function withScratchFile(name: string, body: (path: string, set: (bytes: Uint8Array) => void) => void): void {
  inDirectory((directory) => {
    const path = join(directory, name);
    body(path, (bytes) => {
      rmSync(path, { force: true });
      writeFileSync(path, bytes);
    });
  });
}

/** Name → contents of every file in a directory. */
export function contents(directory: string): Record<string, string> {
  const names = readdirSync(directory).sort();
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(directory, name), 'latin1')]));
}

/**
 * The real file layer, but its n-th call (from 0) fails: `once`, as a full disk does that is then tidied up, or also every
 * call `after` it, as if the process had been killed there. A failing write has written half of its bytes.
 */
export function faultyLayer(n: number, duration: 'once' | 'after', code = 'ENOSPC'): FileLayer & { calls: number } {
  const layer = { calls: 0 } as FileLayer & { calls: number };
  const failing = () => {
    const call = layer.calls++;
    return call === n || (duration === 'after' && call > n);
  };
  const fault = () => Object.assign(new Error(`${code}: injected`), { code });
  for (const name of Object.keys(systemFiles) as (keyof FileLayer)[]) {
    const real = systemFiles[name] as (...args: unknown[]) => unknown;
    Object.assign(layer, {
      [name]: (...args: unknown[]) => {
        if (!failing()) return real(...args);
        if (name === 'write')
          real(args[0], (args[1] as Uint8Array).subarray(0, (args[1] as Uint8Array).length / 2), args[2]);
        throw fault();
      },
    });
  }
  return layer;
}

/** Makes the files that this process was writing in a folder those of one that is gone: as if it had been killed. */
export function abandonTemporaries(directory: string): void {
  const GONE = 4_194_305; // above the largest that Linux gives
  for (const name of existsSync(directory) ? readdirSync(directory) : []) {
    const abandoned = name.replace(new RegExp(`-${process.pid}-([0-9a-f]+\\.tmp)$`), `-${GONE}-$1`);
    if (abandoned !== name) renameSync(join(directory, name), join(directory, abandoned));
  }
}

/** Runs `body`, which must throw a UserError whose four parts match. Returns the error. */
export function throwsUserError(
  body: () => unknown,
  parts: { expected?: RegExp; found?: RegExp; where?: RegExp; remedy?: RegExp },
): UserError {
  let error: unknown;
  try {
    body();
  } catch (thrown) {
    error = thrown;
  }
  if (!(error instanceof UserError)) {
    throw new Error(
      `expected a UserError, got ${error instanceof Error ? error.stack : `no error (${String(error)})`}`,
    );
  }
  for (const [part, pattern] of Object.entries(parts)) {
    assert.match(String(error[part as keyof typeof parts]), pattern, `${part} of: ${error.message}`);
  }
  return error;
}

/** A safetensors file of this header, padded with spaces to a multiple of `multiple` bytes, and these data. */
export function safetensorsBytes(header: string | Uint8Array, data: Uint8Array, multiple = 8): Buffer {
  const text = Buffer.from(header as string);
  const start = Buffer.alloc(8 + Math.ceil(text.length / multiple) * multiple, ' ');
  start.writeBigUInt64LE(BigInt(start.length - 8));
  start.set(text, 8);
  return Buffer.concat([start, data]);
}

/** A small counter-based generator: the same seed damages the same bytes on every machine. */
export function generator(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return ((z ^ (z >>> 15)) >>> 0) % below;
  };
}
