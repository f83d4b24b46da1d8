// SPDX-License-Identifier: Apache-2.0
// What a table of an op's cases is. One table serves agreement with the reference on every instruction set, fences, thread
// counts, wrong calls and benchmarks; it knows arguments and tolerances, not how they are used.
import type { NativeOps } from '../../kernels/index.js';
import { Random } from './random.js';

export type OpName = keyof NativeOps<unknown, unknown, unknown, unknown>;

export type Values = Float32Array | Int32Array | Uint16Array | Uint8Array;

/** A tensor argument. `out` is written whole, `inout` is read and written, `in` must come back untouched. */
export interface Operand {
  role: 'in' | 'out' | 'inout';
  values: Values;
}
export type Argument = number | Operand;
/** The arguments of a call by the names of ops.h, in its order. */
export type Arguments = Record<string, Argument>;

export interface Tolerance {
  /** Largest error allowed, in units of max(|want|, floor). */
  error: number;
  /** `rms`: the root mean square of the whole output, for sums in which terms cancel. A number: elements on their own. */
  floor: 'rms' | number;
  /** Share of the codes of a byte output that may differ, by one. */
  codes?: number;
  reason: string;
}

export interface OpTable<S extends Record<string, number> = Record<string, number>> {
  shapes: S[];
  /** A realistic size, for benchmarks. */
  typical: S;
  make(shape: S, random: Random): Arguments;
  tolerance: Tolerance;
  /** Pairs of arguments that ops.h allows to be one memory. */
  aliases?: [string, string][];
}

/** Drops the shape's own type, so that tables of many shapes stand in one record. */
export function table<S extends Record<string, number>>(definition: OpTable<S>): OpTable {
  return definition as unknown as OpTable;
}

export const given = (values: Values): Operand => ({ role: 'in', values });
/** Output values start as NaN (or 255): what an op forgets to write shows. */
export const written = (n: number): Operand => ({ role: 'out', values: new Float32Array(n).fill(Number.NaN) });
export const writtenBytes = (n: number): Operand => ({ role: 'out', values: new Uint8Array(n).fill(255) });
export const updated = (values: Values): Operand => ({ role: 'inout', values });
/** An activation gradient: added to with `accumulate` 1, assigned otherwise. */
export const assignedOrAdded = (n: number, accumulate: number, random: Random): Operand =>
  accumulate ? updated(random.normal(n)) : written(n);

/** The arguments of a case; the same shape always gives the same values. */
export function makeArguments(op: OpName, definition: OpTable, shape: Record<string, number>): Arguments {
  let seed = 0;
  for (const character of op + describeShape(shape)) seed = (Math.imul(seed, 31) + character.charCodeAt(0)) >>> 0;
  return definition.make(shape, new Random(seed));
}

export const describeShape = (shape: Record<string, number>): string =>
  Object.entries(shape)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ');
