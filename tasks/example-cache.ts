// SPDX-License-Identifier: Apache-2.0
// Where tokenised examples are kept: in a hidden folder of the import they were made from, so that they go when it goes. Each
// entry is a folder named by its key; it appears whole or not at all. What is not asked for any more goes first when there
// is no room. TACOTUNE_CACHE=off turns it off.
import { existsSync, readdirSync, rmSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { type FileLayer, Replacement, systemFiles } from '../checkpoints/index.js';
import {
  EXAMPLE_MANIFEST,
  type ExampleSource,
  exampleKey,
  isRowStore,
  openExamples,
  readRowManifest,
  writeExamples,
} from '../datasets/index.js';
import { UserError } from '../errors.js';

/** Set to `off`, no examples are kept. */
export const CACHE_VARIABLE = 'TACOTUNE_CACHE';
const FOLDER = '.examples';
/** Entries may take this many times what the rows take: a token has four bytes here, about as many as its text. */
const MAX_SHARE = 4;
const MIN_LIMIT_BYTES = 256 << 20;
/** Fewer take a few seconds. */
const ROWS_WORTH_TELLING = 20_000;

export interface CachedExamples {
  source: ExampleSource;
  /** The entry's folder, for a thread that opens it by itself. */
  stored?: string;
}

export interface CacheOptions {
  /** Bytes that all entries of an import may take. */
  limitBytes?: number;
  /** Told of what goes on: made anew, damaged, no room. */
  notice?: (text: string) => void;
  layer?: FileLayer;
}

/**
 * The examples of imported rows from their cache, which is filled first where it is empty. Of other rows, and where nothing
 * can be kept, the source itself: a cache never stands in the way.
 */
export async function cachedExamples(
  rows: string,
  source: ExampleSource,
  { limitBytes, notice = () => {}, layer = systemFiles }: CacheOptions = {},
): Promise<CachedExamples> {
  if (process.env[CACHE_VARIABLE] === 'off' || !isRowStore(rows)) return { source };
  const folder = join(rows, FOLDER);
  const stored = join(folder, exampleKey(source));
  const open = () => openExamples(stored, async () => source, damaged);
  const damaged = (fault: UserError) => {
    notice(`${fault.message}\nThe examples are made anew.`);
    remove(stored);
  };
  if (existsSync(join(stored, EXAMPLE_MANIFEST))) {
    try {
      const cached = await open();
      if (cached.fingerprint !== source.fingerprint)
        throw new UserError({ expected: 'the examples of these rows', found: 'others', where: stored });
      touch(stored);
      return { source: owning(cached, source), stored };
    } catch (fault) {
      if (!(fault instanceof UserError)) throw fault;
      damaged(fault);
    }
  }
  try {
    const limit = limitBytes ?? Math.max(MIN_LIMIT_BYTES, MAX_SHARE * rowBytes(rows));
    const estimate = await estimateBytes(source);
    if (estimate > limit) {
      notice(
        `The examples of ${rows} would take ${megabytes(estimate)} MB of the ${megabytes(limit)} MB there are for them: they are not kept.`,
      );
      return { source };
    }
    if (source.count >= ROWS_WORTH_TELLING)
      notice(`${source.count} rows of ${rows} are composed and tokenised, and kept for later runs.`);
    remove(stored); // what a killed process left there
    makeRoom(folder, limit - estimate);
    await fill(stored, source, limit, layer);
    return { source: owning(await open(), source), stored };
  } catch (fault) {
    if (!(fault instanceof UserError)) throw fault;
    notice(`${fault.message}\nThe examples are not kept.`);
    remove(stored);
    return { source };
  }
}

async function fill(stored: string, source: ExampleSource, limit: number, layer: FileLayer): Promise<void> {
  const replacement = new Replacement(stored, layer);
  let bytes = 0;
  try {
    const manifest = await writeExamples(source, {
      create(name) {
        const file = replacement.create(name);
        return {
          write(part, position) {
            bytes += part.length;
            if (bytes > limit)
              throw new UserError({ expected: `examples of at most ${limit} bytes`, found: 'more', where: stored });
            file.write(part, position);
          },
        };
      },
    });
    replacement.create(EXAMPLE_MANIFEST).write(JSON.stringify(manifest), 0);
    replacement.commit();
  } finally {
    replacement.close();
  }
}

/** Closes both. */
const owning = (cached: ExampleSource, source: ExampleSource): ExampleSource => ({
  ...cached,
  async close() {
    await cached.close();
    await source.close();
  },
});

/** Examples that are looked at to tell how much all will take. */
const SAMPLES = 200;

async function estimateBytes(source: ExampleSource): Promise<number> {
  const samples = Math.min(SAMPLES, source.count);
  let tokens = 0;
  for (let i = 0; i < samples; i++) {
    const example = await source.read(Math.floor((i * source.count) / samples));
    if (typeof example !== 'string') tokens += example.ids.length;
  }
  const ROW_BYTES = 64;
  return Math.ceil((source.count / Math.max(1, samples)) * (4 * tokens + samples * ROW_BYTES));
}

/** Deletes entries, those not asked for longest first, until the others take at most `bytes`. */
function makeRoom(folder: string, bytes: number): void {
  if (!existsSync(folder)) return;
  const entries = readdirSync(folder).map((name) => {
    const path = join(folder, name);
    return { path, usedMs: statSync(path).mtimeMs, bytes: folderBytes(path) };
  });
  entries.sort((a, b) => b.usedMs - a.usedMs);
  let total = 0;
  for (const entry of entries) {
    total += entry.bytes;
    if (total > bytes) remove(entry.path);
  }
}

const folderBytes = (path: string) => readdirSync(path).reduce((sum, name) => sum + statSync(join(path, name)).size, 0);

const rowBytes = (rows: string) => readRowManifest(rows).shards.reduce((sum, { ends }) => sum + ends.at(-1)!, 0);

const megabytes = (bytes: number) => Math.ceil(bytes / 1e6);

/** Marks an entry as asked for. A folder that cannot be written to is as good as it is. */
function touch(path: string): void {
  try {
    utimesSync(path, new Date(), new Date());
  } catch {
    // Only the order of deletion depends on it.
  }
}

/** What is in use by another process stays mapped there. */
function remove(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {
    // A folder that cannot be deleted is found damaged, or too large, again next time.
  }
}
