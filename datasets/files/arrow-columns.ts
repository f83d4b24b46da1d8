// SPDX-License-Identifier: Apache-2.0
// The columns of an Arrow batch as values by row, over its buffers ("Arrow Columnar Format"). Before a column is given, its
// buffers are known to hold as many values as it says, and its offsets to rise within them: reading a row can then neither leave
// them nor take more memory than the batch did. Throws plain errors: the reader of the file says where.
import { type BatchBuffers, MAX_BATCH_BYTES } from './arrow-buffers.js';
import type { ArrowField, ArrowType, BatchHeader } from './arrow-metadata.js';
import type { ColumnBuffers } from './columns.js';
import { decodeUtf8 } from './utf8.js';

export interface Column {
  length: number;
  /** The value as JSON would have it. Text that is none throws. */
  read(index: number): unknown;
  /** Of text, 32-bit numbers and lists of them: its buffers as they are. */
  raw?: ColumnBuffers;
}

/** A dictionary's values; more may be added to it by later messages. Each is decoded once: lists may name it many times. */
export class Dictionary {
  private readonly chunks: { start: number; column: Column }[] = [];
  private readonly known: unknown[] = [];
  private length = 0;

  add(column: Column): void {
    this.chunks.push({ start: this.length, column });
    this.length += column.length;
  }

  read(index: number): unknown {
    if (!(index >= 0 && index < this.length)) throw new Error(`value ${index} of a dictionary of ${this.length}`);
    if (index in this.known) return this.known[index];
    const { start, column } = this.chunks.findLast((chunk) => chunk.start <= index)!;
    this.known[index] = column.read(index - start);
    return this.known[index];
  }
}

export type Dictionaries = ReadonlyMap<bigint, Dictionary>;

/** The columns of a batch. */
export function columnsOf(
  fields: readonly ArrowField[],
  header: BatchHeader,
  buffers: BatchBuffers,
  dictionaries: Dictionaries = new Map(),
): Column[] {
  const batch = new Batch(header, buffers, dictionaries);
  batch.checkLength(header.rows);
  const columns = fields.map((field) => batch.column(field));
  batch.end();
  const odd = columns.findIndex(({ length }) => length !== header.rows);
  if (odd !== -1) throw new Error(`${columns[odd]!.length} values in '${fields[odd]!.name}', not ${header.rows}`);
  return columns;
}

type Offsets = Int32Array | Float64Array;

/** Takes nodes and buffers in the order that columns have them. */
class Batch {
  private nextNode = 0;
  private nextView = 0;

  constructor(
    private readonly header: BatchHeader,
    private readonly buffers: BatchBuffers,
    private readonly dictionaries: Dictionaries,
  ) {}

  column(field: ArrowField): Column {
    const node = this.header.nodes[this.nextNode++];
    if (!node) throw new Error('too few columns');
    this.checkLength(node.length);
    const { length } = node;
    if (field.type.kind === 'null' && !field.dictionary) return { length, read: () => null };
    const valid = this.validity(length, node.nulls);
    const { read, ...buffers } = field.dictionary
      ? this.places(field, length)
      : this.values(field, field.type, length, valid);
    const raw = buffers.raw && { valid, ...buffers.raw };
    return { length, read: valid ? (i) => (isValid(valid, i) ? read(i) : null) : read, ...(raw && { raw }) };
  }

  end(): void {
    if (this.nextNode !== this.header.nodes.length) throw new Error('more columns than the schema has');
    this.buffers.end();
  }

  /** Columns of nulls or of empty lists have no bytes that their length could be held against. Other columns have at least a bit a row. */
  checkLength(length: number): void {
    if (length > 8 * this.buffers.bytes) throw new Error(`${length} values in ${this.buffers.bytes} bytes`);
  }

  private validity(length: number, nulls: number): Uint8Array | undefined {
    const bits = this.buffers.take();
    if (nulls > length) throw new Error(`${nulls} nulls among ${length} values`);
    if (nulls === 0) return undefined;
    return checked(bits, Math.ceil(length / 8));
  }

  private places({ name, dictionary }: ArrowField, length: number): Omit<Column, 'length'> {
    const { id, index } = dictionary!;
    const values = this.dictionaries.get(id);
    if (!values) throw new Error(`no dictionary for '${name}'`);
    const place = integers(this.buffers.take(), index, length);
    return { read: (i) => values.read(Number(place.read(i))) };
  }

