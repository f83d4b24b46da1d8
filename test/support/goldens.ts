// SPDX-License-Identifier: Apache-2.0
// Reads the reference results beside the project, and measures distance from them as their README does.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { shared } from './harness.js';

export interface GoldenTensor {
  dtype: string;
  shape: number[];
  data: Float32Array | Float64Array | Int32Array | Uint16Array | Uint8Array;
}

/** All tensors of a golden safetensors file. I64 becomes Int32Array. A plain reader of its own: the oracle's side of a test must not lean on the code under test. */
export function readGolden(...parts: string[]): Map<string, GoldenTensor> {
  const file = readFileSync(shared('goldens', ...parts));
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerBytes)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, GoldenTensor>();
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const bytes = Uint8Array.from(file.subarray(8 + headerBytes + data_offsets[0], 8 + headerBytes + data_offsets[1]));
    tensors.set(name, { dtype, shape, data: valuesOf(dtype, bytes.buffer) });
  }
  return tensors;
}

function valuesOf(dtype: string, buffer: ArrayBuffer): GoldenTensor['data'] {
  switch (dtype) {
    case 'F64':
      return new Float64Array(buffer);
    case 'F32':
      return new Float32Array(buffer);
    case 'BF16':
    case 'F16':
      return new Uint16Array(buffer);
    case 'I64':
      return Int32Array.from(new BigInt64Array(buffer), Number);
    case 'U8':
      return new Uint8Array(buffer);
    default:
      throw new Error(`no golden has dtype ${dtype} yet`);
  }
}

export function goldenJson<T>(...parts: string[]): T {
  return JSON.parse(readFileSync(shared('goldens', ...parts), 'utf8')) as T;
}

export function goldenPath(...parts: string[]): string {
  return join(shared('goldens'), ...parts);
}

/** Largest absolute difference over the largest magnitude of the reference. */
export function relativeToMax(got: ArrayLike<number>, want: ArrayLike<number>): number {
  if (got.length !== want.length) throw new Error(`expected ${want.length} values, got ${got.length}`);
  let difference = 0;
  let magnitude = 0;
  for (let i = 0; i < want.length; i++) {
    const d = Math.abs(got[i]! - want[i]!);
    if (!(d <= difference)) difference = d; // keeps NaN
    magnitude = Math.max(magnitude, Math.abs(want[i]!));
  }
  return difference / magnitude;
}

/** 2-norm of the difference over the 2-norm of the reference. */
export function relativeL2(got: ArrayLike<number>, want: ArrayLike<number>): number {
  let difference = 0;
  let magnitude = 0;
  for (let i = 0; i < want.length; i++) {
    difference += (got[i]! - want[i]!) ** 2;
    magnitude += want[i]! ** 2;
  }
  return Math.sqrt(difference / magnitude);
}

export function f32(tensors: Map<string, GoldenTensor>, name: string): Float32Array {
  return values(tensors, name) as Float32Array;
}

export function values(tensors: Map<string, GoldenTensor>, name: string): GoldenTensor['data'] {
  const tensor = tensors.get(name);
  if (!tensor)
    throw new Error(`the golden has no tensor '${name}', only ${[...tensors.keys()].slice(0, 12).join(', ')} …`);
  return tensor.data;
}
