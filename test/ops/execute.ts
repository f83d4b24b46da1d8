// SPDX-License-Identifier: Apache-2.0
// Runs an op on copies of its arguments that lie between fences, at an offset that no vector width divides, and compares
// outputs. A write beside an output, a changed input or a stray read (the fences are NaN) does not go unnoticed.
import { type Native, native } from '../../kernels/index.js';
import type { Argument, Arguments, OpName, Tolerance, Values } from './op-table.js';

const FENCE_BYTES = 64;
const FENCE = 0xff; // NaN as f32, -1 as i32

interface Placed {
  name: string;
  role: 'in' | 'out' | 'inout';
  view: Values;
  memory: Uint8Array;
  before: Uint8Array;
}

function place(name: string, argument: Exclude<Argument, number>): Placed {
  const { values, role } = argument;
  const start = FENCE_BYTES + values.BYTES_PER_ELEMENT; // one element past an aligned address
  const memory = new Uint8Array(start + values.byteLength + FENCE_BYTES).fill(FENCE);
  memory.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), start);
  const View = values.constructor as new (buffer: ArrayBuffer, offset: number, length: number) => Values;
  const view = new View(memory.buffer, start, values.length);
  return { name, role, view, memory, before: memory.slice() };
}

function checkUntouched({ name, role, view, memory, before }: Placed): void {
  const [start, end] = [view.byteOffset, view.byteOffset + view.byteLength];
  for (let i = 0; i < memory.length; i++) {
    if (memory[i] === before[i]) continue;
    if (i < start) throw new Error(`wrote ${start - i} bytes before ${name}`);
    if (i >= end) throw new Error(`wrote ${i - end + 1} bytes behind ${name}`);
    if (role === 'in') throw new Error(`changed its input ${name} at byte ${i - start}`);
  }
}

/** Calls the op as it is selected now. Returns outputs by name. `alias` lets the first argument lie on the second. */
export function execute(op: OpName, args: Arguments, alias?: [string, string]): Record<string, Values> {
  const placed = new Map<string, Placed>();
  for (const [name, argument] of Object.entries(args)) {
    if (typeof argument !== 'number') placed.set(name, place(name, argument));
  }
  if (alias) {
    const shared = placed.get(alias[1])!;
    shared.role = 'inout';
    placed.set(alias[0], shared);
  }
  const list = Object.entries(args).map(([name, value]) =>
    typeof value === 'number' ? value : placed.get(name)!.view,
  );
  (native()[op] as (...list: unknown[]) => void)(...list);
  const outputs: Record<string, Values> = {};
  for (const [name, tensor] of placed) {
    checkUntouched(tensor);
    if (tensor.role !== 'in' && name !== alias?.[1]) outputs[name] = tensor.view;
  }
  return outputs;
}

/** Runs `body` with an instruction set and a number of threads, and puts both back. */
export function under<T>(instructionSet: string, threads: number, body: (kernels: Native) => T): T {
  const kernels = native();
  const before = { set: kernels.instructionSet(), threads: kernels.threads() };
  kernels.selectInstructionSet(instructionSet);
  if (threads !== before.threads) kernels.setThreads(threads);
  try {
    return body(kernels);
  } finally {
    kernels.selectInstructionSet(before.set);
    if (threads !== before.threads) kernels.setThreads(before.threads);
  }
}

/** Says where `got` is further from `want` than the tolerance allows, or nothing. */
export function difference(want: Values, got: Values, tolerance: Tolerance): string | undefined {
  if (want.length !== got.length) return `${got.length} elements, expected ${want.length}`;
  if (want instanceof Float32Array) return worstElement(want, got, tolerance);
  let off = 0;
  for (let i = 0; i < want.length; i++) {
    const distance = Math.abs(want[i]! - got[i]!);
    if (distance > (tolerance.codes ? 1 : 0)) return `index ${i}: got code ${got[i]}, want ${want[i]}`;
    off += distance;
  }
  const allowed = tolerance.codes ? Math.max(1, tolerance.codes * want.length) : 0;
  return off > allowed ? `${off} of ${want.length} codes off by one, ${allowed} allowed` : undefined;
}

function worstElement(want: Values, got: Values, { error: allowed, floor, reason }: Tolerance): string | undefined {
  let squares = 0;
  for (const value of want) squares += Number.isFinite(value) ? value * value : 0;
  const least = floor === 'rms' ? Math.sqrt(squares / Math.max(1, want.length)) : floor;
  let worst = -1;
  let largest = allowed;
  for (let i = 0; i < want.length; i++) {
    if (Object.is(want[i], got[i]) || want[i] === got[i]) continue;
    const size = Math.abs(got[i]! - want[i]!) / Math.max(Math.abs(want[i]!), least);
    const error = Number.isFinite(size) ? size : Number.POSITIVE_INFINITY; // one of them is NaN or infinite
    if (error <= largest) continue;
    largest = error;
    worst = i;
  }
  if (worst < 0) return undefined;
  return `index ${worst}: got ${got[worst]}, want ${want[worst]}, error ${largest.toExponential(2)} in units of max(|want|, ${least.toExponential(1)}), allowed ${allowed} (${reason})`;
}

export function sameBits(a: Values, b: Values): boolean {
  return (
    Buffer.compare(
      Buffer.from(a.buffer, a.byteOffset, a.byteLength),
      Buffer.from(b.buffer, b.byteOffset, b.byteLength),
    ) === 0
  );
}
