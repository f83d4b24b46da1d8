// SPDX-License-Identifier: Apache-2.0
// Records by position: what a seeded shuffle and an exact cursor need. One streaming pass over the files checks every record
// and notes where it stands (20 bytes a record in memory); after that any record is read by itself. Knows nothing of what a
// record means. A file that changes while it is in use is noticed, since a record's id is checked against the index.
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../errors.js';
import { hashText } from './hash.js';
import { type Decoded, openFile, Place, parseFrame, readFrames } from './records.js';

/** Items that can be read by position. A plain object: spread it to make one that differs in a thing or two. */
export interface RecordTable<Item> {
  /** For people: the path. */
  readonly name: string;
  readonly count: number;
  /** Changes with any byte of the content. */
  readonly fingerprint: string;
  /** A hash of the row's id, the same for all translations of the row. */
  key(index: number): number;
  /** Where the record stands, for errors. */
  where(index: number): string;
  read(index: number): Promise<Item>;
  close(): Promise<void>;
}

export type Decode<Item> = (value: unknown, place: Place) => Decoded<Item>;

const ENDINGS = ['.json', '.jsonl', '.ndjson'];

/** A file itself, or all data files below a folder, sorted by code units so that the order is the same everywhere. */
export async function dataFiles(path: string): Promise<string[]> {
  const found = await stat(path).catch((cause) => {
    throw new UserError({
      expected: 'a data file or folder',
      found: cause.code === 'ENOENT' ? 'nothing there' : cause.code,
      where: path,
      cause,
    });
  });
  if (!found.isDirectory()) return [path];
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  const files = entries
    .filter(
      (entry) => entry.isFile() && !entry.name.startsWith('.') && ENDINGS.some((ending) => entry.name.endsWith(ending)),
    )
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  if (files.length === 0) {
    throw new UserError({
      expected: `files ending in ${ENDINGS.join(', ')}`,
      found: 'none in the folder',
      where: path,
    });
  }
  return files;
}

/** The items of a file or folder as a stream, in order. A fault throws where it stands; what came before has been given. */
export async function* readItems<Item>(
  path: string,
  decode: Decode<Item>,
  onBytes?: (bytes: Uint8Array) => void,
): AsyncGenerator<Decoded<Item> & { place: Place; bytes: number }> {
  for (const file of await dataFiles(path)) {
    for await (const frame of readFrames(file, onBytes)) {
      yield { ...decode(parseFrame(frame), frame.place), place: frame.place, bytes: frame.bytes.length };
    }
  }
}

/** Indexes a file or folder; `visit` sees each item once, in order, so that a caller can align or count without a second pass. */
export async function openTable<Item>(
  path: string,
  decode: Decode<Item>,
  visit?: (decoded: Decoded<Item>, place: Place) => void,
): Promise<RecordTable<Item>> {
  const index = new Index();
  const hash = createHash('sha256');
  for await (const decoded of readItems(path, decode, (bytes) => hash.update(bytes))) {
    index.add(decoded.place, decoded.bytes, hashText(decoded.id));
    visit?.(decoded, decoded.place);
  }
  if (index.count === 0) throw new UserError({ expected: 'at least one row', found: 'none', where: path });
  return fileTable(path, decode, index, hash.digest('hex'));
}

/** Items that are in memory already. */
export function tableOf<Item extends { id: string }>(
  items: readonly Item[],
  name = 'rows in memory',
): RecordTable<Item> {
  if (items.length === 0) throw new UserError({ expected: 'at least one row', found: 'none', where: name });
  const item = (index: number) => items[index] ?? outOfRange(index, items.length);
  return {
    name,
    count: items.length,
    fingerprint: createHash('sha256').update(JSON.stringify(items)).digest('hex'),
    key: (index) => hashText(item(index).id),
    where: (index) => `${name}, row ${index + 1}`,
    read: async (index) => item(index),
    close: async () => {},
  };
}

/** Where each record stands, in columns that grow. */
class Index {
  readonly files: { path: string; first: number }[] = [];
  count = 0;
  private offsets = new Float64Array(1024);
  private lengths = new Uint32Array(1024);
  private lines = new Uint32Array(1024);
  private keys = new Uint32Array(1024);

  add(place: Place, bytes: number, key: number): void {
    if (this.files.at(-1)?.path !== place.path) this.files.push({ path: place.path, first: this.count });
    if (this.count === this.keys.length) this.grow();
    this.offsets[this.count] = place.byte;
    this.lengths[this.count] = bytes;
    this.lines[this.count] = place.line;
    this.keys[this.count] = key;
    this.count++;
  }

  key(index: number): number {
    return this.keys[index] ?? outOfRange(index, this.count);
  }

  entry(index: number): { file: number; bytes: number; place: Place } {
    if (!(index >= 0 && index < this.count)) outOfRange(index, this.count);
    let file = this.files.length - 1;
    while (this.files[file]!.first > index) file--;
    const { path, first } = this.files[file]!;
    return {
      file,
      bytes: this.lengths[index]!,
      place: new Place(path, this.lines[index]!, this.offsets[index]!, index - first),
    };
  }

  private grow(): void {
    const larger = <A extends Float64Array | Uint32Array>(old: A, fresh: A): A => {
      fresh.set(old);
      return fresh;
    };
    const capacity = 2 * this.count;
    this.offsets = larger(this.offsets, new Float64Array(capacity));
    this.lengths = larger(this.lengths, new Uint32Array(capacity));
    this.lines = larger(this.lines, new Uint32Array(capacity));
    this.keys = larger(this.keys, new Uint32Array(capacity));
  }
}

function fileTable<Item>(name: string, decode: Decode<Item>, index: Index, fingerprint: string): RecordTable<Item> {
  const handles: (Promise<FileHandle> | undefined)[] = []; // opened when first read from
  return {
    name,
    count: index.count,
    fingerprint,
    key: (position) => index.key(position),
    where: (position) => String(index.entry(position).place),
    async read(position) {
      const { file, bytes, place } = index.entry(position);
      handles[file] ??= openFile(place.path);
      const handle = await handles[file];
      const buffer = Buffer.alloc(bytes);
      await handle.read(buffer, 0, bytes, place.byte);
      let cause: unknown;
      try {
        const { item, id } = decode(parseFrame({ bytes: buffer, place }), place);
        if (hashText(id) === index.key(position)) return item;
      } catch (fault) {
        cause = fault;
      }
      throw new UserError({
        expected: 'the row that stood here when the file was opened',
        found: 'something else',
        where: String(place),
        remedy: 'leave data files alone while they are in use',
        cause,
      });
    },
    async close() {
      const opened = await Promise.all(handles.splice(0));
      await Promise.all(opened.map((handle) => handle?.close()));
    },
  };
}

function outOfRange(index: number, count: number): never {
  throw new RangeError(`record ${index} of ${count}`);
}
