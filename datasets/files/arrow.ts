// SPDX-License-Identifier: Apache-2.0
// Arrow IPC; the adapter of `apache-arrow`. Reads anyone's files and streams as records, and writes and opens files of bare
// buffers, since the library's own builders take seconds for what typed arrays do in milliseconds. Knows no rows.
import type { FileHandle } from 'node:fs/promises';
import {
  CompressionType,
  compressionRegistry,
  type Data,
  DataType,
  Field,
  Int32,
  List,
  makeData,
  RecordBatch,
  RecordBatchFileWriter,
  RecordBatchReader,
  Schema,
  Struct,
  Utf8,
  type Vector,
} from 'apache-arrow';
import { UserError } from '../../errors.js';
import { type OnBad, Place, type RawRecord } from './place.js';
import { decodeUtf8 } from './utf8.js';

/**
 * The rows of an Arrow file or stream, in order. A batch that cannot be read ends the file: where the next one begins stands
 * in it alone.
 */
export async function* readArrow(handle: FileHandle, path: string, onBad?: OnBad): AsyncGenerator<RawRecord> {
  await registerZstd();
  let position = 0;
  const fault = (cause: unknown) => {
    const { message } = cause as Error;
    const lz4 = /codec not found/.test(message);
    return new UserError({
      expected: `an Arrow file with a batch after row ${position}`,
      found: lz4 ? 'one that is compressed with LZ4' : message,
      where: path,
      remedy: lz4
        ? 'write it again, uncompressed or with zstd'
        : 'the file is damaged or was not fully copied: fetch or write it again',
      cause,
    });
  };
  try {
    const reader = await RecordBatchReader.from(handle);
    await reader.open();
    if (!reader.schema) throw new Error('no schema');
    for await (const batch of reader) {
      const names = batch.schema.fields.map(({ name }) => name);
      const cells = batch.schema.fields.map((_, c) => cellsOf(batch.getChildAt(c)!));
      for (let i = 0; i < batch.numRows; i++, position++) {
        const value = Object.fromEntries(names.map((name, c) => [name, cells[c]!(i)]));
        yield { value, place: new Place(path, position) };
      }
    }
  } catch (cause) {
    if (!onBad) throw fault(cause);
    onBad(fault(cause), 0);
  }
}

let zstd: Promise<void> | undefined;

function registerZstd(): Promise<void> {
  // A copy, where the decoder gives part of a larger buffer: arrays of 64-bit numbers begin at multiples of 8.
  zstd ??= import('fzstd').then(({ decompress }) =>
    compressionRegistry.set(CompressionType.ZSTD, { decode: (bytes) => decompress(bytes).slice() }),
  );
  return zstd;
}

/** Reads a column's values. Text is decoded strictly, where the library would put replacement characters. */
function cellsOf(column: Vector): (index: number) => unknown {
  const data = column.data[0];
  if (data && (DataType.isUtf8(column.type) || DataType.isLargeUtf8(column.type))) {
    const { values, valueOffsets: offsets } = data as Data<Utf8>;
    return (i) => (column.isValid(i) ? text(values, Number(offsets[i]), Number(offsets[i + 1])) : null);
  }
  return (i) => plain(column.get(i));
}

function text(values: Uint8Array, start: number, end: number): string {
  if (!(start >= 0 && start <= end && end <= values.length))
    throw new Error(`text at bytes ${start} to ${end} of ${values.length}`);
  return decodeUtf8(values.subarray(start, end));
}

/** A value as JSON would have it. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (typeof value === 'object' && value !== null && 'toJSON' in value) {
    const json = (value as { toJSON(): unknown }).toJSON();
    return Array.isArray(json) ? json.map(plain) : json;
  }
  return value;
}

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

/** An Arrow file in memory, by batches; nothing is copied. @throws Error where the bytes are no file of these columns */
export class ArrowBytes {
  readonly batches: number;
  private readonly reader: RecordBatchReader;

  constructor(bytes: Uint8Array, columns: readonly ColumnType[]) {
    this.reader = RecordBatchReader.from(bytes);
    this.reader.open();
    const found = this.reader.schema.fields.map(({ name, type }) => `${name}: ${type}`).join(', ');
    const expected = columns.map(({ name, type }) => `${name}: ${TYPES[type]()}`).join(', ');
    if (found !== expected) throw new Error(`the columns ${found}`);
    this.batches = this.reader.numRecordBatches;
  }

  /** The columns of a batch, checked to lie within it. */
  batch(index: number): { rows: number; columns: ColumnBuffers[] } {
    const batch = this.reader.readRecordBatch(index);
    if (!(batch instanceof RecordBatch)) throw new Error(`no batch ${index}`);
    const { children } = batch.data;
    return { rows: batch.numRows, columns: children.map((data) => buffersOf(data, batch.numRows)) };
  }
}

function buffersOf(data: Data, rows: number): ColumnBuffers {
  const valid = data.nullCount > 0 ? data.nullBitmap : undefined;
  if (!DataType.isUtf8(data.type) && !DataType.isList(data.type)) return { valid, values: data.values as Int32Array };
  const values = (DataType.isList(data.type) ? data.children[0]!.values : data.values) as Uint8Array | Int32Array;
  const offsets = data.valueOffsets as Int32Array;
  for (let i = 0; i < rows; i++) if (offsets[i]! > offsets[i + 1]!) throw new Error(`offsets that fall at row ${i}`);
  if (offsets[0]! < 0 || offsets[rows]! > values.length) throw new Error('offsets beyond the values');
  return { valid, offsets, values };
}
