// SPDX-License-Identifier: Apache-2.0
// Reads FlatBuffers tables field by field, as Arrow describes its batches with them (flatbuffers.dev, "Internals"). Every
// reading is within the buffer or throws: DataView checks it. Offsets point forward only, so nothing here goes in circles; tables
// may still be shared, so whoever walks them counts what is visited. Knows no schema.
import { decodeUtf8 } from './utf8.js';

const INT32_BYTES = 4;

/** A table; its fields are numbered by their place in the schema. */
export class FlatTable {
  private constructor(
    private readonly view: DataView,
    private readonly at: number,
  ) {}

  /** The table that a buffer begins with an offset to. */
  static root(bytes: Uint8Array): FlatTable {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return new FlatTable(view, view.getUint32(0, true));
  }

  int8(field: number, absent = 0): number {
    const at = this.place(field);
    return at === undefined ? absent : this.view.getInt8(at);
  }

  int16(field: number, absent = 0): number {
    const at = this.place(field);
    return at === undefined ? absent : this.view.getInt16(at, true);
  }

  int32(field: number, absent = 0): number {
    const at = this.place(field);
    return at === undefined ? absent : this.view.getInt32(at, true);
  }

  int64(field: number): bigint {
    const at = this.place(field);
    return at === undefined ? 0n : this.view.getBigInt64(at, true);
  }

  text(field: number): string {
    const { start, length } = this.vector(field, 1);
    return decodeUtf8(new Uint8Array(this.view.buffer, this.view.byteOffset + start, length));
  }

  table(field: number): FlatTable | undefined {
    const at = this.place(field);
    return at === undefined ? undefined : new FlatTable(this.view, at + this.view.getUint32(at, true));
  }

  tables(field: number): FlatTable[] {
    const { start, length } = this.vector(field, INT32_BYTES);
    return Array.from({ length }, (_, i) => {
      const at = start + INT32_BYTES * i;
      return new FlatTable(this.view, at + this.view.getUint32(at, true));
    });
  }

  /** A vector of structs or numbers of `bytes` each, read one by one. */
  structs<Value>(field: number, bytes: number, read: (view: DataView, at: number) => Value): Value[] {
    const { start, length } = this.vector(field, bytes);
    return Array.from({ length }, (_, i) => read(this.view, start + bytes * i));
  }

  /** Where a field's value stands; undefined where the table has none. */
  private place(field: number): number | undefined {
    const { view, at } = this;
    const vtable = at - view.getInt32(at, true);
    const entry = INT32_BYTES + 2 * field;
    if (entry + 2 > view.getUint16(vtable, true)) return undefined;
    const offset = view.getUint16(vtable + entry, true);
    return offset === 0 ? undefined : at + offset;
  }

  private vector(field: number, elementBytes: number): { start: number; length: number } {
    const at = this.place(field);
    if (at === undefined) return { start: 0, length: 0 };
    const vector = at + this.view.getUint32(at, true);
    const length = this.view.getUint32(vector, true);
    const start = vector + INT32_BYTES;
    if (length * elementBytes > this.view.byteLength - start)
      throw new RangeError(`a list of ${length} in ${this.view.byteLength} bytes`);
    return { start, length };
  }
}
