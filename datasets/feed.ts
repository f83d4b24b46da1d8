// SPDX-License-Identifier: Apache-2.0
// Feeds training: sources of examples → shuffled, mixed, packed batches, without end or for a number of epochs. The order is
// a pure function of (seed, epoch), and examples are packed window by window, so a cursor needs only where the window starts
// and how many of its rows are out; resuming reads one window again and gives exactly the batches that would have come.
import { createHash } from 'node:crypto';
import { UserError } from '../errors.js';
import {
  type ExampleSource,
  fit,
  IGNORED,
  type TokenExample,
  type TooLong,
  UNUSABLE,
  type Unusable,
} from './examples.js';
import { hashNumbers, permute } from './hash.js';
import { layOut, type PackedBatch, packRows } from './packing.js';
import { concatenate, type WeightedSource } from './source-views.js';

export interface FeedOptions {
  /** Rows per batch. */
  B: number;
  /** Tokens per row: the context length. */
  T: number;
  /** What to do with examples longer than T. */
  tooLong: TooLong;
  seed: number;
  /** A new order in each epoch; without it the sources' own order. */
  shuffle: boolean;
  /** Several examples per row of T tokens; without it one per row, padded to the longest of its batch. */
  pack: boolean;
  /** Without packing: rows are padded to a multiple of this many tokens (1 unless said otherwise). */
  padMultiple?: number;
  /** How many examples are packed at a time (PACKING_WINDOW unless said otherwise). */
  window?: number;
  /** Passes over the data; without it there is no end. */
  epochs?: number;
  /** The id that fills rows up: pad, or end of text, or 0 (which it is unless said otherwise). Never seen by the loss. */
  padId?: number;
}

/** Enough examples for their lengths to fit together, few enough to encode them again on resuming. */
export const PACKING_WINDOW = 512;

/** What happened to the rows read so far, the current window included. */
export interface FeedCounts {
  /** Rows read. */
  read: number;
  unusable: Partial<Record<Unusable, number>>;
  truncated: number;
  /** Truncated examples that lost the end of their final answer. */
  cutFinalAnswers: number;
  /** Truncated examples that lost all of it. */
  lostFinalAnswers: number;
}

/** Where a feed stands; plain JSON. */
export interface Cursor {
  version: 1;
  /** Of the sources and of what decides the order; a cursor for other data or another order is refused. */
  fingerprint: string;
  /** Of each stream, how many of its examples were drawn before the current window, all epochs together. */
  drawn: number[];
  /** Rows of the current window that are out already. */
  row: number;
  /** Up to the current window. */
  counts: FeedCounts;
}

export interface Fed {
  batch: PackedBatch;
  /** Continues after this batch. */
  cursor: Cursor;
  /** Examples in the batch. */
  examples: number;
  /** Tokens in the batch that are not padding. */
  tokens: number;
  /** Labels in the batch that count. */
  targetTokens: number;
  /** Passes over the data that this batch completes, with fractions. */
  epoch: number;
  counts: FeedCounts;
}

interface FedRow {
  examples: TokenExample[];
  cursor: Cursor;
  epoch: number;
  counts: FeedCounts;
}

/** Batches from the start, or from where a cursor stands. Only the very last one may have fewer rows than B. */
export async function* batches(
  sources: readonly WeightedSource[],
  options: FeedOptions,
  cursor?: Cursor,
): AsyncGenerator<Fed> {
  const { B, T, pack, padMultiple = 1, padId = 0 } = options;
  checkOptions(options);
  let rows: FedRow[] = [];
  const flush = (): Fed => {
    const last = rows.at(-1)!;
    const examples = rows.flatMap((row) => row.examples);
    const longest = Math.max(...examples.map(({ ids }) => ids.length));
    const width = pack ? T : Math.min(T, Math.ceil(longest / padMultiple) * padMultiple);
    const batch = layOut(
      rows.map((row) => row.examples),
      width,
      padId,
    );
    rows = [];
    return {
      batch,
      cursor: last.cursor,
      examples: examples.length,
      tokens: examples.reduce((sum, { ids }) => sum + ids.length, 0),
      targetTokens: batch.labels.reduce((sum, label) => sum + (label === IGNORED ? 0 : 1), 0),
      epoch: last.epoch,
      counts: last.counts,
    };
  };
  for await (const row of feedRows(sources, options, cursor)) {
    rows.push(row);
    if (rows.length === B) yield flush();
  }
  if (rows.length > 0) yield flush();
}

