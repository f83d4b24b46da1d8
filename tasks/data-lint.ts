// SPDX-License-Identifier: Apache-2.0
// What is wrong with training data, before anything trains on it.
import {
  CHECKS,
  type Check,
  composer,
  type ExampleOptions,
  Linter,
  type LintReport,
  loadTemplate,
  type ReadRow,
  tokenize,
} from '../datasets/index.js';
import { nearest, UserError } from '../errors.js';
import { loadTokenizer } from '../tokenizer/index.js';
import { type RowsOptions, rowsOf } from './data-rows.js';

export interface LintOptions extends RowsOptions {
  /** A tokenizer file or directory: with it lengths are told, and what contexts cut. */
  tokenizer?: string | undefined;
  /** Of the examples that are measured. */
  example?: Omit<ExampleOptions, 'template'> & { template: string };
  contexts?: readonly number[];
  /** Shares of rows from which a finding is too much. */
  limits?: Partial<Record<Check, number>>;
  onProgress?: (rows: number, file: string) => void;
}

export interface Lint extends LintReport {
  /** Findings above their limits. */
  exceeded: { check: Check; share: number; limit: number }[];
}

const ROWS_BETWEEN_REPORTS = 1000;

/** Looks all rows through; bad ones are counted. @throws UserError where nothing can be read */
export async function lintData(options: LintOptions): Promise<Lint> {
  const { tokenizer, contexts = [], limits = {}, onProgress } = options;
  for (const check of Object.keys(limits)) if (!Object.hasOwn(CHECKS, check)) throw unknownCheck(check);
  const measure = tokenizer === undefined ? undefined : await measuring(tokenizer, options);
  const linter = new Linter(contexts);
  let rows = 0;
  for await (const { row, file } of rowsOf(options, (fault, count) => linter.addBad(fault, count))) {
    linter.add(row, measure?.(row));
    if (++rows % ROWS_BETWEEN_REPORTS === 0) onProgress?.(rows, file);
  }
  const report = linter.report();
  if (report.rows === 0)
    throw new UserError({ expected: 'at least one row', found: 'none', where: options.sources.join(', ') });
  const exceeded = Object.entries(limits).flatMap(([check, limit]) => {
    const { share } = report.findings[check as Check];
    return share > limit ? [{ check: check as Check, share, limit }] : [];
  });
  return { ...report, exceeded };
}

async function measuring(path: string, { example = { task: 'taco', template: 'guanaco' } }: LintOptions) {
  const encoder = loadTokenizer(path);
  const compose = composer({ ...example, template: await loadTemplate(example.template) });
  return ({ item }: ReadRow) => {
    // The English original itself is no example of a chain.
    if (item.language === 'English' && example.task === 'taco') return undefined;
    const composed = compose(item);
    return typeof composed === 'string' ? composed : tokenize(composed, encoder);
  };
}

function unknownCheck(check: string): UserError {
  const near = nearest(check, Object.keys(CHECKS));
  return new UserError({
    expected: `a check (${Object.keys(CHECKS).join(', ')})`,
    found: `'${check}'`,
    ...(near !== undefined && { remedy: `did you mean '${near}'?` }),
    usage: true,
  });
}
