// SPDX-License-Identifier: Apache-2.0
// Every row of the tokenizer goldens: ids and text exactly as sentencepiece and Hugging Face tokenizers gave them.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { loadTokenizer, textOfBytes } from '../../tokenizer/index.js';
import { shared, suite } from '../support/harness.js';

interface Row {
  kind: string;
  text?: string;
  bytes_hex?: string;
  ids?: number[];
  pieces?: string[];
  decoded?: string;
  decoded_skip_special?: string;
  n_ids?: number;
  ids_head?: number[];
  ids_tail?: number[];
  ids_sha256?: string;
}

const test = suite('tokenizer goldens');

const files = [
  { rows: 'bpe512.jsonl', model: 'bpe512.model', kind: 'sentencepiece-bpe', size: 512 },
  { rows: 'bpe1000.jsonl', model: 'bpe1000.model', kind: 'sentencepiece-bpe', size: 1000 },
  { rows: 'unigram800.jsonl', model: 'unigram800.model', kind: 'sentencepiece-unigram', size: 800 },
  { rows: 'bytelevel.jsonl', model: 'bytelevel_tokenizer.json', kind: 'byte-level-bpe', size: 1205 },
] as const;

for (const { rows, model, kind, size } of files) {
  test(`${rows}: all rows`, () => {
    const tokenizer = loadTokenizer(shared('goldens', 'tokenizer', model));
    assert.is(tokenizer.kind, kind);
    assert.is(tokenizer.vocabularySize, size);
    // The reference cut special tokens out of text only for the byte-level tokenizer.
    const specials = kind === 'byte-level-bpe';
    let checked = 0;
    for (const line of readFileSync(shared('goldens', 'tokenizer', rows), 'utf8')
      .trimEnd()
      .split('\n')) {
      const row = JSON.parse(line) as Row;
      const text = row.bytes_hex === undefined ? row.text : textOfBytes(Buffer.from(row.bytes_hex, 'hex'));
      if (text !== undefined) {
        const ids = Array.from(tokenizer.encode(text, { specials }));
        if (row.ids) assert.equal(ids, row.ids, `${row.kind}: ids of ${JSON.stringify(text).slice(0, 100)}`);
        else {
          assert.is(ids.length, row.n_ids!);
          assert.equal(ids.slice(0, row.ids_head!.length), row.ids_head);
          assert.equal(ids.slice(-row.ids_tail!.length), row.ids_tail);
          assert.is(createHash('sha256').update(ids.join(',')).digest('hex'), row.ids_sha256!);
        }
        if (row.pieces)
          assert.equal(
            ids.map((id) => tokenizer.piece(id)),
            row.pieces,
          );
      }
      if (row.ids && row.decoded !== undefined) {
        assert.is(
          tokenizer.decode(row.ids, { specials }),
          row.decoded,
          `${row.kind}: text of [${row.ids.slice(0, 30)}]`,
        );
      }
      if (row.decoded_skip_special !== undefined) assert.is(tokenizer.decode(row.ids!), row.decoded_skip_special);
      checked++;
    }
    assert.ok(checked > 300, `only ${checked} rows`);
  });
}

test('unigram: a text so long that path scores are rebased', () => {
  const tokenizer = loadTokenizer(shared('goldens', 'tokenizer', 'unigram800.model'));
  const text = readFileSync(shared('goldens', 'tokenizer', 'corpus.txt'), 'utf8').repeat(8);
  const ids = tokenizer.encode(text);
  // From sentencepiece 0.2.2 (Python).
  assert.is(ids.length, 67078);
  assert.is(
    createHash('sha256').update(ids.join(',')).digest('hex'),
    '35840fc550232ce1660d745b1e902393d3495607f7d29fd24bf0119beace5db5',
  );
});
