// SPDX-License-Identifier: Apache-2.0
// Rows of the shape and size that MITS has, made from a seed: about 755 characters of Devanagari and 780 of English a row,
// words from a vocabulary of 20,000 that are as unevenly frequent as words are. Written as files of several formats.
import { closeSync, createReadStream, createWriteStream, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { composeTaco } from '../datasets/index.js';

export interface ShapedRow {
  instruction: string;
  input: string;
  output: string;
}

const WORDS = 20_000;
const CONSONANTS = 'कखगघचछजझटठडढतथदधनपफबभमयरलवशसह';
const VOWELS = ['', 'ा', 'ि', 'ी', 'ु', 'े', 'ो', '्र', 'ं'];
const ENGLISH = 'abcdefghijklmnopqrstuvwxyz';

/** Makes rows without end. Ready-made chains hold the English; parallel rows come with it beside them. */
export class ShapedRows {
  private state: number;
  private readonly nepali: string[];
  private readonly english: string[];

  constructor(seed = 1) {
    this.state = seed;
    this.nepali = this.words((length) =>
      Array.from({ length: Math.max(1, Math.round(length / 2)) }, () => this.of(CONSONANTS) + this.of(VOWELS)).join(''),
    );
    this.english = this.words((length) => Array.from({ length }, () => this.of(ENGLISH)).join(''));
  }

  /** A row of Alpaca's shape, and its English original. */
  pair(): { row: ShapedRow; original: ShapedRow } {
    const withInput = this.random() < 0.4;
    const make = (words: readonly string[], factor: number): ShapedRow => ({
      instruction: this.text(words, 60 * factor),
      input: withInput ? this.text(words, 100 * factor) : '',
      output: this.text(words, (this.random() < 0.1 ? 1800 : 480) * factor),
    });
    return { row: make(this.nepali, 1), original: make(this.english, 1) };
  }

  /** A ready-made chain. */
  chain(): ShapedRow {
    const { row, original } = this.pair();
    const parts = { instruction: original.instruction, response: original.output, answer: row.output };
    return { ...row, output: composeTaco(parts, 'Nepali', 'released') };
  }

  private words(make: (length: number) => string): string[] {
    return Array.from({ length: WORDS }, () => make(2 + Math.floor(this.random() * 9)));
  }

  private text(words: readonly string[], meanLength: number): string {
    const length = meanLength * (0.5 + this.random());
    let text = '';
    // Frequency falls with rank as in running text.
    while (text.length < length) text += `${words[Math.floor(words.length ** this.random()) - 1] ?? words[0]} `;
    return `${text.trimEnd()}।`;
  }

  private of<Value>(values: ArrayLike<Value>): Value {
    return values[Math.floor(this.random() * values.length)]!;
  }

  private random(): number {
    this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0;
    return this.state / 2 ** 32;
  }
}

/** Writes rows until there are so many, or so many bytes; a JSON array with indentation, or lines. Returns how many. */
export function writeJson(
  path: string,
  until: { rows: number } | { bytes: number },
  lines: boolean,
  next: () => object,
): number {
  const file = openSync(path, 'w');
  let [rows, bytes] = [0, 0];
  let pending = lines ? '' : '[';
  const flush = () => {
    bytes += writeSync(file, pending);
    pending = '';
  };
  const done = () => ('rows' in until ? rows >= until.rows : bytes >= until.bytes);
  for (; !done(); rows++) {
    const row = next();
    pending += lines ? `${JSON.stringify(row)}\n` : `${rows === 0 ? '' : ','}\n${JSON.stringify(row, null, 4)}`;
    if (pending.length >= 1 << 20) flush();
  }
  if (!lines) pending += '\n]';
  flush();
  closeSync(file);
  return rows;
}

export async function gzip(path: string): Promise<string> {
  await pipeline(createReadStream(path), createGzip(), createWriteStream(`${path}.gz`));
  return `${path}.gz`;
}

/** A Parquet file as pandas writes it: one row group, or as large ones as it takes. */
export async function writeParquet(folder: string, rows: readonly ShapedRow[], rowGroupSize: number): Promise<string> {
  const { parquetWriteFile } = await import('hyparquet-writer');
  const path = join(folder, `Nepali-${rowGroupSize}.parquet`);
  const columns = (['instruction', 'input', 'output'] as const).map((name) => ({
    name,
    data: rows.map((row) => row[name]),
    type: 'STRING' as const,
  }));
  await parquetWriteFile({ filename: path, columnData: columns, rowGroupSize });
  return path;
}
