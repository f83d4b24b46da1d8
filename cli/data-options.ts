// SPDX-License-Identifier: Apache-2.0
// What commands about training data have in common: how the rows of files are told, and how counts are shown.
import { z } from 'zod';
import type { Column, RowManifest, RowShape } from '../datasets/index.js';
import { UserError } from '../errors.js';
import { table } from './format.js';

export const rowOptions = {
  language: z.string().min(1).optional().describe('language of rows that do not name theirs; else told by file names'),
  source: z.string().min(1).optional().describe('name of the source, for rows that do not name theirs'),
  column: z
    .array(z.string())
    .optional()
    .describe("where a file's column names differ: our name=the file's; may be repeated"),
};

/** The shape that options tell. @throws UserError (usage) */
export function shapeOf(options: { language?: string; source?: string; column?: string[] }): RowShape {
  const { language, source, column } = options;
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
    ...(language !== undefined && { language }),
    ...(source !== undefined && { source }),
    ...(columns && { columns: Object.fromEntries(columns) as Partial<Record<Column, string>> }),
  };
}

/** Rows by language and source, as lines of a table. */
export function countsText(rows: RowManifest['rows']): string {
  const lines = Object.entries(rows).flatMap(([language, sources]) =>
    Object.entries(sources).map(([source, count]) => [language, source, String(count)]),
  );
  return table(lines, '<<>', 2);
}
