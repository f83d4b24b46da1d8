// SPDX-License-Identifier: Apache-2.0
// What commands about training data have in common: how rows are told, how examples are made of them, how counts are shown.
import { z } from 'zod';
import {
  type Column,
  type ExampleOptions,
  LOSS_PARTS,
  type RowManifest,
  type RowShape,
  TACO_FORMATS,
  TASKS,
} from '../datasets/index.js';
import { UserError } from '../errors.js';
import { table } from './format.js';

export const sourcesArgument = z
  .array(z.string().min(1))
  .min(1)
  .describe('files (JSON, JSONL, Parquet, Arrow, XLSX; gzip, zstd), folders of them such as MITS, or imported folders');

export const rowOptions = {
  english: z
    .string()
    .min(1)
    .optional()
    .describe(
      "English original of the rows; default: English.json beside a file named after its language; 'none': none",
    ),
  language: z.string().min(1).optional().describe('language of rows that do not name theirs; else told by file names'),
  source: z.string().min(1).optional().describe('name of the source, for rows that do not name theirs'),
  column: z
    .array(z.string())
    .optional()
    .describe("where a file's column names differ: our name=the file's; may be repeated"),
};

export const exampleOptions = {
  task: z.enum(TASKS).default('taco').describe('what is made of a row'),
  template: z.string().min(1).default('guanaco').describe('guanaco, alpaca, paper, llama3, plain, or a file'),
  format: z.enum(TACO_FORMATS).default('clean').describe("the chain's literal form"),
  loss: z.enum(LOSS_PARTS).default('all').describe('parts of the chain that count in the loss'),
  countPrompt: z.boolean().default(false).describe('prompts count in the loss too'),
};

export const tokenizerOption = z.string().min(1).optional().describe('tokenizer file, or a model directory with one');

interface RowFlags {
  english?: string | undefined;
  language?: string | undefined;
  source?: string | undefined;
  column?: string[] | undefined;
}

/** The rows that options tell. @throws UserError (usage) */
export function rowsOptions({ english, language, source, column }: RowFlags): RowShape & { english?: string } {
  const columns = column?.map((pair): [string, string] => {
    const equals = pair.indexOf('=');
    if (equals > 0) return [pair.slice(0, equals), pair.slice(equals + 1)];
    throw new UserError({
      expected: "our name=the file's for --column",
      found: `'${pair}'`,
      remedy: 'for example --column input=context',
      usage: true,
    });
  });
  return {
    ...(english !== undefined && { english }),
    ...(language !== undefined && { language }),
    ...(source !== undefined && { source }),
    ...(columns && { columns: Object.fromEntries(columns) as Partial<Record<Column, string>> }),
  };
}

type ExampleFlags = Omit<ExampleOptions, 'template'> & { template: string };

export const exampleOf = ({ task, template, format, loss, countPrompt }: ExampleFlags): ExampleFlags => ({
  task,
  template,
  ...(format && { format }),
  ...(loss && { loss }),
  ...(countPrompt && { countPrompt }),
});

/** Rows by language and source, as lines of a table. */
export function countsText(rows: RowManifest['rows']): string {
  const lines = Object.entries(rows).flatMap(([language, sources]) =>
    Object.entries(sources).map(([source, count]) => [language, source, String(count)]),
  );
  return table(lines, '<<>', 2);
}