  private values(field: ArrowField, type: ArrowType, length: number, valid?: Uint8Array): Omit<Column, 'length'> {
    switch (type.kind) {
      case 'bool': {
        const bits = checked(this.buffers.take(), Math.ceil(length / 8));
        return { read: (i) => isValid(bits, i) };
      }
      case 'int':
        return integers(this.buffers.take(), type, length);
      case 'float':
        return floats(this.buffers.take(), type.bytes, length);
      case 'decimal':
        return decimals(this.buffers.take(), type, length);
      case 'fixed-binary': {
        const bytes = checked(this.buffers.take(), length * type.bytes);
        return { read: (i) => bytes.slice(i * type.bytes, (i + 1) * type.bytes) };
      }
      case 'utf8':
      case 'binary': {
        const { offsets, raw } = this.offsets(length, type.large);
        const bytes = this.buffers.take();
        checkEnd(offsets, length, bytes.length);
        const part = (i: number) => bytes.subarray(offsets[i], offsets[i + 1]);
        const read = type.kind === 'utf8' ? (i: number) => decodeUtf8(part(i)) : (i: number) => part(i).slice();
        return { read, ...(raw && { raw: { offsets: raw, values: bytes } }) };
      }
      case 'utf8-view':
      case 'binary-view':
        return this.views(length, valid, type.kind === 'utf8-view');
      case 'list':
      case 'map':
        return this.lists(field, length, type.kind === 'list' && type.large);
      case 'fixed-list': {
        const item = this.column(field.children[0]!);
        if (item.length < length * type.length)
          throw new Error(`${item.length} values in lists of ${length * type.length}`);
        return { read: (i) => slice(item, i * type.length, (i + 1) * type.length) };
      }
      case 'struct':
        return this.structs(field, length);
      default:
        throw new Error(`no values of kind ${type.kind}`);
    }
  }

  private lists(field: ArrowField, length: number, large: boolean): Omit<Column, 'length'> {
    const { offsets, raw } = this.offsets(length, large);
    const item = this.column(field.children[0]!);
    checkEnd(offsets, length, item.length);
    const list = (i: number) => slice(item, offsets[i]!, offsets[i + 1]!);
    if (field.type.kind === 'map')
      return { read: (i) => Object.fromEntries(list(i).map((entry) => Object.values(entry!))) };
    return {
      read: list,
      ...(raw && item.raw && !item.raw.offsets && { raw: { offsets: raw, values: item.raw.values } }),
    };
  }

  private structs(field: ArrowField, length: number): Omit<Column, 'length'> {
    const columns = field.children.map((child) => this.column(child));
    const odd = columns.find((column) => column.length < length);
    if (odd) throw new Error(`${odd.length} values within '${field.name}', which has ${length}`);
    const names = field.children.map(({ name }) => name);
    return { read: (i) => Object.fromEntries(names.map((name, c) => [name, columns[c]!.read(i)])) };
  }

  /** Where values begin and end, known to rise. `raw` where they are 32-bit numbers. */
  private offsets(length: number, large: boolean): { offsets: Offsets; raw?: Int32Array } {
    const buffer = this.buffers.take();
    if (length === 0) return { offsets: NO_OFFSETS, ...(!large && { raw: NO_OFFSETS }) }; // may be left out
    const offsets = large
      ? Float64Array.from(numbers(BigInt64Array, buffer, length + 1), Number)
      : numbers(Int32Array, buffer, length + 1);
    let last = 0;
    for (let i = 0; i <= length; i++) {
      const offset = offsets[i]!;
      if (offset < last) throw new Error(`offsets that fall at row ${Math.max(0, i - 1)}`);
      last = offset;
    }
    return { offsets, ...(offsets instanceof Int32Array && { raw: offsets }) };
  }

