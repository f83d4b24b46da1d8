// SPDX-License-Identifier: Apache-2.0
// tacotune data lint: what is wrong with training data.
import { z } from 'zod';
import { CHECKS, type Check } from '../datasets/index.js';
import { UserError } from '../errors.js';
import { type Lint, lintData } from '../tasks/index.js';
import { command } from './command.js';
import { EXAMPLE_GROUP, exampleOptions, examplesOf } from './data-options.js';
import { digits, table } from './format.js';
import { Progress } from './progress.js';

export default command({
  options: z.strictObject({
    limit: z
      .array(z.string())
      .optional()
      .describe('a check and the share of rows above which the exit code is 1: noFinalAnswer=0.01; may be repeated'),
    context: z
      .array(z.int().min(1))
      .default([512, 1024, 2048])
      .describe('with a tokenizer: context lengths to hold examples against'),
    ...exampleOptions,
  }),
  groups: { 'Examples that are measured': [...EXAMPLE_GROUP, 'context'] },
  examples: [
    ['data lint taco-Nepali.json', 'counts of everything found, with examples'],
    ['data lint nepali --tokenizer models/llama-7b --context 1024', 'with lengths, and what 1024 tokens would cut'],
    ['data lint nepali --limit noFinalAnswer=0 --limit duplicate=0.01', 'exit code 1 where that is exceeded'],
  ],
  async run({ limit, context, ...options }) {
    const progress = new Progress();
    const report = await lintData({
      ...examplesOf(options),
      contexts: context,
      limits: limitsOf(limit ?? []),
      onProgress: (rows, file) => progress.update(`${rows} rows, ${file}`),
    });
    progress.end();
    console.log(options.json ? JSON.stringify(report, null, 2) : lintText(report));
    if (report.exceeded.length > 0) process.exitCode = 1;
  },
});

function limitsOf(pairs: readonly string[]): Partial<Record<Check, number>> {
  const limits = pairs.map((pair) => {
    const [, check, share] = /^(\w+)=(0(?:\.\d+)?|1(?:\.0+)?|\.\d+)$/.exec(pair) ?? [];
    if (check !== undefined) return [check, Number(share)];
    throw new UserError({
      expected: 'a check and a share from 0 to 1 for --limit',
      found: `'${pair}'`,
      remedy: 'for example --limit duplicate=0.01',
      usage: true,
    });
  });
  return Object.fromEntries(limits) as Partial<Record<Check, number>>;
}

function lintText({ rows, findings, lengths, exceeded }: Lint): string {
  const found = Object.entries(findings).filter(([, { count }]) => count > 0);
  const parts = [`${rows} rows`];
  if (found.length === 0) parts.push('nothing found');
  parts.push(
    table(
      found.map(([check, { count, share }]) => [check, String(count), percent(share), CHECKS[check as Check]]),
      '<>><',
      2,
    ),
  );
  for (const [check, { examples }] of found) {
    parts.push(`\n${check}`, ...examples.map(({ where, text }) => `  ${where ? `${where}\n    ` : ''}${text}`));
  }
  if (lengths) {
    const { median, p90, p99, longest, examples, unusable, contexts } = lengths;
    const none = Object.entries(unusable).map(([reason, count]) => `, ${count} rows give none (${reason})`);
    parts.push(`\nlengths of ${examples} examples in tokens${none.join('')}`);
    parts.push(
      table(
        [
          ['median', `${median}`],
          ['90 %', `${p90}`],
          ['99 %', `${p99}`],
          ['longest', `${longest}`],
        ],
        '<>',
        2,
      ),
    );
    const cuts = contexts.map((cut) =>
      [cut.context, cut.longer, cut.cutFinalAnswers, cut.lostFinalAnswers].map(String),
    );
    parts.push('', table([['context', 'longer', 'final answer cut', 'lost'], ...cuts], '>>>>', 2));
  }
  for (const { check, share, limit } of exceeded)
    parts.push(`\n${check}: ${percent(share)} of rows, above the limit of ${percent(limit)}`);
  return parts.join('\n');
}

const percent = (share: number) => `${share === 0 ? '0' : digits(100 * share)} %`;
