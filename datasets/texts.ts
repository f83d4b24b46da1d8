// SPDX-License-Identifier: Apache-2.0
// Plain text as examples: records of `{"text": …}`, of which all counts, for training a small model whole. Knows nothing of
// prompts. A text has bos and eos around it where the tokenizer has them.
import { createHash } from 'node:crypto';
import { UserError } from '../errors.js';
import { type Encoder, type ExampleSource, IGNORED } from './examples.js';
import type { Place } from './files/place.js';
import { type Decoded, openTable } from './record-table.js';
import { describe, wellFormed } from './rows.js';

interface Text {
  id: string;
  text: string;
}

/** Examples of plain text, one for each record. Every record is checked once before this returns. */
export async function openTexts(path: string, encoder: Encoder): Promise<ExampleSource> {
  const table = await openTable(path, decodeText);
  const { bosId, eosId } = encoder;
  return {
    ...table,
    fingerprint: createHash('sha256').update(`texts ${table.fingerprint} ${encoder.fingerprint}`).digest('hex'),
    async read(index) {
      const { id, text } = await table.read(index);
      const encoded = encoder.encodeWithOffsets(text, { continuation: false }).ids;
      const ids = Int32Array.from([
        ...(bosId === undefined ? [] : [bosId]),
        ...encoded,
        ...(eosId === undefined ? [] : [eosId]),
      ]);
      const labels = ids.slice();
      labels[0] = IGNORED; // nothing stands before the first token that could predict it
      return { id, ids, labels };
    },
  };
}

function decodeText(value: unknown, place: Place): Decoded<Text> {
  const { text, id } = (value ?? {}) as { text?: unknown; id?: unknown };
  if (typeof text !== 'string' || text === '') {
    throw new UserError({
      expected: "text in 'text'",
      found: text === '' ? 'none' : describe(text),
      where: String(place),
    });
  }
  wellFormed(text, 'text', place);
  return typeof id === 'string' || typeof id === 'number'
    ? { item: { id: String(id), text }, id: String(id), ownId: true }
    : { item: { id: String(place.position), text }, id: String(place.position) };
}
