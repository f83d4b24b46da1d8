// SPDX-License-Identifier: Apache-2.0
// Ready token ids: records of `{"ids": […], "labels": […]}`, −100 = not a target, labels default to the ids. Checks each one
// against the vocabulary before any of them is used. Knows nothing of text.
import { createHash } from 'node:crypto';
import { UserError } from '../errors.js';
import { type ExampleSource, IGNORED, type TokenExample } from './examples.js';
import type { Place } from './files/place.js';
import { type Decoded, openTable } from './record-table.js';
import { describe } from './rows.js';

/** Examples of ready token ids, in the file's order. Every line is checked once before this returns. */
export async function openTokenIds(path: string, options: { vocabularySize: number }): Promise<ExampleSource> {
  const table = await openTable(path, (value, place) => decodeTokenIds(value, place, options.vocabularySize));
  return { ...table, fingerprint: createHash('sha256').update(`token ids ${table.fingerprint}`).digest('hex') };
}

function decodeTokenIds(value: unknown, place: Place, vocabularySize: number): Decoded<TokenExample> {
  const {
    ids: rawIds,
    labels: rawLabels,
    id: rawId,
  } = (value ?? {}) as { ids?: unknown; labels?: unknown; id?: unknown };
  const ids = integers(rawIds, 'ids', place, (n) => n >= 0 && n < vocabularySize, `0 … ${vocabularySize - 1}`);
  if (ids.length === 0)
    throw new UserError({ expected: "at least one token in 'ids'", found: 'none', where: String(place) });
  const labels =
    rawLabels === undefined || rawLabels === null
      ? ids.slice()
      : integers(
          rawLabels,
          'labels',
          place,
          (n) => n === IGNORED || (n >= 0 && n < vocabularySize),
          `${IGNORED} or 0 … ${vocabularySize - 1}`,
        );
  if (labels.length !== ids.length) {
    throw new UserError({
      expected: `as many labels as ids (${ids.length})`,
      found: `${labels.length}`,
      where: String(place),
    });
  }
  labels[0] = IGNORED; // nothing stands before the first token that could predict it
  if (labels.every((label) => label === IGNORED)) {
    throw new UserError({
      expected: 'at least one target after the first token',
      found: `only ${IGNORED}`,
      where: String(place),
    });
  }
  const ownId = typeof rawId === 'string' || typeof rawId === 'number';
  const id = ownId ? String(rawId) : String(place.position);
  return ownId ? { item: { id, ids, labels }, id, ownId } : { item: { id, ids, labels }, id };
}

function integers(
  value: unknown,
  name: string,
  place: Place,
  allowed: (n: number) => boolean,
  range: string,
): Int32Array {
  if (!Array.isArray(value))
    throw new UserError({ expected: `a list of token ids in '${name}'`, found: describe(value), where: String(place) });
  for (const [i, n] of value.entries()) {
    if (!Number.isInteger(n) || !allowed(n as number)) {
      throw new UserError({
        expected: `whole numbers ${range} in '${name}'`,
        found: `${describe(n)} at position ${i}`,
        where: String(place),
        remedy: 'the ids must come from the tokenizer of the model',
      });
    }
  }
  return Int32Array.from(value as number[]);
}
