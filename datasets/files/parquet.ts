// SPDX-License-Identifier: Apache-2.0
// Records from Parquet files; the adapter of `hyparquet` and `hyparquet-compressors`. Reads a stretch of rows of one row group
// at a time, so that a file that is one large row group is not held whole. Knows nothing of what the rows mean.
import type { FileHandle } from 'node:fs/promises';
import type { AsyncBuffer, FileMetaData } from 'hyparquet';
import { UserError } from '../../errors.js';
import { type OnBad, Place, type RawRecord } from './place.js';
import { decodeUtf8 } from './utf8.js';

/** Unpacked bytes that are decoded at a time; as JavaScript text they take up to twice as much. */
const STRETCH_BYTES = 8 << 20;
/** Rows fail by pages; below this many, those beside them are not looked for. */
const MIN_SPLIT_ROWS = 16;
/** A footer describes columns and row groups: kilobytes, a few megabytes for the largest. */
const MAX_FOOTER_BYTES = 64 << 20;
const TAIL_BYTES = 8;

type Hyparquet = typeof import('hyparquet');
type Fields = Record<string, unknown>;

/** The rows of a Parquet file, in order. */
export async function* readParquet(handle: FileHandle, path: string, onBad?: OnBad): AsyncGenerator<RawRecord> {
  const [hyparquet, { compressors }] = await Promise.all([import('hyparquet'), import('hyparquet-compressors')]);
  const file = new ColumnChunks(handle, (await handle.stat()).size);
  const metadata = await readMetadata(hyparquet, file, path);
  const read = (rowStart: number, rowEnd: number): Promise<Fields[]> =>
    hyparquet.parquetReadObjects({
      file,
      metadata,
      compressors,
      rowStart,
      rowEnd,
      useOffsetIndex: true,
      parsers: { stringFromBytes: strictUtf8 },
    });
  let groupStart = 0;
  for (const group of metadata.row_groups) {
    const rows = Number(group.num_rows);
    const bytes = Math.max(1, Number(group.total_byte_size));
    const step = Math.max(MIN_SPLIT_ROWS, Math.ceil((rows * STRETCH_BYTES) / bytes));
    for (let from = groupStart; from < groupStart + rows; from += step) {
      const to = Math.min(from + step, groupStart + rows);
      for await (const { start, fields } of readStretch(read, from, to, path, onBad)) {
        for (const [i, row] of fields.entries()) yield { value: plainFields(row), place: new Place(path, start + i) };
      }
    }
    file.forget();
    groupStart += rows;
  }
}

/** The rows of a stretch; where it cannot be read and faults are taken, those of its halves that can. */
async function* readStretch(
  read: (from: number, to: number) => Promise<Fields[]>,
  from: number,
  to: number,
  path: string,
  onBad?: OnBad,
): AsyncGenerator<{ start: number; fields: Fields[] }> {
  let fields: Fields[];
  try {
    fields = await read(from, to);
    if (fields.length !== to - from) throw new Error(`${fields.length} rows`);
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'EIO') throw cause;
    const fault = new UserError({
      expected: `rows ${from + 1} to ${to} of a Parquet file`,
      found: `pages that cannot be read (${(cause as Error).message})`,
      where: path,
      remedy: 'the file is damaged or was not fully copied: fetch or write it again',
      cause,
    });
    if (!onBad) throw fault;
    if (to - from < 2 * MIN_SPLIT_ROWS) return onBad(fault, to - from);
    const middle = (from + to) >> 1;
    yield* readStretch(read, from, middle, path, onBad);
    yield* readStretch(read, middle, to, path, onBad);
    return;
  }
  yield { start: from, fields };
}

async function readMetadata(
  { parquetMetadataAsync }: Hyparquet,
  file: AsyncBuffer,
  path: string,
): Promise<FileMetaData> {
  try {
    const tail = Buffer.from(await file.slice(file.byteLength - TAIL_BYTES));
    const footerBytes = tail.readUInt32LE(0);
    if (tail.toString('latin1', 4) !== 'PAR1') throw new Error('no PAR1 at its end');
    if (footerBytes > Math.min(MAX_FOOTER_BYTES, file.byteLength - TAIL_BYTES)) {
      throw new Error(`a footer of ${footerBytes} bytes`);
    }
    return await parquetMetadataAsync(file);
  } catch (cause) {
    throw new UserError({
      expected: 'a Parquet file with its footer',
      found: (cause as Error).message,
      where: path,
      remedy: 'the file is damaged or was not fully copied: fetch or write it again',
      cause,
    });
  }
}

/** Slices of a file. Those of the current row group are kept: each stretch of it reads the same column chunks. */
class ColumnChunks implements AsyncBuffer {
  private readonly slices = new Map<string, Promise<ArrayBuffer>>();
  private kept = 0;
  /** More is read again instead of being held. */
  private static readonly MAX_KEPT_BYTES = 128 << 20;

  constructor(
    private readonly handle: FileHandle,
    readonly byteLength: number,
  ) {}

  slice(start: number, end = this.byteLength): Promise<ArrayBuffer> {
    const key = `${start} ${end}`;
    const known = this.slices.get(key);
    if (known) return known;
    const slice = this.read(start, end);
    if (this.kept + end - start <= ColumnChunks.MAX_KEPT_BYTES) {
      this.kept += end - start;
      this.slices.set(key, slice);
    }
    return slice;
  }

  forget(): void {
    this.slices.clear();
    this.kept = 0;
  }

  private async read(start: number, end: number): Promise<ArrayBuffer> {
    if (!(start >= 0 && start <= end && end <= this.byteLength))
      throw new Error(`bytes ${start} to ${end} of ${this.byteLength}`);
    const bytes = new Uint8Array(end - start);
    const { bytesRead } = await this.handle.read(bytes, 0, bytes.length, start);
    if (bytesRead !== bytes.length) throw new Error(`the end of the file at ${start + bytesRead}`);
    return bytes.buffer;
  }
}

/** Bytes that are no text end in an error, not in replacement characters. */
const strictUtf8 = (bytes: Uint8Array | undefined) => bytes && decodeUtf8(bytes);

/** 64-bit integers as numbers where those are exact. */
function plainFields(fields: Fields): Fields {
  for (const [name, value] of Object.entries(fields)) {
    if (typeof value !== 'bigint') continue;
    const number = Number(value);
    fields[name] = Number.isSafeInteger(number) ? number : String(value);
  }
  return fields;
}
