// SPDX-License-Identifier: Apache-2.0
// What commands about training data have in common: how rows are told, how examples are made of them, how counts are shown.
import { z } from 'zod';
import { type Column, LOSS_PARTS, type RowManifest, TACO_FORMATS, TASKS } from '../datasets/index.js';
import { UserError } from '../errors.js';
import type { RowsOptions } from '../tasks/index.js';
import { jsonOption } from './command.js';
import { table } from './format.js';

/** Of every command about training data. */
export const rowOptions = {
  sources: z
    .array(z.string().min(1))
    .min(1)
    .describe(
      'files (JSON, JSONL, Parquet, Arrow, XLSX; gzip, zstd), folders of them such as MITS, or imported folders',
    ),
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
  json: jsonOption,
};

export const tokenizerOption = z
  .string()
  .min(1)
  .optional()
  .describe('tokenizer file, or model directory with one: lengths are told in its tokens');

/** Of commands that make examples of rows. */
export const exampleOptions = {
  ...rowOptions,
  task: z.enum(TASKS).default('taco').describe('what is made of a row'),
  template: z.string().min(1).default('guanaco').describe('guanaco, alpaca, paper, llama3, plain, or a file'),
  format: z.enum(TACO_FORMATS).default('clean').describe("the chain's literal form"),
  loss: z.enum(LOSS_PARTS).default('all').describe('parts of the chain that count in the loss'),
  countPrompt: z.boolean().default(false).describe('prompts count in the loss too'),
  tokenizer: tokenizerOption,
};

/** What of them stands under a heading of its own. */
export const EXAMPLE_GROUP = ['task', 'template', 'format', 'loss', 'countPrompt', 'tokenizer'] as const;

type Values<Options extends z.ZodRawShape> = z.infer<z.ZodObject<Options>>;

/** The rows that options tell. @throws UserError (usage) */
export function rowsOf({ sources, english, language, source, column }: Values<typeof rowOptions>): RowsOptions {
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
    sources,
    ...(english !== undefined && { english }),
    ...(language !== undefined && { language }),
    ...(source !== undefined && { source }),
    ...(columns && { columns: Object.fromEntries(columns) as Partial<Record<Column, string>> }),
  };
}

/** The examples of them that options tell. @throws UserError (usage) */
export function examplesOf(options: Values<typeof exampleOptions>) {
  const { task, template, format, loss, countPrompt, tokenizer } = options;
  return { ...rowsOf(options), tokenizer, example: { task, template, format, loss, countPrompt } };
}

/** Rows by language and source, as lines of a table. */
export function countsText(rows: RowManifest['rows']): string {
  const lines = Object.entries(rows).flatMap(([language, sources]) =>
    Object.entries(sources).map(([source, count]) => [language, source, String(count)]),
  );
  return table(lines, '<<>', 2);
}
