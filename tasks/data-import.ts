// SPDX-License-Identifier: Apache-2.0
// Rows of any files into one folder of Arrow files. The folder appears whole or not at all: whatever fails, from a bad row to a
// full disk, leaves nothing that could pass for it. Memory stays bounded, whatever the sources hold.
import { existsSync, mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { type FileLayer, Replacement, systemFiles } from '../checkpoints/index.js';
import { type OnBad, type ReadRow, ROW_MANIFEST, type RowManifest, RowStoreWriter } from '../datasets/index.js';
import { UserError } from '../errors.js';
import { type RowsOptions, rowsOf } from './data-rows.js';

export interface ImportOptions extends RowsOptions {
  /** A new folder, or an empty one. */
  output: string;
  /** Leaves bad rows out and reports them, where the first would end the import. */
  skipBadRows?: boolean | undefined;
  onProgress?: (rows: number, file: string) => void;
  signal?: AbortSignal | undefined;
}

export interface ImportReport {
  output: string;
  /** By language and source. */
  rows: RowManifest['rows'];
  /** Rows among ready-made chains that lack the chain, in the folder `unlabelled` of the output. */
  unlabelled: RowManifest['rows'];
  /** Rows with English text. */
  withEnglish: number;
  /** Chains without a final answer; their rows have no output. */
  incomplete: number;
  /** Rows left out. */
  bad: number;
  /** The faults of the first of them. */
  faults: string[];
}

/** The folder within an import that holds unlabelled rows; an import of its own. */
const UNLABELLED = 'unlabelled';
const MAX_FAULTS = 20;
const ROWS_BETWEEN_REPORTS = 1000;

/** @throws UserError */
export async function importData(options: ImportOptions, layer: FileLayer = systemFiles): Promise<ImportReport> {
  const { sources, output, onProgress, signal } = options;
  checkOutput(output);
  const report = { withEnglish: 0, incomplete: 0, bad: 0, faults: [] as string[] };
  const onBad: OnBad | undefined =
    options.skipBadRows === true
      ? (fault, count) => {
          report.bad += count;
          if (report.faults.length < MAX_FAULTS) report.faults.push(fault.message);
        }
      : undefined;
  const replacement = new Replacement(output, layer);
  try {
    const labelled = await RowStoreWriter.create(replacement);
    const unlabelled = await RowStoreWriter.create({ create: (name) => replacement.create(join(UNLABELLED, name)) });
    const ids = new Ids();
    let count = 0;
    for await (const { row, file } of rowsOf(options, onBad)) {
      if (signal?.aborted) {
        throw new UserError({ expected: 'to import all rows', found: `a stop after ${count}`, where: file });
      }
      const { item } = row;
      item.id = ids.of(row, file);
      if (item.english) report.withEnglish++;
      if (row.chain === 'incomplete') report.incomplete++;
      if (row.unlabelled) {
        mkdirSync(join(output, UNLABELLED), { recursive: true });
        unlabelled.put(item);
      } else labelled.put(item);
      if (++count % ROWS_BETWEEN_REPORTS === 0) onProgress?.(count, file);
    }
    if (count === 0) throw new UserError({ expected: 'at least one row', found: 'none', where: sources.join(', ') });
    const apart = unlabelled.finish();
    const manifest = labelled.finish();
    const write = (name: string, value: object) => replacement.create(name).write(JSON.stringify(value), 0);
    if (apart.shards.length > 0) write(join(UNLABELLED, ROW_MANIFEST), apart);
    write(ROW_MANIFEST, { ...manifest, report: { ...report, sources } }); // last: with it the import is there
    replacement.commit();
    return { output, rows: manifest.rows, unlabelled: apart.rows, ...report };
  } finally {
    replacement.close();
    removeIfEmpty(join(output, UNLABELLED));
  }
}

function removeIfEmpty(folder: string): void {
  if (existsSync(folder) && readdirSync(folder).length === 0) rmdirSync(folder);
}

/** Refuses a folder that holds anything; what a killed import left behind (hidden, without a name) does not count. */
function checkOutput(output: string): void {
  if (!existsSync(output)) return;
  const there = readdirSync(output).filter((name) => !name.startsWith('.') && name !== UNLABELLED);
  if (there.length === 0) return;
  throw new UserError({
    expected: 'a new or empty folder for the import',
    found: there.includes(ROW_MANIFEST) ? 'an earlier import' : `${there.length} files`,
    where: output,
    remedy: 'name another folder, or remove this one',
  });
}

/**
 * Ids of rows that have none of their own: their position among all rows of their language and source, so that the same row
 * has the same id in every language.
 */
class Ids {
  private readonly before = new Map<string, number>();
  private readonly inFile = new Map<string, number>();
  private file = '';

  of({ item, id, ownId, place }: ReadRow, file: string): string {
    if (ownId) return id;
    if (file !== this.file) this.begin(file);
    const { source = '', language } = item;
    const key = `${language} ${source}`;
    this.inFile.set(key, place.position + 1);
    const position = (this.before.get(key) ?? 0) + place.position;
    return source === '' ? String(position) : `${source}-${position}`;
  }

  private begin(file: string): void {
    for (const [key, count] of this.inFile) this.before.set(key, (this.before.get(key) ?? 0) + count);
    this.inFile.clear();
    this.file = file;
  }
}
