// SPDX-License-Identifier: Apache-2.0
// The loss of every token of given texts under a model. Lines come in and go out one by one, so a file of any length costs
// the memory of a few; short ones run through the model together, side by side in a row and each seeing itself alone. An
// output file appears only when all of it is there.
import { basename, dirname } from 'node:path';
import { Replacement } from '../checkpoints/index.js';
import { IGNORED, readRecords } from '../datasets/index.js';
import type { Batch } from '../engine/index.js';
import { UserError } from '../errors.js';
import type { OpenedModel } from './open-model.js';

/** A text, or token ids; labels default to the ids, −100 = not counted. `where` names it in errors. */
export type ScoreInput = ({ text: string } | { ids: readonly number[]; labels?: readonly number[] | undefined }) & {
  where?: string;
};

export interface Score {
  /** Tokens that counted. */
  tokens: number;
  /** Mean of their negative log-likelihoods, in nats; null where none counted. */
  meanNll: number | null;
  /** One entry per predicted position (one fewer than tokens), null where it did not count. */
  tokenNll: (number | null)[];
}

type ScoringModel = Pick<OpenedModel, 'llama' | 'tokenizer' | 'files'>;

/** Tokens that run through the model at once: enough to read each weight for many of them. */
const ROW_TOKENS = 512;

/** Scores inputs in their order. @throws UserError that names the input which cannot be scored */
export async function* score(
  model: ScoringModel,
  inputs: AsyncIterable<ScoreInput> | Iterable<ScoreInput>,
  signal?: AbortSignal,
): AsyncGenerator<Score> {
  let row: Item[] = [];
  let tokens = 0;
  for await (const input of inputs) {
    const item = encoded(model, input);
    if (tokens + item.ids.length > ROW_TOKENS && row.length > 0) {
      yield* scoreRow(model, row);
      row = [];
      tokens = 0;
    }
    if (signal?.aborted) return;
    row.push(item);
    tokens += item.ids.length;
  }
  if (row.length > 0) yield* scoreRow(model, row);
}

/** Reads inputs from JSONL (or a JSON array) of `{"text"}` or `{"ids","labels"}`. */
export async function* readScoreInputs(path: string): AsyncGenerator<ScoreInput> {
  for await (const { value, place } of readRecords(path)) {
    yield { ...(value as ScoreInput), where: String(place) };
  }
}

/** Writes scores to a JSONL file that is there only when it is whole, and hands each of them on. */
export async function* writeScores(
  path: string,
  scores: AsyncIterable<Score>,
  signal?: AbortSignal,
): AsyncGenerator<Score> {
  const replacement = new Replacement(dirname(path));
  try {
    const file = replacement.create(basename(path));
    let position = 0;
    for await (const item of scores) {
      const line = Buffer.from(`${JSON.stringify(item)}\n`);
      file.write(line, position);
      position += line.length;
      yield item;
    }
    if (!signal?.aborted) replacement.commit();
  } finally {
    replacement.close();
  }
}

interface Item {
  ids: readonly number[];
  labels: readonly number[];
}

function encoded(model: ScoringModel, input: ScoreInput): Item {
  const { vocabularySize, maxPositions } = model.files.config;
  // Token ids need no tokenizer, and there may be none.
  const isText = 'text' in input && input.text !== undefined;
  const item = isText ? ofText(model.tokenizer, input) : ofIds(input, vocabularySize);
  if (item.ids.length > maxPositions) {
    throw new UserError({
      expected: `at most ${maxPositions} tokens, the model's context`,
      found: `${item.ids.length}`,
      where: input.where,
      remedy: 'cut the text into parts',
    });
  }
  return item;
}

function ofText(tokenizer: OpenedModel['tokenizer'], { text, where }: { text: unknown; where?: string }): Item {
  if (typeof text !== 'string') throw new UserError({ expected: "text in 'text'", found: JSON.stringify(text), where });
  const ids = [...tokenizer.encode(text)];
  if (tokenizer.addBos) ids.unshift(tokenizer.bosId!);
  return { ids, labels: ids };
}

function ofIds(input: { ids?: unknown; labels?: unknown; where?: string }, vocabularySize: number): Item {
  const { ids, where } = input;
  if (ids === undefined) {
    throw new UserError({
      expected: '{"text": …} or {"ids": […], "labels": […]}',
      found: `keys ${
        Object.keys(input)
          .filter((key) => key !== 'where')
          .join(', ') || 'none'
      }`,
      where,
    });
  }
  const labels = input.labels ?? ids;
  const isId = (n: unknown) => Number.isInteger(n) && (n as number) >= 0 && (n as number) < vocabularySize;
  const range = `0 … ${vocabularySize - 1}`;
  checkIntegers(ids, 'ids', isId, range, where);
  checkIntegers(labels, 'labels', (n) => n === IGNORED || isId(n), `${IGNORED} or ${range}`, where);
  if (labels.length !== ids.length) {
    throw new UserError({ expected: `as many labels as ids (${ids.length})`, found: `${labels.length}`, where });
  }
  return { ids, labels };
}

function checkIntegers(
  value: unknown,
  name: string,
  allowed: (n: unknown) => boolean,
  range: string,
  where: string | undefined,
): asserts value is number[] {
  if (!Array.isArray(value))
    throw new UserError({ expected: `a list in '${name}'`, found: JSON.stringify(value), where });
  const at = value.findIndex((n) => !allowed(n));
  if (at < 0) return;
  throw new UserError({
    expected: `whole numbers ${range} in '${name}'`,
    found: `${JSON.stringify(value[at])} at position ${at}`,
    where,
    remedy: 'the ids must come from the tokenizer of the model',
  });
}

async function* scoreRow({ llama }: ScoringModel, items: readonly Item[]): AsyncGenerator<Score> {
  const losses = items.some(({ ids }) => ids.length > 1) ? await llama.tokenLosses(sideBySide(items)) : [];
  let start = 0;
  for (const { ids, labels } of items) {
    const tokenNll = Array.from(labels.slice(1), (label, t) => (label === IGNORED ? null : losses[start + t]!));
    const counted = tokenNll.filter((nll) => nll !== null);
    const sum = counted.reduce((total, nll) => total + nll, 0);
    yield { tokens: counted.length, meanNll: counted.length > 0 ? sum / counted.length : null, tokenNll };
    start += ids.length;
  }
}

/** One row in which each item is a segment of its own. */
function sideBySide(items: readonly Item[]): Batch {
  return {
    B: 1,
    T: items.reduce((sum, { ids }) => sum + ids.length, 0),
    ids: Int32Array.from(items.flatMap(({ ids }) => ids)),
    labels: Int32Array.from(items.flatMap(({ labels }) => labels)),
    positions: Int32Array.from(items.flatMap(({ ids }) => ids.map((_, t) => t))),
    segments: Int32Array.from(items.flatMap(({ ids }, i) => ids.map(() => i + 1))),
  };
}
