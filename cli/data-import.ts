// SPDX-License-Identifier: Apache-2.0
// tacotune data import: rows of any files into one folder of Arrow files.
import { z } from 'zod';
import { importData } from '../tasks/index.js';
import { command } from './command.js';
import { countsText, rowOptions, rowsOf } from './data-options.js';
import { interruptSignal } from './interrupt.js';
import { Progress } from './progress.js';

export default command({
  options: z.strictObject({
    output: z.string().min(1).describe('a new folder'),
    skipBadRows: z
      .boolean()
      .default(false)
      .describe('leave bad rows out and report them, instead of stopping at the first'),
    ...rowOptions,
  }),
  examples: [
    ['data import taco-datasets --output mits', 'all of MITS as published, translations beside their English'],
    ['data import Nepali.json --english English.json --output nepali', 'one language'],
    ['data import dolly.jsonl.gz --language English --output dolly --column input=context', 'other column names'],
  ],
  async run({ output, skipBadRows, ...options }) {
    const signal = interruptSignal('Stopping; nothing will be left of the import');
    const progress = new Progress();
    const started = performance.now();
    const report = await importData({
      ...rowsOf(options),
      output,
      skipBadRows,
      signal,
      onProgress: (rows, file) => {
        const rate = Math.round(rows / ((performance.now() - started) / 1000));
        progress.update(`${rows} rows, ${rate} rows/s, ${file}`);
      },
    });
    progress.end();
    console.log(options.json ? JSON.stringify(report, null, 2) : reportText(report));
  },
});

function reportText({
  output,
  rows,
  unlabelled,
  withEnglish,
  incomplete,
  bad,
  faults,
}: Awaited<ReturnType<typeof importData>>): string {
  const parts = [`imported into ${output}`, countsText(rows)];
  parts.push(`${withEnglish} with English text`);
  if (incomplete > 0) parts.push(`${incomplete} chains without a final answer: their rows have no output`);
  if (Object.keys(unlabelled).length > 0) parts.push(`without labels, in ${output}/unlabelled`, countsText(unlabelled));
  if (bad > 0) parts.push(`${bad} bad rows left out, the first:`, ...faults.map((fault) => fault.replace(/^/gm, '  ')));
  return parts.join('\n');
}
