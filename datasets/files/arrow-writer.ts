// SPDX-License-Identifier: Apache-2.0
// Writes Arrow IPC files; the adapter of `apache-arrow`, which is loaded to write alone. Takes bare buffers, since the library's own
// builders take seconds for what typed arrays do in milliseconds. Knows no rows.
import {
  type Data,
  DataType,
  Field,
  Int32,
  List,
  makeData,
  RecordBatch,
  RecordBatchFileWriter,
  Schema,
  Struct,
  Utf8,
} from 'apache-arrow';
import type { ColumnBuffers, ColumnType } from './columns.js';

const TYPES = {
  utf8: () => new Utf8(),
  int32: () => new Int32(),
  'int32-list': () => new List(new Field('item', new Int32())),
};

/** Writes batches of bare buffers as an Arrow file; `write` gets its bytes in order, which it must use before it returns. */
export class ArrowFile {
  private readonly schema: Schema;
  private readonly writer: Writer;

  constructor(columns: readonly ColumnType[], write: (bytes: Uint8Array) => void) {
    this.schema = new Schema(columns.map(({ name, type }) => new Field(name, TYPES[type](), true)));
    this.writer = new Writer(write);
  }

  /** Writes the schema. */
  begin(): void {
    this.writer.reset(undefined, this.schema);
  }

  batch(rows: number, columns: readonly ColumnBuffers[]): void {
    const children = this.schema.fields.map(({ type }, c) => dataOf(type, rows, columns[c]!));
    this.writer.write(
      new RecordBatch(this.schema, makeData({ type: new Struct(this.schema.fields), length: rows, children })),
    );
  }

  finish(): void {
    this.writer.finish();
  }
}

/** The library's queue of written bytes holds a file whole; this hands them on. */
class Writer extends RecordBatchFileWriter {
  constructor(private readonly sink: (bytes: Uint8Array) => void) {
    super();
  }

  protected override _write(chunk: ArrayBufferView): this {
    if (this._started && chunk.byteLength > 0) {
      this.sink(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength));
      this._position += chunk.byteLength;
    }
    return this;
  }
}

function dataOf(type: DataType, length: number, { valid, offsets, values }: ColumnBuffers): Data {
  const nulls = valid ? { nullBitmap: valid, nullCount: -1 } : { nullCount: 0 };
  if (DataType.isUtf8(type)) return makeData({ type, length, ...nulls, valueOffsets: offsets, data: values });
  if (DataType.isList(type)) {
    const item = type.children[0]!.type as Int32;
    const child = makeData({ type: item, length: offsets![length]!, nullCount: 0, data: values as Int32Array });
    return makeData({ type, length, ...nulls, valueOffsets: offsets, child });
  }
  return makeData({ type: type as Int32, length, ...nulls, data: values as Int32Array });
}
