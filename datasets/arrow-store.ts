// SPDX-License-Identifier: Apache-2.0
// Folders of Arrow files that are read by position: what rows are imported into and tokenised examples cached in. Files are
// mapped into memory, a batch is checked against its checksum when it is first touched, and pages are let go of as reading
// moves on, so that memory does not grow with the data. Knows columns; nothing of what they mean, nothing of how a file gets
// its name (checkpoints/files.ts). What is where stands in a manifest that is written last: without it there is no store.
import { createHash, type Hash } from 'node:crypto';
import { closeSync, openSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { UserError } from '../errors.js';
import { native } from '../kernels/index.js';
import { ArrowBytes } from './files/arrow-bytes.js';
import type { ArrowFile } from './files/arrow-writer.js';
import { type Cell, type ColumnBuffers, type ColumnBuilder, type ColumnType, columnBuilder } from './files/columns.js';

/** A file of a store. Its bytes are a head (the schema), batches one after the other, and a tail (the footer). */
export interface Shard {
  file: string;
  rows: number;
  sha256: string;
  /** Where head, batches and tail end, and their checksums; in the same order, one each. */
  ends: number[];
  crc32: number[];
  /** Of the key column's buffers in each batch: it is also read by itself. */
  keyCrc32: number[];
  /** Rows of the batches. */
  batchRows: number[];
}

/** A place for new files; checkpoints' `Replacement` is one. */
export interface StoreFolder {
  create(name: string): { write(bytes: Uint8Array, position: number): void };
}

/** Small enough to read one for a row, large enough that a thousand of them make a file. */
const BATCH_BYTES = 1 << 20;
const BATCH_ROWS = 4096;
/** A file is mapped whole; several let one be checked, copied and mapped by itself. */
const SHARD_BYTES = 256 << 20;

/** Loads the library with the first store that is written. */
export const loadArrowWriter = () => import('./files/arrow-writer.js');
export type ArrowWriter = Awaited<ReturnType<typeof loadArrowWriter>>;

/** Writes rows of cells as files `NAME-00000.arrow`, …. Files are complete after `finish`. */
export class StoreWriter {
  readonly shards: Shard[] = [];
  private columns: ColumnBuilder[] = [];
  private rows = 0;
  private open: { shard: Shard; hash: Hash; file: ArrowFile; close(): void } | undefined;

  /** @param key the column that `Store.keys` reads */
  constructor(
    private readonly types: readonly ColumnType[],
    private readonly key: number,
    private readonly folder: StoreFolder,
    private readonly name: string,
    private readonly library: ArrowWriter,
  ) {}

  /** What rows that are not yet written take, with the room for more of them. */
  get heldBytes(): number {
    let bytes = 0;
    for (const column of this.columns) bytes += column.capacityBytes;
    return bytes;
  }

  put(cells: readonly Cell[]): void {
    if (this.columns.length === 0) this.columns = this.types.map(({ type }) => columnBuilder(type));
    let bytes = 0;
    for (const [c, column] of this.columns.entries()) {
      column.put(cells[c]!);
      bytes += column.bytes;
    }
    this.rows++;
    if (this.rows === BATCH_ROWS || bytes >= BATCH_BYTES) this.flush();
  }

  /** Writes the rows that are held and gives their memory back. */
  rest(): void {
    this.flush();
    this.columns = [];
  }

  private flush(): void {
    if (this.rows === 0) return;
    this.open ??= this.begin();
    const { shard, file } = this.open;
    const columns = this.columns.map((column) => column.take());
    file.batch(this.rows, columns);
    shard.keyCrc32.push(columnCrc32(columns[this.key]!, this.rows));
    shard.rows += this.rows;
    shard.batchRows.push(this.rows);
    this.rows = 0;
    this.open.close();
    if (shard.ends.at(-1)! >= SHARD_BYTES) this.end();
  }

  /** Writes what is held, and ends the file. */
  finish(): void {
    this.rest();
    this.end();
  }

  private end(): void {
    if (!this.open) return;
    const { shard, hash, file, close } = this.open;
    file.finish();
    close();
    shard.sha256 = hash.digest('hex');
    this.open = undefined;
  }

  private begin() {
    const name = `${this.name}-${String(this.shards.length).padStart(5, '0')}.arrow`;
    const shard: Shard = { file: name, rows: 0, sha256: '', ends: [], crc32: [], keyCrc32: [], batchRows: [] };
    this.shards.push(shard);
    const target = this.folder.create(name);
    const hash = createHash('sha256');
    let at = 0;
    let crc = 0;
    const write = (bytes: Uint8Array) => {
      target.write(bytes, at);
      hash.update(bytes);
      crc = crc32(bytes, crc);
      at += bytes.length;
    };
    /** Ends head, batch or tail. */
    const close = () => {
      shard.ends.push(at);
      shard.crc32.push(crc);
      crc = 0;
    };
    const file = new this.library.ArrowFile(this.types, write);
    file.begin();
    close();
    return { shard, hash, file, close };
  }
}

/** Bytes of all stores of a thread that may be touched before their pages are let go of. */
export const STORE_WINDOW_BYTES = 64 << 20;
/** What reading a row may bring in besides its own bytes: the system maps 64 KiB around each page that is touched. */
const ROW_TOUCH_BYTES = 64 << 10;
/** Batches whose columns are held ready; a few kilobytes each. */
const HELD_BATCHES = 1024;

/** What of all open stores was touched. */
const touched = { buffers: new Set<ArrayBuffer>(), bytes: 0 };

function touch({ buffer }: OpenShard, bytes: number): void {
  touched.bytes += bytes;
  if (touched.bytes >= STORE_WINDOW_BYTES) {
    for (const each of touched.buffers) native().dropPages(each);
    touched.buffers.clear();
    touched.bytes = bytes;
  }
  touched.buffers.add(buffer);
}

interface OpenShard {
  shard: Shard;
  path: string;
  buffer: ArrayBuffer;
  bytes: ArrowBytes;
  /** Of its first row. */
  first: number;
  checked: Uint8Array;
}

export interface StoreBatch {
  rows: number;
  columns: readonly ColumnBuffers[];
}

/** An open store. Buffers of a batch are only good until the next is asked for: copy what is kept. */
export class Store {
  readonly count: number;
  /** Changes with any byte of the content. */
  readonly fingerprint: string;
  /** First row of each batch of all shards. */
  private readonly starts: Uint32Array;
  private readonly placeOf: { shard: OpenShard; batch: number }[] = [];
  private readonly held = new Map<number, StoreBatch>();
  private last = 0;

  private constructor(
    private readonly shards: OpenShard[],
    private readonly columns: number,
  ) {
    const starts: number[] = [];
    let count = 0;
    for (const shard of shards) {
      for (const [batch, rows] of shard.shard.batchRows.entries()) {
        starts.push(count);
        this.placeOf.push({ shard, batch });
        count += rows;
      }
    }
    this.count = count;
    this.starts = Uint32Array.from(starts);
    this.fingerprint = createHash('sha256')
      .update(JSON.stringify(shards.map(({ shard }) => shard.sha256)))
      .digest('hex');
  }

  /** Opens shards of a folder, and checks that they are the files that were written. @throws UserError */
  static async open(folder: string, shards: readonly Shard[], columns: readonly ColumnType[]): Promise<Store> {
    const open: OpenShard[] = [];
    let first = 0;
    try {
      for (const shard of shards) {
        const path = join(folder, shard.file);
        const buffer = mapWhole(path, shard);
        open.push({
          shard,
          path,
          buffer,
          bytes: undefined as never,
          first,
          checked: new Uint8Array(shard.ends.length),
        });
        const opened = open.at(-1)!;
        check(opened, 0);
        check(opened, shard.ends.length - 1);
        opened.bytes = attemptRead(path, () => new ArrowBytes(new Uint8Array(buffer), columns));
        if (opened.bytes.batches !== shard.batchRows.length) throw damaged(path, `${opened.bytes.batches} batches`);
        first += shard.rows;
      }
      return new Store(open, columns.length);
    } catch (error) {
      for (const { buffer } of open) native().release(buffer);
      throw error;
    }
  }

  /** The batch that a row is in, and which of its rows it is. */
  at(index: number): { batch: StoreBatch; row: number } {
    const b = this.batchOf(index);
    touch(this.placeOf[b]!.shard, this.columns * ROW_TOUCH_BYTES);
    return { batch: this.batch(b), row: index - this.starts[b]! };
  }

  /** For people. */
  where(index: number): string {
    const { shard } = this.placeOf[this.batchOf(index)]!;
    return `${shard.path}, row ${index - shard.first + 1}`;
  }

  /** The key column of all batches, in order. Only that column is read from disk. @param key as it was written */
  *keys(key: number): Generator<{ rows: number; buffers: ColumnBuffers }> {
    for (const { shard, batch } of this.placeOf) {
      touch(shard, this.columns * ROW_TOUCH_BYTES);
      const { rows, columns } = attemptRead(shard.path, () => shard.bytes.batch(batch));
      const { keyCrc32, batchRows } = shard.shard;
      if (rows !== batchRows[batch] || columnCrc32(columns[key]!, rows) !== keyCrc32[batch])
        throw damaged(shard.path, `other bytes in batch ${batch}`);
      yield { rows, buffers: columns[key]! };
    }
  }

  close(): void {
    for (const { buffer } of this.shards.splice(0)) {
      touched.buffers.delete(buffer);
      native().release(buffer);
    }
    this.held.clear();
  }

  private batchOf(index: number): number {
    if (!(index >= 0 && index < this.count)) throw new RangeError(`row ${index} of ${this.count}`);
    const { starts, last } = this;
    if (index >= starts[last]! && (last + 1 === starts.length || index < starts[last + 1]!)) return last;
    let low = 0;
    let high = starts.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (starts[middle]! <= index) low = middle;
      else high = middle;
    }
    this.last = low;
    return low;
  }

  private batch(b: number): StoreBatch {
    const known = this.held.get(b);
    if (known) return known;
    const { shard, batch: index } = this.placeOf[b]!;
    if (shard.checked[index + 1] === 0) {
      touch(shard, shard.shard.ends[index + 1]! - shard.shard.ends[index]!);
      check(shard, index + 1);
    }
    const batch = attemptRead(shard.path, () => shard.bytes.batch(index));
    if (batch.rows !== shard.shard.batchRows[index]) throw damaged(shard.path, `${batch.rows} rows in batch ${index}`);
    if (this.held.size === HELD_BATCHES) this.held.delete(this.held.keys().next().value!);
    this.held.set(b, batch);
    return batch;
  }
}

