// SPDX-License-Identifier: Apache-2.0
// Rows as imported: a folder of Arrow files, those of each language apart, with a manifest that is written last. Knows what the
// columns of a row are; nothing of where rows come from or what they are used for.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../errors.js';
import {
  type ArrowWriter,
  damaged,
  loadArrowWriter,
  readManifest,
  type Shard,
  Store,
  type StoreBatch,
  type StoreFolder,
  StoreWriter,
} from './arrow-store.js';
import { type ColumnType, textAt } from './files/columns.js';
import { hashUtf8 } from './hash.js';
import { languageNamed } from './languages.js';
import type { RecordTable } from './record-table.js';
import type { Row } from './rows.js';

/** The file that makes a folder an import; whoever reads the rows begins with it. */
export const MANIFEST = 'import.json';
const VERSION = 1;

/** Named as `columns` of a source names them. */
const COLUMNS: readonly ColumnType[] = [
  'id',
  'source',
  'language',
  'instruction',
  'input',
  'output',
  'englishInstruction',
  'englishInput',
  'englishOutput',
].map((name) => ({ name, type: 'utf8' }));

/** The column of ids. */
const ID = 0;

export interface RowManifest {
  version: number;
  shards: (Shard & { language: string })[];
  /** How many there are, by language and source ('' for those that name none). */
  rows: Record<string, Record<string, number>>;
}

/** Rows of all languages that are held at most before they are written. */
const MAX_HELD_BYTES = 48 << 20;
/** Looking for the fullest language takes a while when there are many. */
const ROWS_BETWEEN_LOOKS = 256;

/** Writes rows, in whatever order languages come. */
export class RowStoreWriter {
  private readonly writers = new Map<string, StoreWriter>();
  private readonly rows: RowManifest['rows'] = {};
  private count = 0;

  private constructor(
    private readonly folder: StoreFolder,
    private readonly library: ArrowWriter,
    private readonly maxHeldBytes: number,
  ) {}

  static async create(folder: StoreFolder, maxHeldBytes = MAX_HELD_BYTES): Promise<RowStoreWriter> {
    return new RowStoreWriter(folder, await loadArrowWriter(), maxHeldBytes);
  }

  /** What rows that are not yet written take. */
  get heldBytes(): number {
    let bytes = 0;
    for (const writer of this.writers.values()) bytes += writer.heldBytes;
    return bytes;
  }

  put({ id, source = '', language, instruction, input, output, english }: Row): void {
    const writer = this.writers.get(language) ?? this.begin(language);
    const cells = [id, source, language, instruction, input, output];
    writer.put([...cells, english?.instruction ?? null, english?.input ?? null, english?.output ?? null]);
    const counts = this.rows[language]!;
    counts[source] = (counts[source] ?? 0) + 1;
    if (++this.count % ROWS_BETWEEN_LOOKS === 0 && this.heldBytes > this.maxHeldBytes) this.writeFullest();
  }

  /** Ends all files; what is returned is written as the manifest. */
  finish(): RowManifest {
    const shards: RowManifest['shards'] = [];
    for (const [language, writer] of this.writers) {
      writer.finish();
      shards.push(...writer.shards.map((shard) => ({ language, ...shard })));
    }
    return { version: VERSION, shards, rows: this.rows };
  }

  private begin(language: string): StoreWriter {
    const name = language.replaceAll(/[^\p{L}\p{N}]+/gu, '_');
    const writer = new StoreWriter(COLUMNS, ID, this.folder, name, this.library);
    this.writers.set(language, writer);
    this.rows[language] = {};
    return writer;
  }

  /** Until half the room is free: one look for many rows. */
  private writeFullest(): void {
    const writers = [...this.writers.values()].map((writer) => ({ writer, bytes: writer.heldBytes }));
    writers.sort((a, b) => b.bytes - a.bytes);
    let held = this.heldBytes;
    for (const { writer, bytes } of writers) {
      if (held <= this.maxHeldBytes / 2) return;
      writer.rest();
      held -= bytes;
    }
  }
}

/** Whether a path is a folder of imported rows. */
export const isRowStore = (path: string) => existsSync(join(path, MANIFEST));

/** Whether a record is of a store's files. Without the manifest nothing tells whether all of them are there. */
export const isOfStore = (record: unknown) =>
  typeof record === 'object' && record !== null && COLUMNS.every(({ name }) => Object.hasOwn(record, name));

/** What an import says of itself. @throws UserError where it is damaged */
export const readRowManifest = (path: string): RowManifest => readManifest(join(path, MANIFEST), VERSION);

/** Opens imported rows, of one language or of all. @throws UserError */
export async function openRowStore(path: string, language?: string): Promise<RecordTable<Row>> {
  const { shards } = readRowManifest(path);
  const wanted = language === undefined ? undefined : languageNamed(language).name;
  const chosen = shards.filter((shard) => wanted === undefined || shard.language === wanted);
  if (chosen.length === 0) {
    const there = [...new Set(shards.map((shard) => shard.language))];
    throw new UserError({
      expected: wanted === undefined ? 'at least one row' : `rows in ${wanted}`,
      found: there.length === 0 ? 'none' : `rows in ${there.join(', ')}`,
      where: path,
    });
  }
  const store = await Store.open(path, chosen, COLUMNS);
  let keys: Uint32Array | undefined;
  return {
    name: path,
    count: store.count,
    fingerprint: store.fingerprint,
    key(index) {
      keys ??= keysOf(store);
      return keys[index]!;
    },
    where: (index) => store.where(index),
    async read(index) {
      const { batch, row } = store.at(index);
      try {
        return rowAt(batch, row);
      } catch (cause) {
        throw damaged(store.where(index), (cause as Error).message, cause);
      }
    },
    async close() {
      store.close();
    },
  };
}

/** The hashes of all ids. */
function keysOf(store: Store): Uint32Array {
  const keys = new Uint32Array(store.count);
  let at = 0;
  for (const { rows, buffers } of store.keys(ID)) {
    const { offsets, values } = buffers;
    for (let row = 0; row < rows; row++) {
      keys[at++] = hashUtf8((values as Uint8Array).subarray(offsets![row], offsets![row + 1]));
    }
  }
  return keys;
}

function rowAt({ columns }: StoreBatch, index: number): Row {
  const text = (c: number) => textAt(columns[c]!, index) ?? '';
  const row: Row = { id: text(0), language: text(2), instruction: text(3), input: text(4), output: text(5) };
  const source = text(1);
  if (source !== '') row.source = source;
  const instruction = textAt(columns[6]!, index);
  if (instruction !== null) row.english = { instruction, input: text(7), output: text(8) };
  return row;
}
