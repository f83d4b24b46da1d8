// SPDX-License-Identifier: Apache-2.0
// tacotune data preview: one row as training will see it. What counts in the loss is green; where there are no colours, it
// stands in ⟦…⟧.
import { z } from 'zod';
import { type Preview, previewData } from '../tasks/index.js';
import { command } from './command.js';
import { EXAMPLE_GROUP, exampleOptions, examplesOf } from './data-options.js';

export default command({
  options: z.strictObject({
    row: z.int().min(1).optional().describe('which row, from 1; default: the first that can be used'),
    id: z.string().min(1).optional().describe('the row with this id'),
    ...exampleOptions,
  }),
  groups: { 'What is made of the row': EXAMPLE_GROUP },
  examples: [
    ['data preview Nepali.json --english English.json', 'the first row as a chain'],
    ['data preview nepali --row 7 --template alpaca --loss finalAnswerOnly', 'another row, template and mask'],
  ],
  async run({ row, id, ...options }) {
    const preview = await previewData({ ...examplesOf(options), row, id });
    console.log(options.json ? JSON.stringify(preview, null, 2) : previewText(preview, hasColours()));
  },
});

/** https://no-color.org: set and not empty, it says no. */
const hasColours = () => process.stdout.isTTY === true && !process.env['NO_COLOR'];

export function previewText({ where, id, language, parts, tokens, targetTokens }: Preview, colours: boolean): string {
  const counts = tokens === undefined ? '' : `, ${targetTokens} of ${tokens} tokens count`;
  const marked = parts.map(({ text, counts: inLoss }) => {
    if (colours) return inLoss ? `\u001b[32m${text}\u001b[39m` : `\u001b[2m${text}\u001b[22m`;
    return inLoss ? `⟦${text}⟧` : text;
  });
  return `${where}, id ${id}, ${language}${counts}\n\n${marked.join('')}`;
}