function mapWhole(path: string, { ends }: Shard): ArrayBuffer {
  const bytes = ends.at(-1)!;
  const file = attemptRead(path, () => openSync(path, 'r'));
  try {
    const found = attemptRead(path, () => statSync(path).size);
    if (found !== bytes) throw damaged(path, `${found} bytes, not ${bytes}`);
    return native().mapFile(file, 0, bytes);
  } finally {
    closeSync(file);
  }
}

/** Of a column's buffers without what pads them in the file. */
function columnCrc32({ offsets, values }: ColumnBuffers, rows: number): number {
  const crc = (of: Uint8Array | Int32Array, length: number, before = 0) =>
    crc32(new Uint8Array(of.buffer, of.byteOffset, length * of.BYTES_PER_ELEMENT), before);
  return offsets ? crc(values, offsets[rows]!, crc(offsets, rows + 1)) : crc(values, rows);
}

/** Checks a part of a file (0 is its head) against its checksum, once. */
function check({ shard: { ends, crc32: sums }, buffer, checked, path }: OpenShard, part: number): void {
  if (checked[part] === 1) return;
  const start = part === 0 ? 0 : ends[part - 1]!;
  const end = ends[part]!;
  if (crc32(new Uint8Array(buffer, start, end - start)) !== sums[part])
    throw damaged(path, `other bytes between ${start} and ${end}`);
  checked[part] = 1;
}

