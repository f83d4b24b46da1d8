// SPDX-License-Identifier: Apache-2.0
// Sources of examples seen otherwise: several as one list, and one split in two by the hash of its rows' ids. Nothing is read
// or copied; a view's fingerprint changes with what it shows.
import { createHash } from 'node:crypto';
import { UserError } from '../errors.js';
import type { ExampleSource } from './examples.js';
import { hashNumbers, hashText } from './hash.js';

/** Several sources one after the other. */
export function concatenate(sources: readonly ExampleSource[]): ExampleSource {
  const [only] = sources;
  if (only && sources.length === 1) return only;
  const ends: number[] = [];
  for (const { count } of sources) ends.push((ends.at(-1) ?? 0) + count);
  const at = (index: number): [ExampleSource, number] => {
    const s = ends.findIndex((end) => index < end);
    return [sources[s]!, index - (ends[s - 1] ?? 0)];
  };
  return {
    name: sources.map(({ name }) => name).join(', '),
    count: ends.at(-1) ?? 0,
    fingerprint: digest(sources.map(({ fingerprint, count }) => [fingerprint, count])),
    key: (index) => onSource(at(index), (source, i) => source.key(i)),
    where: (index) => onSource(at(index), (source, i) => source.where(i)),
    read: (index) => onSource(at(index), (source, i) => source.read(i)),
    close: async () => {
      await Promise.all(sources.map((source) => source.close()));
    },
  };
}

const onSource = <Result>(
  [source, index]: [ExampleSource, number],
  use: (source: ExampleSource, index: number) => Result,
) => use(source, index);

/** A source with its share of the examples. Weights are for all sources or for none; none makes one list of all of them. */
export interface WeightedSource {
  source: ExampleSource;
  weight?: number;
  /** From an earlier stage: it is no part of an epoch, which ends when the others have been gone through. */
  replay?: true;
}

/**
 * The sources of a stage with a share of examples from earlier ones, so that what was learnt is not forgotten. Within either
 * part the weights stay what they are.
 */
export function withReplay(
  current: readonly WeightedSource[],
  earlier: readonly WeightedSource[],
  share: number,
): WeightedSource[] {
  if (!(share >= 0 && share < 1)) {
    throw new UserError({ expected: 'a share of replay from 0 to below 1', found: String(share) });
  }
  if (share === 0 || earlier.length === 0) return [...current];
  const part = (sources: readonly WeightedSource[], total: number): WeightedSource[] => {
    if (sources.every(({ weight }) => weight === undefined)) {
      return [{ source: concatenate(sources.map(({ source }) => source)), weight: total }];
    }
    const sum = sources.reduce((all, { weight = 0 }) => all + weight, 0);
    return sources.map((weighted) => ({
      ...weighted,
      ...(weighted.weight && { weight: (total * weighted.weight) / sum }),
    }));
  };
  return [
    ...part(current, 1 - share),
    ...part(earlier, share).map((weighted) => ({ ...weighted, replay: true as const })),
  ];
}

/** What is held out: a share of all ids, drawn by the seed, or the ids that are named. */
export type HeldOutBy = { share: number; seed?: number } | { ids: readonly string[] };

/**
 * Training rows and held-out rows. A row's side depends on the hash of its id alone, so all translations of a row, in
 * whatever source, stay on one side, and adding rows moves none. Close the sources themselves, not these views.
 */
export function splitHeldOut(
  sources: readonly WeightedSource[],
  by: HeldOutBy,
): { train: WeightedSource[]; heldOut: WeightedSource[] } {
  const isHeld = heldOutTest(by);
  const what = 'ids' in by ? [...by.ids].sort() : [by.share, by.seed ?? 0];
  const split: Record<'train' | 'heldOut', WeightedSource[]> = { train: [], heldOut: [] };
  const found = new Set<number>();
  for (const weighted of sources) {
    const { source } = weighted;
    const positions: Record<'train' | 'heldOut', number[]> = { train: [], heldOut: [] };
    for (let i = 0; i < source.count; i++) {
      const key = source.key(i);
      if (isHeld(key)) found.add(key);
      positions[isHeld(key) ? 'heldOut' : 'train'].push(i);
    }
    for (const side of ['train', 'heldOut'] as const) {
      if (positions[side].length > 0)
        split[side].push({ ...weighted, source: view(source, positions[side], [side, what]) });
    }
  }
  const name = sources.map(({ source }) => source.name).join(', ');
  const unknown = 'ids' in by ? by.ids.filter((id) => !found.has(hashText(id))) : [];
  if (unknown.length > 0) {
    throw new UserError({
      expected: 'held-out ids of rows in the data',
      found: `${unknown.length} unknown: ${unknown.slice(0, 3).join(', ')}`,
      where: name,
    });
  }
  if (split.train.length === 0 || split.heldOut.length === 0) {
    throw new UserError({
      expected: 'rows on both sides of the held-out split',
      found: split.train.length === 0 ? 'none to train on' : 'none held out',
      where: name,
      remedy: 'choose another share, or give more rows',
    });
  }
  return split;
}

function heldOutTest(by: HeldOutBy): (key: number) => boolean {
  if ('ids' in by) {
    const keys = new Set(by.ids.map(hashText));
    return (key) => keys.has(key);
  }
  const { share, seed = 0 } = by;
  if (!(share > 0 && share < 1))
    throw new UserError({ expected: 'a held-out share between 0 and 1', found: String(share) });
  return (key) => hashNumbers(key, seed) < share * 2 ** 32;
}

/** The rows of a source at some of its positions. */
function view(source: ExampleSource, positions: number[], what: unknown): ExampleSource {
  const at = Uint32Array.from(positions);
  return {
    ...source,
    count: at.length,
    fingerprint: digest([source.fingerprint, what]),
    key: (index) => source.key(at[index]!),
    where: (index) => source.where(at[index]!),
    read: (index) => source.read(at[index]!),
    close: async () => {},
  };
}

const digest = (value: unknown) => createHash('sha256').update(JSON.stringify(value)).digest('hex');
