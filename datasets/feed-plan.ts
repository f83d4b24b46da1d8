// SPDX-License-Identifier: Apache-2.0
// A feed as plain data: everything that decides which batches come, so that a thread of its own can make the same ones. Opens
// sources from their descriptions, and splits off what is held out. The order itself is feed.ts's.
import { UserError } from '../errors.js';
import { loadTokenizer, type Tokenizer } from '../tokenizer/index.js';
import { openExamples } from './example-store.js';
import { type ExampleOptions, type ExampleSource, examples } from './examples.js';
import { batches, type Cursor, type Fed, type FeedOptions } from './feed.js';
import { openRows } from './row-sources.js';
import type { RowShape } from './rows.js';
import { type HeldOutBy, splitHeldOut, type WeightedSource, withReplay } from './source-views.js';
import { loadTemplate } from './templates.js';
import { openTexts } from './texts.js';
import { openTokenIds } from './token-ids.js';

/** Where examples come from, by paths. */
export type SourcePlan = { weight?: number } & (
  | { tokens: string; vocabularySize: number }
  | { text: string; tokenizer: string }
  | (RowShape & {
      rows: string;
      english?: string;
      tokenizer: string;
      example: Omit<ExampleOptions, 'template'> & { template: string };
      /** A folder with these examples as they were stored. */
      stored?: string;
    })
);

export interface FeedPlan {
  sources: readonly SourcePlan[];
  /** A share of examples from earlier sources. */
  replay?: { share: number; sources: readonly SourcePlan[] };
  heldOut?: HeldOutBy;
  /** Which rows of a split: those that train unless said otherwise. */
  side?: 'train' | 'heldOut';
  options: FeedOptions;
}

/** A source by its description. Tokenizers are loaded once for all that name the same. @param notice told of damaged examples */
export async function openSource(
  plan: SourcePlan,
  tokenizers: TokenizerCache = tokenizerCache(),
  notice: (text: string) => void = () => {},
): Promise<ExampleSource> {
  if ('tokens' in plan) return openTokenIds(plan.tokens, plan);
  if ('text' in plan) return openTexts(plan.text, tokenizers(plan.tokenizer));
  const { stored, ...made } = plan;
  if (stored === undefined) return openMade(made, tokenizers);
  const remake = () => openMade(made, tokenizers);
  const damaged = (fault: UserError) => notice(`${fault.message}\nThe examples are made anew.`);
  // An entry that cannot be opened is as good as none: the same examples are made again.
  return openExamples(stored, remake, damaged).catch((fault) => {
    if (!(fault instanceof UserError)) throw fault;
    damaged(fault);
    return remake();
  });
}

async function openMade(
  plan: Extract<SourcePlan, { rows: string }>,
  tokenizers: TokenizerCache,
): Promise<ExampleSource> {
  const { rows: path, english, language, source, columns, example, tokenizer } = plan;
  const rows = await openRows({
    path,
    ...(english !== undefined && { english }),
    ...(language !== undefined && { language }),
    ...(source !== undefined && { source }),
    ...(columns !== undefined && { columns }),
  });
  return examples(rows, { ...example, template: await loadTemplate(example.template) }, tokenizers(tokenizer));
}

export type TokenizerCache = (path: string) => Tokenizer;

export function tokenizerCache(): TokenizerCache {
  const loaded = new Map<string, Tokenizer>();
  return (path) => {
    const tokenizer = loaded.get(path) ?? loadTokenizer(path);
    loaded.set(path, tokenizer);
    return tokenizer;
  };
}

/** A feed's batches, from the start or from a cursor. Its sources are closed when they end. */
export async function* feedOf(plan: FeedPlan, cursor?: Cursor, notice?: (text: string) => void): AsyncGenerator<Fed> {
  const tokenizers = tokenizerCache();
  const opened: ExampleSource[] = [];
  const open = async (descriptions: readonly SourcePlan[]): Promise<WeightedSource[]> => {
    const sources: WeightedSource[] = [];
    for (const description of descriptions) {
      const source = await openSource(description, tokenizers, notice);
      opened.push(source);
      sources.push({ source, ...(description.weight !== undefined && { weight: description.weight }) });
    }
    return plan.heldOut ? splitHeldOut(sources, plan.heldOut)[plan.side ?? 'train'] : sources;
  };
  try {
    const sources = await open(plan.sources);
    const { replay } = plan;
    yield* batches(
      replay ? withReplay(sources, await open(replay.sources), replay.share) : sources,
      plan.options,
      cursor,
    );
  } finally {
    await Promise.all(opened.map((source) => source.close()));
  }
}
