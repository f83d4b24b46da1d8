// SPDX-License-Identifier: Apache-2.0
// What every format of tensor files looks like to the rest of this room: names, element types, shapes, and values on demand.
// Each format is an implementation and a line in formats.ts. Knows nothing of models. Values are little-endian, as all processors that the addon runs on.
import { native, STORAGE_TYPE } from '../kernels/index.js';
import type { FileRange } from './files.js';

/** Element types, named and sized as safetensors does. In the order of its reference writer: files begin with the first. */
export const ELEMENT_BYTES = {
  U64: 8,
  I64: 8,
  F64: 8,
  F32: 4,
  U32: 4,
  I32: 4,
  BF16: 2,
  F16: 2,
  U16: 2,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
} as const;

export type ElementType = keyof typeof ELEMENT_BYTES;

/** What streaming takes at a time: large enough that calls cost nothing, small enough to stay in cache. A multiple of every block of quantised values. */
export const BLOCK_BYTES = 1 << 22;

export interface TensorInfo {
  dtype: ElementType;
  shape: readonly number[];
}

/** Values of one tensor, row-major. F16 and BF16 are raw bits in a Uint16Array, BOOL is a Uint8Array. */
export type TensorData =
  | BigUint64Array
  | BigInt64Array
  | Float64Array
  | Float32Array
  | Uint32Array
  | Int32Array
  | Uint16Array
  | Int16Array
  | Int8Array
  | Uint8Array;

/** An open file of named tensors. What is wrong with the file was found when it was opened. */
export interface TensorFile {
  readonly path: string;
  /** In the order of their data. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The values, valid until `close`. Asking again is free. */
  read(name: string): TensorData;
  /**
   * The values in row-major order, in blocks of at most BLOCK_BYTES, each valid until the next is taken: a tensor of any size
   * costs one block of memory. (One that is stored with strides comes whole.)
   */
  blocks(name: string): Iterable<TensorData>;
  /** Where the values lie in the file as they are; undefined where they are made from what lies there. */
  range(name: string): FileRange | undefined;
  /** Gives the memory of these values back for now: they are read from the file again when next used. */
  release(name: string): void;
  /** Values become arrays of length 0. */
  close(): void;
}

const VIEWS = {
  U64: BigUint64Array,
  I64: BigInt64Array,
  F64: Float64Array,
  F32: Float32Array,
  U32: Uint32Array,
  I32: Int32Array,
  BF16: Uint16Array,
  F16: Uint16Array,
  U16: Uint16Array,
  I16: Int16Array,
  I8: Int8Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
} as const;

/** `buffer`, or its first `bytes`, as an array of that element type. */
export function viewAs(dtype: ElementType, buffer: ArrayBuffer, bytes = buffer.byteLength): TensorData {
  return new VIEWS[dtype](buffer, 0, bytes / ELEMENT_BYTES[dtype]);
}

export function isElementType(name: string): name is ElementType {
  return Object.hasOwn(ELEMENT_BYTES, name);
}

/** Product of the dimensions; undefined where a dimension is no whole number ≥ 0 or the product is no exact number. */
export function elementCount(shape: readonly unknown[]): number | undefined {
  let count = 1;
  for (const dimension of shape) {
    if (!Number.isSafeInteger(dimension) || (dimension as number) < 0) return undefined;
    count *= dimension as number;
    if (!Number.isSafeInteger(count)) return undefined;
  }
  return count;
}

export function shapeText(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`;
}

/** Storage types of floating-point weights that kernels compute with. */
export type WeightType = 'f32' | 'bf16' | 'f16';

const WEIGHT_TYPES: { [type in ElementType]?: WeightType } = { F32: 'f32', BF16: 'bf16', F16: 'f16' };

/** undefined for integers and for types no kernel reads. */
export function weightType(dtype: ElementType): WeightType | undefined {
  return WEIGHT_TYPES[dtype];
}

export const ELEMENT_TYPE = { f32: 'F32', bf16: 'BF16', f16: 'F16' } as const satisfies Record<WeightType, ElementType>;

/** A copy of the values in f32, in `out` where that is given. */
export function toF32(
  data: Float32Array | Uint16Array,
  type: WeightType,
  out: Float32Array<ArrayBuffer> = new Float32Array(data.length),
): Float32Array<ArrayBuffer> {
  if (type === 'f32') out.set(data);
  else native().toF32(out, data, STORAGE_TYPE[type], out.length);
  return out;
}

/** f32 values rounded to `type`, to nearest even, in `out` where that is given; the same array when it is f32 already. */
export function fromF32(data: Float32Array, type: WeightType, out?: Uint16Array): Float32Array | Uint16Array {
  if (type === 'f32') return data;
  out ??= new Uint16Array(data.length);
  native().fromF32(out, data, STORAGE_TYPE[type], out.length);
  return out;
}

/** Bad tensors of one kind that an error lists by name. */
const MAX_LISTED = 12;

/** Lines for an error that names all bad tensors at once, by kind; undefined where there are none. */
export function listProblems(kinds: Record<string, readonly string[]>): string | undefined {
  const lines: string[] = [];
  for (const [kind, names] of Object.entries(kinds)) {
    if (names.length === 0) continue;
    lines.push(`\n    ${kind}:`, ...names.slice(0, MAX_LISTED).map((name) => `\n      ${name}`));
    if (names.length > MAX_LISTED) lines.push(`\n      … and ${names.length - MAX_LISTED} more`);
  }
  return lines.length > 0 ? lines.join('') : undefined;
}