/** The rows of the batches, each with the cursor that stands after it. */
async function* feedRows(
  sources: readonly WeightedSource[],
  options: FeedOptions,
  from?: Cursor,
): AsyncGenerator<FedRow> {
  const { T, pack, window = PACKING_WINDOW, epochs = Number.POSITIVE_INFINITY } = options;
  const streams = streamsOf(sources);
  const fingerprint = fingerprintOf(streams, options);
  const draws = new Draws(streams, options);
  let cursor: Cursor =
    from === undefined
      ? { version: 1, fingerprint, drawn: streams.map(() => 0), row: 0, counts: noCounts() }
      : checked(from, fingerprint, streams.length);
  let idleSince = total(cursor.drawn);
  while (total(cursor.drawn) < epochs * draws.perEpoch) {
    const opened = cursor;
    const start = total(opened.drawn);
    const size = Math.min(window, draws.perEpoch - (start % draws.perEpoch)); // a window ends with its epoch
    const drawn = [...opened.drawn];
    const { examples, counts } = await readWindow(draws, drawn, size, options, opened.counts);
    const lengths = examples.map(({ ids }) => ids.length);
    const rows = pack ? packRows(lengths, T) : lengths.map((_, i) => [i]);
    const next: Cursor = { version: 1, fingerprint, drawn, row: 0, counts };
    for (let row = opened.row; row < rows.length; row++) {
      const done = (row + 1) / rows.length;
      yield {
        examples: rows[row]!.map((i) => examples[i]!),
        cursor: done === 1 ? next : { ...opened, row: row + 1 },
        epoch: (start + done * size) / draws.perEpoch,
        counts,
      };
    }
    cursor = next;
    if (rows.length > 0) idleSince = total(drawn);
    else if (total(drawn) - idleSince >= draws.perEpoch) throw nothingUsable(streams, counts);
  }
}

/** A stream of examples that is drawn from on its own count. */
interface Stream {
  source: ExampleSource;
  weight: number;
  replay: boolean;
}

function streamsOf(sources: readonly WeightedSource[]): Stream[] {
  if (sources.length === 0) throw new UserError({ expected: 'at least one source of data', found: 'none' });
  const weighted = sources.filter(({ weight }) => weight !== undefined);
  if (weighted.length === 0) {
    return [{ source: concatenate(sources.map(({ source }) => source)), weight: 1, replay: false }];
  }
  return sources.map(({ source, weight, replay = false }) => {
    if (weight === undefined) {
      throw new UserError({
        expected: 'a weight for each source, or for none',
        found: 'a source without one',
        where: source.name,
      });
    }
    if (!(weight > 0 && Number.isFinite(weight))) {
      throw new UserError({ expected: 'a weight above 0', found: String(weight), where: source.name });
    }
    return { source, weight, replay };
  });
}

/** Decides which example comes next; a pure function of how many were drawn from each stream. */
class Draws {
  /** Examples in an epoch: as many as there are rows, whatever the weights, and those that are replayed between them. */
  readonly perEpoch: number;

  constructor(
    private readonly streams: readonly Stream[],
    private readonly options: FeedOptions,
  ) {
    const own = streams.filter(({ replay }) => !replay);
    const share = total(own.map(({ weight }) => weight)) / total(streams.map(({ weight }) => weight));
    this.perEpoch = Math.round(total(own.map(({ source }) => source.count)) / share);
  }

  /** Draws the next example and counts it in `drawn`. */
  next(drawn: number[]): { source: ExampleSource; index: number } {
    let stream = 0;
    // The stream furthest behind its share; every prefix of the order keeps the shares (Webster's divisors).
    const need = (s: number) => (drawn[s]! + 0.5) / this.streams[s]!.weight;
    for (let s = 1; s < this.streams.length; s++) if (need(s) < need(stream)) stream = s;
    const { source } = this.streams[stream]!;
    const count = drawn[stream]!++;
    const position = count % source.count;
    if (!this.options.shuffle) return { source, index: position };
    const key = hashNumbers(this.options.seed, stream, Math.floor(count / source.count));
    return { source, index: permute(position, source.count, key) };
  }
}

