// SPDX-License-Identifier: Apache-2.0
// tacotune data stats: how much training data there is, by language and source.
import { z } from 'zod';
import { dataStats, type SourceStats } from '../tasks/index.js';
import { command } from './command.js';
import { rowOptions, rowsOf, tokenizerOption } from './data-options.js';
import { quantity, table } from './format.js';
import { Progress } from './progress.js';

export default command({
  options: z.strictObject({
    ...rowOptions,
    tokenizer: tokenizerOption,
  }),
  examples: [
    ['data stats taco-datasets', 'rows and characters of each language and source'],
    ['data stats nepali --tokenizer models/llama-7b', 'with tokens'],
  ],
  async run({ tokenizer, ...options }) {
    const progress = new Progress();
    const onProgress = (rows: number, file: string) => progress.update(`${rows} rows, ${file}`);
    const stats = await dataStats({ ...rowsOf(options), tokenizer, onProgress });
    progress.end();
    console.log(options.json ? JSON.stringify(stats, null, 2) : statsText(stats.sources, stats.bad));
  },
});

function statsText(sources: readonly SourceStats[], bad: number): string {
  const tokens = sources.some((source) => source.tokens !== undefined);
  const head = [
    'language',
    'source',
    'rows',
    'with input',
    'with English',
    'no output',
    'mean instruction',
    'mean output',
    'longest',
  ];
  const lines = sources.map((source) => {
    const { language, source: name, rows, withInput, withEnglish, withoutOutput, characters, longestOutput } = source;
    const numbers = [
      rows,
      withInput,
      withEnglish,
      withoutOutput,
      characters.instruction / rows,
      characters.output / rows,
    ];
    const cells = [language, name, ...[...numbers, longestOutput].map((number) => String(Math.round(number)))];
    return tokens ? [...cells, quantity(source.tokens ?? 0), String(Math.round((source.tokens ?? 0) / rows))] : cells;
  });
  const parts = [table([tokens ? [...head, 'tokens', 'a row'] : head, ...lines], `<<${'>'.repeat(9)}`)];
  parts.push('lengths of texts in characters');
  if (bad > 0) parts.push(`${bad} bad rows are not counted`);
  return parts.join('\n');
}
