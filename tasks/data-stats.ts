// SPDX-License-Identifier: Apache-2.0
// How much training data there is, and of what: by language and source.
import { UserError } from '../errors.js';
import { loadTokenizer } from '../tokenizer/index.js';
import { type RowsOptions, rowsOf } from './data-rows.js';

export interface StatsOptions extends RowsOptions {
  /** With it, tokens of the texts are counted. */
  tokenizer?: string | undefined;
  onProgress?: (rows: number, file: string) => void;
}

export interface SourceStats {
  language: string;
  /** '' for rows that name none. */
  source: string;
  rows: number;
  withInput: number;
  withEnglish: number;
  withoutOutput: number;
  /** Of all rows, in UTF-16 units. */
  characters: { instruction: number; input: number; output: number };
  longestOutput: number;
  /** Of instruction, input and output together. */
  tokens?: number;
}

const ROWS_BETWEEN_REPORTS = 1000;

/** Bad rows are passed over; `bad` counts them. @throws UserError where nothing can be read */
export async function dataStats(options: StatsOptions): Promise<{ sources: SourceStats[]; bad: number }> {
  const encoder = options.tokenizer === undefined ? undefined : loadTokenizer(options.tokenizer);
  const byKey = new Map<string, SourceStats>();
  let bad = 0;
  let rows = 0;
  const countBad = (_: UserError, count: number) => {
    bad += count;
  };
  for await (const { row, file } of rowsOf(options, countBad)) {
    const { language, source = '', instruction, input, output, english } = row.item;
    const stats = byKey.get(`${language} ${source}`) ?? newStats(language, source);
    byKey.set(`${language} ${source}`, stats);
    stats.rows++;
    if (input !== '') stats.withInput++;
    if (english) stats.withEnglish++;
    if (output.trim() === '') stats.withoutOutput++;
    stats.characters.instruction += instruction.length;
    stats.characters.input += input.length;
    stats.characters.output += output.length;
    stats.longestOutput = Math.max(stats.longestOutput, output.length);
    if (encoder) {
      const texts = [instruction, input, output].map((text) => encoder.encode(text).length);
      stats.tokens = (stats.tokens ?? 0) + texts.reduce((sum, n) => sum + n, 0);
    }
    if (++rows % ROWS_BETWEEN_REPORTS === 0) options.onProgress?.(rows, file);
  }
  if (rows === 0)
    throw new UserError({ expected: 'at least one row', found: 'none', where: options.sources.join(', ') });
  return { sources: [...byKey.values()], bad };
}

const newStats = (language: string, source: string): SourceStats => ({
  language,
  source,
  rows: 0,
  withInput: 0,
  withEnglish: 0,
  withoutOutput: 0,
  characters: { instruction: 0, input: 0, output: 0 },
  longestOutput: 0,
});