async function readWindow(
  draws: Draws,
  drawn: number[],
  size: number,
  { T, tooLong }: FeedOptions,
  before: FeedCounts,
): Promise<{ examples: TokenExample[]; counts: FeedCounts }> {
  const counts: FeedCounts = { ...before, unusable: { ...before.unusable } };
  const examples: TokenExample[] = [];
  for (let i = 0; i < size; i++) {
    const { source, index } = draws.next(drawn);
    const example = await source.read(index);
    const fitted = typeof example === 'string' ? example : fit(example, T, tooLong, source.where(index));
    counts.read++;
    if (typeof fitted === 'string') {
      counts.unusable[fitted] = (counts.unusable[fitted] ?? 0) + 1;
      continue;
    }
    examples.push(fitted.example);
    if (fitted.truncated) counts.truncated++;
    if (fitted.finalAnswer === 'cut') counts.cutFinalAnswers++;
    if (fitted.finalAnswer === 'lost') counts.lostFinalAnswers++;
  }
  return { examples, counts };
}

const total = (numbers: readonly number[]) => numbers.reduce((sum, n) => sum + n, 0);

const noCounts = (): FeedCounts => ({ read: 0, unusable: {}, truncated: 0, cutFinalAnswers: 0, lostFinalAnswers: 0 });

/** Of everything that decides which rows come in which order; B is not among it, since a cursor stands between rows. */
function fingerprintOf(streams: readonly Stream[], options: FeedOptions): string {
  const { T, tooLong, seed, shuffle, pack, window = PACKING_WINDOW } = options;
  const data = streams.map(({ source, weight, replay }) => [
    source.fingerprint,
    source.count,
    weight,
    ...(replay ? ['replay'] : []),
  ]);
  return createHash('sha256')
    .update(JSON.stringify([data, T, tooLong, seed, shuffle, pack, window]))
    .digest('hex')
    .slice(0, 32);
}

function checked(cursor: Cursor, fingerprint: string, streams: number): Cursor {
  const whole = (n: unknown) => Number.isSafeInteger(n) && (n as number) >= 0;
  const { version, drawn, row, counts } = cursor;
  if (
    version !== 1 ||
    !Array.isArray(drawn) ||
    drawn.length !== streams ||
    !drawn.every(whole) ||
    !whole(row) ||
    !whole(counts?.read)
  ) {
    throw new UserError({
      expected: 'a data cursor of version 1',
      found: JSON.stringify(cursor).slice(0, 80),
      remedy: 'start the run anew',
    });
  }
  if (cursor.fingerprint !== fingerprint) {
    throw new UserError({
      expected: 'the data and settings that the data cursor was made with',
      found: 'other data, tokenizer, template, seed or packing',
      remedy: 'restore them to resume, or start the run anew',
    });
  }
  return cursor;
}

function checkOptions(options: FeedOptions): void {
  const { B, T, seed, padMultiple = 1, window = PACKING_WINDOW, epochs = 1 } = options;
  for (const [name, value] of Object.entries({ B, T, padMultiple, window, epochs })) {
    if (!(Number.isSafeInteger(value) && value >= 1))
      throw new UserError({ expected: `${name}: a whole number ≥ 1`, found: String(value) });
  }
  if (!Number.isSafeInteger(seed)) throw new UserError({ expected: 'seed: a whole number', found: String(seed) });
}

function nothingUsable(streams: readonly Stream[], counts: FeedCounts): UserError {
  const reasons = Object.entries(counts.unusable).map(
    ([reason, count]) => `${count} × ${UNUSABLE[reason as Unusable]}`,
  );
  return new UserError({
    expected: 'at least one row that can be trained on',
    found: `none in a whole pass (${reasons.join(', ')})`,
    where: streams.map(({ source }) => source.name).join(', '),
  });
}
