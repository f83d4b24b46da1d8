// SPDX-License-Identifier: Apache-2.0
// Columns of a batch, filled row by row straight into the buffers that Arrow writes, and read back from them. Used again for
// each batch, so that filling costs no garbage. Knows no files.
import { decodeUtf8 } from './utf8.js';

export interface ColumnType {
  name: string;
  type: 'utf8' | 'int32' | 'int32-list';
}

/** One column of a batch as Arrow lays it out. */
export interface ColumnBuffers {
  /** A bit per row, from the lowest; 0 = null. Absent where no row is. */
  valid?: Uint8Array | undefined;
  /** (rows + 1), for text and lists: in bytes and in numbers. */
  offsets?: Int32Array;
  values: Uint8Array | Int32Array;
}

/** What stands in a cell: text, a number or numbers, by the column's type. */
export type Cell = string | number | Int32Array | null;

/** Fills a column; `take` gives what was put since and begins anew. Its buffers are good until the next `put`. */
export interface ColumnBuilder {
  /** Of the batch so far. */
  readonly bytes: number;
  /** What its buffers take. */
  readonly capacityBytes: number;
  put(cell: Cell): void;
  take(): ColumnBuffers;
}

/** Small: a store of many languages has columns for each of them. */
const INITIAL_ROWS = 64;
const INITIAL_VALUES = 1 << 10;

/** Which rows are null: a bit each, kept only once there is one. */
class Validity {
  private bits = new Uint8Array(INITIAL_ROWS / 8);
  private nulls = 0;

  get capacityBytes(): number {
    return this.bits.length;
  }

  mark(row: number, valid: boolean): void {
    if (row >> 3 >= this.bits.length) this.bits = grown(this.bits, 2 * this.bits.length);
    if (valid) this.bits[row >> 3]! |= 1 << (row & 7);
    else this.nulls++;
  }

  take(rows: number): Uint8Array | undefined {
    const bits = this.nulls === 0 ? undefined : Uint8Array.from(this.bits.subarray(0, (rows + 7) >> 3));
    this.bits.fill(0);
    this.nulls = 0;
    return bits;
  }
}

function grown<A extends Uint8Array | Int32Array>(old: A, length: number): A {
  const larger = (old instanceof Int32Array ? new Int32Array(length) : Buffer.alloc(length)) as A;
  larger.set(old as never);
  return larger;
}

/** Values of changing length, behind offsets. */
abstract class VariableColumn<Values extends Uint8Array | Int32Array> implements ColumnBuilder {
  protected used = 0;
  private rows = 0;
  private offsets = new Int32Array(INITIAL_ROWS + 1);
  private readonly validity = new Validity();

  constructor(protected values: Values) {}

  get bytes(): number {
    return this.used * this.values.BYTES_PER_ELEMENT;
  }

  get capacityBytes(): number {
    return this.values.byteLength + this.offsets.byteLength + this.validity.capacityBytes;
  }

  put(cell: Cell): void {
    if (cell !== null) this.append(cell);
    this.validity.mark(this.rows, cell !== null);
    this.rows++;
    if (this.rows >= this.offsets.length) this.offsets = grown(this.offsets, 2 * this.offsets.length);
    this.offsets[this.rows] = this.used;
  }

  take(): ColumnBuffers {
    const { rows, used } = this;
    const valid = this.validity.take(rows);
    [this.rows, this.used] = [0, 0];
    return { valid, offsets: this.offsets.subarray(0, rows + 1), values: this.values.subarray(0, used) as Values };
  }

  protected reserve(count: number): void {
    const needed = this.used + count;
    if (needed > this.values.length) this.values = grown(this.values, Math.max(needed, 2 * this.values.length));
  }

  /** Adds a cell's values and counts them in `used`. */
  protected abstract append(cell: Exclude<Cell, null>): void;
}

class TextColumn extends VariableColumn<Buffer> {
  constructor() {
    super(Buffer.alloc(INITIAL_VALUES));
  }

  protected append(cell: Exclude<Cell, null>): void {
    const text = cell as string;
    this.reserve(3 * text.length); // a UTF-16 unit takes at most three bytes
    this.used += this.values.write(text, this.used, 'utf8');
  }
}

class IntListColumn extends VariableColumn<Int32Array> {
  constructor() {
    super(new Int32Array(INITIAL_VALUES));
  }

  protected append(cell: Exclude<Cell, null>): void {
    const list = cell as Int32Array;
    this.reserve(list.length);
    this.values.set(list, this.used);
    this.used += list.length;
  }
}

class IntColumn implements ColumnBuilder {
  private rows = 0;
  private values = new Int32Array(INITIAL_ROWS);
  private readonly validity = new Validity();

  get bytes(): number {
    return 4 * this.rows;
  }

  get capacityBytes(): number {
    return this.values.byteLength + this.validity.capacityBytes;
  }

  put(cell: Cell): void {
    if (this.rows === this.values.length) this.values = grown(this.values, 2 * this.values.length);
    this.values[this.rows] = (cell ?? 0) as number;
    this.validity.mark(this.rows, cell !== null);
    this.rows++;
  }

  take(): ColumnBuffers {
    const { rows } = this;
    this.rows = 0;
    return { valid: this.validity.take(rows), values: this.values.subarray(0, rows) };
  }
}

const BUILDERS = { utf8: TextColumn, int32: IntColumn, 'int32-list': IntListColumn };

export const columnBuilder = (type: keyof typeof BUILDERS): ColumnBuilder => new BUILDERS[type]();

/** A text, or null. @throws TypeError where the bytes are none */
export function textAt({ valid, offsets, values }: ColumnBuffers, row: number): string | null {
  if (!isValid(valid, row)) return null;
  const start = offsets![row]!;
  const end = offsets![row + 1]!;
  return start === end ? '' : decodeUtf8((values as Uint8Array).subarray(start, end));
}

export function intAt({ valid, values }: ColumnBuffers, row: number): number | null {
  return isValid(valid, row) ? values[row]! : null;
}

/** A copy, since what it was read from may be let go of. */
export function intsAt({ offsets, values }: ColumnBuffers, row: number): Int32Array {
  return (values as Int32Array).slice(offsets![row], offsets![row + 1]);
}

const isValid = (valid: Uint8Array | undefined, row: number) => !valid || (valid[row >> 3]! & (1 << (row & 7))) !== 0;
