// SPDX-License-Identifier: Apache-2.0
// Records by position: what a seeded shuffle and an exact cursor need. One streaming pass over the files checks every record
// and notes where it stands (24 bytes a record in memory); after that any record is read by itself. Knows nothing of what a
// record means. A file that changes while it is in use is noticed, since a record's id is checked against the index.
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { UserError } from '../errors.js';
import { openFile, readChunks } from './files/bytes.js';
import { dataFiles } from './files/data-files.js';
import { parseJson, readJson } from './files/json.js';
import { attempt, BAD, type OnBad, Place } from './files/place.js';
import { formatOf } from './files/records.js';
import { hashText } from './hash.js';

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

/** An item read from a record, with the id of the row it belongs to. */
export interface Decoded<Item> {
  item: Item;
  id: string;
  /** The id is the record's own, not just its position. */
  ownId?: boolean;
}

export type Decode<D extends Decoded<unknown>> = (value: unknown, place: Place) => D;

export interface OpenOptions<D> {
  /** Sees each item once, in order, so that a caller can align or count without a second pass. */
  visit?: (decoded: D, place: Place, ordinal: number) => void;
  /** Takes the fault of a record that cannot be read or used, which is left out; without it the fault is thrown. */
  onBad?: OnBad;
}

/** Indexes a JSON file or a folder of them. A record's ordinal counts all that stand before it, bad ones too. */
export async function openTable<D extends Decoded<unknown>>(
  path: string,
  decode: Decode<D>,
  { visit, onBad }: OpenOptions<D> = {},
): Promise<RecordTable<D['item']>> {
  const index = new Index();
  const hash = createHash('sha256');
  let before = 0; // records of earlier files
  for (const file of await dataFiles(path)) {
    const handle = await openFile(file);
    let records = 0;
    const takeBad: OnBad | undefined =
      onBad &&
      ((fault, count) => {
        records += count;
        onBad(fault, count);
      });
    try {
      await requireJson(handle, file);
      const chunks = hashed(readChunks(handle, file), hash);
      for await (const { value, place, bytes } of readJson(chunks, file, takeBad)) {
        const decoded = attempt(() => decode(value, place), takeBad);
        if (decoded === BAD) continue;
        index.add(place, bytes, hashText(decoded.id));
        visit?.(decoded, place, before + records++);
      }
    } finally {
      await handle.close();
    }
    before += records;
  }
  if (index.count === 0) throw new UserError({ expected: 'at least one row', found: 'none', where: path });
  return fileTable(path, decode, index, hash.digest('hex'));
}

/** Only plain text can be read by position; anything else is imported first. */
async function requireJson(handle: FileHandle, path: string): Promise<void> {
  const format = await formatOf(handle, path);
  if (format === 'json') return;
  throw new UserError({
    expected: 'JSONL, a JSON array or an imported folder, which can be read by position',
    found: `a file in the format ${format}`,
    where: path,
    remedy: `import it once: tacotune data import ${path} --output FOLDER`,
  });
}

async function* hashed(chunks: AsyncIterable<Buffer>, hash: ReturnType<typeof createHash>): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) {
    hash.update(chunk);
    yield chunk;
  }
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
  private readonly files: { path: string; first: number }[] = [];
  count = 0;
  private offsets = new Float64Array(1024);
  private lengths = new Uint32Array(1024);
  private lines = new Uint32Array(1024);
  private positions = new Uint32Array(1024);
  private keys = new Uint32Array(1024);

  add(place: Place, bytes: number, key: number): void {
    if (this.files.at(-1)?.path !== place.path) this.files.push({ path: place.path, first: this.count });
    if (this.count === this.keys.length) this.grow();
    this.offsets[this.count] = place.text!.byte;
    this.lengths[this.count] = bytes;
    this.lines[this.count] = place.text!.line;
    this.positions[this.count] = place.position;
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
    const { path } = this.files[file]!;
    return {
      file,
      bytes: this.lengths[index]!,
      place: new Place(path, this.positions[index]!, { line: this.lines[index]!, byte: this.offsets[index]! }),
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
    this.positions = larger(this.positions, new Uint32Array(capacity));
    this.keys = larger(this.keys, new Uint32Array(capacity));
  }
}

/** Read at once: rows that are read in order come many to a call. */
const BLOCK_BYTES = 1 << 18;

function fileTable<D extends Decoded<unknown>>(
  name: string,
  decode: Decode<D>,
  index: Index,
  fingerprint: string,
): RecordTable<D['item']> {
  const handles: (Promise<FileHandle> | undefined)[] = []; // opened when first read from
  let block = { file: -1, start: 0, bytes: Buffer.alloc(0) };
  let lastRead = -1;

  /** The bytes of a record: from the block read last, or from the file, a block at a time where records are read in order. */
  const bytesOf = async (position: number): Promise<Uint8Array> => {
    const { file, bytes, place } = index.entry(position);
    const start = place.text!.byte;
    const within = (held: typeof block) =>
      held.file === file && start >= held.start && start + bytes <= held.start + held.bytes.length;
    const ordered = position === lastRead + 1;
    lastRead = position;
    let held = block;
    if (!within(held)) {
      handles[file] ??= openFile(place.path);
      const handle = await handles[file];
      const buffer = Buffer.alloc(ordered ? Math.max(bytes, BLOCK_BYTES) : bytes);
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, start);
      held = { file, start, bytes: buffer.subarray(0, bytesRead) };
      if (ordered) block = held;
    }
    return held.bytes.subarray(start - held.start, start - held.start + bytes);
  };

  return {
    name,
    count: index.count,
    fingerprint,
    key: (position) => index.key(position),
    where: (position) => String(index.entry(position).place),
    async read(position) {
      const { place } = index.entry(position);
      let cause: unknown;
      try {
        const { item, id } = decode(parseJson(await bytesOf(position), place), place);
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