function attemptRead<Value>(path: string, read: () => Value): Value {
  try {
    return read();
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    throw damaged(path, code === 'ENOENT' ? 'no such file' : message, cause);
  }
}

/** What is wrong with a store's files, as its readers report it. */
export function damaged(path: string, found: string, cause?: unknown): UserError {
  return new UserError({
    expected: 'the Arrow file that was written here',
    found,
    where: path,
    remedy: 'it was damaged, changed or only copied in part: make it again',
    cause,
  });
}

/** The manifest of a store. @throws UserError where there is none, or not of this version */
export function readManifest<M extends { version: number; shards: Shard[] }>(path: string, version: number): M {
  const manifest = attemptRead(path, () => JSON.parse(readFileSync(path, 'utf8')) as M);
  if (manifest?.version !== version)
    throw damaged(path, `version ${manifest?.version} of its description, not ${version}`);
  const { shards } = manifest;
  if (!Array.isArray(shards) || !shards.every(isShard)) throw damaged(path, 'no list of its files');
  return manifest;
}

/** Whether a value is a shard whose numbers agree with each other. */
function isShard(value: unknown): value is Shard {
  const { file, rows, sha256, ends, crc32: sums, keyCrc32, batchRows } = (value ?? {}) as Partial<Shard>;
  const whole = (numbers: unknown): numbers is number[] =>
    Array.isArray(numbers) && numbers.every((n) => Number.isSafeInteger(n) && n >= 0);
  return (
    typeof file === 'string' &&
    /^[^/\\]+\.arrow$/.test(file) &&
    typeof sha256 === 'string' &&
    whole(ends) &&
    whole(sums) &&
    whole(keyCrc32) &&
    whole(batchRows) &&
    ends.length === batchRows.length + 2 &&
    sums.length === ends.length &&
    keyCrc32.length === batchRows.length &&
    ends.every((end, i) => i === 0 || end >= ends[i - 1]!) &&
    rows === batchRows.reduce((sum, n) => sum + n, 0)
  );
}
