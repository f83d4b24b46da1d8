// SPDX-License-Identifier: Apache-2.0
// Records from a file of any format that can be read, as a stream. What a file is shows in its first bytes, not in its name.
// Knows which reader belongs to which format; nothing of what the records mean. Libraries are loaded with the first file that
// needs them.
import type { FileHandle } from 'node:fs/promises';
import { UserError } from '../../errors.js';
import { openFile, packingOf, readChunks, unpack } from './bytes.js';
import { readJson } from './json.js';
import type { OnBad, RawRecord } from './place.js';

export type FileFormat = 'json' | 'gzip' | 'zstd' | 'parquet' | 'arrow' | 'xlsx';

/** What the names of data files end with; `.gz` and `.zst` may follow. Files of other names are read where they are named. */
export const ENDINGS = ['.json', '.jsonl', '.ndjson', '.parquet', '.arrow', '.feather', '.xlsx'] as const;

export const isDataFile = (name: string) => ENDINGS.some((ending) => name.replace(/\.(gz|zst)$/, '').endsWith(ending));

export interface ReadOptions {
  /** Takes the fault of a record that cannot be read; without it the fault is thrown. */
  onBad?: OnBad;
}

/** The records of a file, in order. A fault throws where it stands; what came before has been given. */
export async function* readRecords(path: string, { onBad }: ReadOptions = {}): AsyncGenerator<RawRecord> {
  const handle = await openFile(path);
  try {
    switch (await formatOf(handle, path)) {
      case 'json':
        return yield* readJson(readChunks(handle, path), path, onBad);
      case 'gzip':
        return yield* withoutBytes(readJson(unpack(readChunks(handle, path), 'gzip', path, onBad), path, onBad));
      case 'zstd':
        return yield* withoutBytes(readJson(unpack(readChunks(handle, path), 'zstd', path, onBad), path, onBad));
      case 'parquet':
        return yield* (await import('./parquet.js')).readParquet(handle, path, onBad);
      case 'arrow':
        return yield* (await import('./arrow.js')).readArrow(handle, path, onBad);
      case 'xlsx':
        return yield* (await import('./xlsx.js')).readXlsx(handle, path);
    }
  } finally {
    await handle.close();
  }
}

/** What a file is by its first bytes. */
export async function formatOf(handle: FileHandle, path: string): Promise<FileFormat> {
  const stat = await handle.stat();
  if (!stat.isFile()) {
    throw new UserError({
      expected: 'a data file',
      found: stat.isDirectory() ? 'a folder' : 'no regular file',
      where: path,
    });
  }
  const head = Buffer.alloc(8);
  await handle.read(head, 0, head.length, 0);
  const text = head.toString('latin1');
  if (text.startsWith('PAR1')) return 'parquet';
  if (text.startsWith('ARROW1')) return 'arrow';
  if (text.startsWith('PK\x03\x04')) return 'xlsx';
  // A stream of Arrow messages begins with −1 and the length of the first, which is a multiple of 8 and small.
  if (head.readInt32LE(0) === -1 && head.readInt32LE(4) > 0 && head.readInt32LE(4) < 1 << 24) return 'arrow';
  return packingOf(head) ?? 'json';
}

/** Places in an unpacked text do not lead back into the file. */
async function* withoutBytes(records: AsyncIterable<RawRecord>): AsyncGenerator<RawRecord> {
  for await (const { value, place } of records) yield { value, place };
}