  /** Text of up to 12 bytes stands in its view; longer text somewhere in the buffers of text. */
  private views(length: number, valid: Uint8Array | undefined, text: boolean): Omit<Column, 'length'> {
    const bytes = checked(this.buffers.take(), 16 * length);
    const places = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const count = this.header.viewBuffers[this.nextView++] ?? 0;
    if (count > this.header.buffers.length) throw new Error(`${count} buffers of text`);
    const texts = Array.from({ length: count }, () => this.buffers.take());
    const part = (i: number) => {
      const size = places.getInt32(16 * i, true);
      if (size <= 12) return bytes.subarray(16 * i + 4, 16 * i + 4 + size);
      const start = places.getInt32(16 * i + 12, true);
      return texts[places.getInt32(16 * i + 8, true)]!.subarray(start, start + size);
    };
    // They may all name the same text: what they come to is bounded by itself.
    let total = 0;
    for (let i = 0; i < length; i++) {
      if (valid && !isValid(valid, i)) continue;
      const size = places.getInt32(16 * i, true);
      const start = places.getInt32(16 * i + 12, true);
      const end = texts[places.getInt32(16 * i + 8, true)]?.length ?? -1;
      if (size < 0 || (size > 12 && !(start >= 0 && start + size <= end)))
        throw new Error(`text outside of its buffer at row ${i}`);
      total += size;
    }
    if (total > MAX_BATCH_BYTES) throw new Error(`a column of ${total} bytes`);
    return { read: text ? (i) => decodeUtf8(part(i)) : (i) => part(i).slice() };
  }
}

const NO_OFFSETS = new Int32Array(1);

const isValid = (bits: Uint8Array, index: number) => (bits[index >> 3]! & (1 << (index & 7))) !== 0;

function slice(column: Column, start: number, end: number): unknown[] {
  return Array.from({ length: end - start }, (_, i) => column.read(start + i));
}

function checked(bytes: Uint8Array, needed: number): Uint8Array {
  if (bytes.length < needed) throw new Error(`a buffer of ${bytes.length} bytes, not ${needed}`);
  return bytes;
}

function checkEnd(offsets: Offsets, length: number, end: number): void {
  if (offsets[length]! > end) throw new Error(`offsets up to ${offsets[length]} of ${end}`);
}

/** A buffer as numbers; a copy where it does not begin where such numbers must. */
function numbers<A>(
  type: { new (buffer: ArrayBufferLike, offset: number, length: number): A; readonly BYTES_PER_ELEMENT: number },
  buffer: Uint8Array,
  length: number,
): A {
  const bytes = checked(buffer, length * type.BYTES_PER_ELEMENT);
  const { buffer: memory, byteOffset } = bytes.byteOffset % type.BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice();
  return new type(memory, byteOffset, length);
}

function integers(
  buffer: Uint8Array,
  { bytes, signed }: ArrowType & { kind: 'int' },
  length: number,
): Omit<Column, 'length'> {
  if (bytes === 8) {
    const values = numbers<ArrayLike<bigint>>(signed ? BigInt64Array : BigUint64Array, buffer, length);
    return { read: (i) => plain(values[i]!) };
  }
  const type = { 1: [Uint8Array, Int8Array], 2: [Uint16Array, Int16Array], 4: [Uint32Array, Int32Array] }[bytes][
    signed ? 1 : 0
  ]!;
  const values = numbers<ArrayLike<number>>(type, buffer, length);
  return { read: (i) => values[i], ...(values instanceof Int32Array && { raw: { values } }) };
}

function floats(buffer: Uint8Array, bytes: 2 | 4 | 8, length: number): Omit<Column, 'length'> {
  if (bytes === 2) {
    const values = numbers(Uint16Array, buffer, length);
    return { read: (i) => half(values[i]!) };
  }
  const values = numbers<ArrayLike<number>>(bytes === 4 ? Float32Array : Float64Array, buffer, length);
  return { read: (i) => values[i] };
}

function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

/** As text, since numbers of their precision have no other form in JSON. */
function decimals(
  buffer: Uint8Array,
  { bytes, scale }: ArrowType & { kind: 'decimal' },
  length: number,
): Omit<Column, 'length'> {
  const values = checked(buffer, length * bytes);
  return {
    read(i) {
      let value = 0n;
      for (let b = bytes - 1; b >= 0; b--) value = (value << 8n) | BigInt(values[i * bytes + b]!);
      value = BigInt.asIntN(8 * bytes, value);
      if (scale <= 0) return String(value * 10n ** BigInt(-scale));
      const digits = String(value < 0n ? -value : value).padStart(scale + 1, '0');
      return `${value < 0n ? '-' : ''}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
    },
  };
}

/** A 64-bit integer as a number where that is exact, else as text. */
function plain(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : String(value);
}
