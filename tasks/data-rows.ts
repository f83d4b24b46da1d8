// SPDX-License-Identifier: Apache-2.0
// The rows of named files, each translation beside its English where that is known: what every command about training data
// reads. Knows nothing of what is done with them.
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import {
  dataFiles,
  isRowStore,
  type OnBad,
  type Original,
  openOriginal,
  originalsOf,
  type ReadRow,
  type RowShape,
  readBeside,
  readRowFiles,
} from '../datasets/index.js';

export interface RowsOptions extends RowShape {
  /** Files in any format that can be read, folders of them, or imported folders. */
  sources: readonly string[];
  /**
   * The English original of each file, with columns of the same names. Without it, one that lies beside a file by name
   * (`Nepali.json`, `English.json`) is its original; `none` for none at all.
   */
  english?: string | undefined;
}

export interface FileRow {
  row: ReadRow;
  /** The file it is from, or the imported folder. */
  file: string;
}

/** All rows in order. @param onBad takes the fault of a bad row, which is left out; without it the fault is thrown */
export async function* rowsOf(options: RowsOptions, onBad?: OnBad): AsyncGenerator<FileRow> {
  const { language, source, columns } = options;
  const shape: RowShape = {
    ...(language !== undefined && { language }),
    ...(source !== undefined && { source }),
    ...(columns !== undefined && { columns }),
  };
  const originals = new Originals(options.english, columns, onBad);
  try {
    for (const file of await filesOf(options.sources)) {
      const original = await originals.of(file);
      const read = { path: file, onBad, ...shape };
      for await (const row of original ? readBeside(read, original) : readRowFiles(read)) yield { row, file };
    }
  } finally {
    await originals.close();
  }
}

async function filesOf(sources: readonly string[]): Promise<string[]> {
  const files: string[] = [];
  for (const source of sources) files.push(...(isRowStore(source) ? [source] : await dataFiles(source)));
  return files;
}

/** The English originals of files; one is opened once for all translations that follow each other. */
class Originals {
  private open: { path: string; original: Original } | undefined;

  constructor(
    private readonly named: string | undefined,
    private readonly columns: RowShape['columns'],
    private readonly onBad: OnBad | undefined,
  ) {}

  async of(file: string): Promise<Original | undefined> {
    // An import found the English of its rows when it was made.
    if (this.named === 'none' || (this.named === undefined && isRowStore(file))) return undefined;
    const path = this.named ?? originalsOf(file).find((candidate) => existsSync(candidate));
    if (path === undefined || resolve(path) === resolve(file)) return undefined;
    if (this.open?.path !== path) {
      await this.close();
      this.open = { path, original: await openOriginal(path, this.columns, this.onBad) };
    }
    return this.open.original;
  }

  async close(): Promise<void> {
    await this.open?.original.rows.close();
    this.open = undefined;
  }
}
