// SPDX-License-Identifier: Apache-2.0
// Against sentencepiece-js: LLaMA's own vocabulary where it is at hand, a small model of ours always; hard texts, random ones,
// and a long one whose words the cache has seen before.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { loadTokenizer, type Tokenizer } from '../../tokenizer/index.js';
import { projectRoot, shared, suite } from '../support/harness.js';
import { hardTexts, modelFile, randomTexts, seed, trainedPieces, withFiles } from './fixtures.js';
import { askSentencepieceJs } from './sentencepiece-js.js';

const test = suite('tokenizer oracle');

function compare(model: string, tokenizer: Tokenizer, texts: string[]): void {
  const answers = askSentencepieceJs(model, texts);
  assert.is(answers.length, texts.length);
  for (const [index, text] of texts.entries()) {
    const name = `seed ${seed}, text ${index}: ${JSON.stringify(text).slice(0, 200)}`;
    const { ids, decoded } = answers[index]!;
    assert.equal(Array.from(tokenizer.encode(text)), ids, `ids, ${name}`);
    assert.is(tokenizer.decode(ids), decoded, `text, ${name}`);
  }
}

/** English with code and links: the documentation of the installed packages. */
function longText(length: number): string {
  const folder = join(projectRoot, 'node_modules');
  let text = '';
  for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()) {
    if (file.endsWith('.md')) text += readFileSync(join(folder, file), 'utf8');
    if (text.length >= length) break;
  }
  return text.slice(0, length).replace(/\p{Surrogate}/gu, '');
}

test("LLaMA's vocabulary", () => {
  const model = shared('tokenizers', 'llama.model');
  const tokenizer = loadTokenizer(model);
  assert.is(tokenizer.vocabularySize, 32000);
  compare(model, tokenizer, [...hardTexts, ...randomTexts(600, seed), longText(400_000)]);
});

test('a byte-pair model of ours', () => {
  withFiles((write) => {
    const model = write('tokenizer.model', modelFile({ pieces: trainedPieces(300), byteFallback: true }));
    compare(model, loadTokenizer(model), [...hardTexts, ...randomTexts(600, seed + 1), longText(100_000)]);
  });
});

test('without byte fallback, squeezing spaces, without a dummy prefix, with user-defined pieces', () => {
  const pieces = trainedPieces(200).filter(({ type }) => type !== 6);
  const userDefined = ['<|turn|>', 'the', 'there', '▁▁▁', '😀'].map((piece) => ({ piece, type: 4 }));
  const known = new Set(userDefined.map(({ piece }) => piece));
  const variants = [
    { pieces },
    { pieces, removeExtraWhitespaces: true },
    { pieces: trainedPieces(200), byteFallback: true, addDummyPrefix: false },
    { pieces: [...trainedPieces(200).filter(({ piece }) => !known.has(piece)), ...userDefined], byteFallback: true },
  ];
  for (const [index, variant] of variants.entries()) {
    withFiles((write) => {
      const model = write('tokenizer.model', modelFile(variant));
      compare(model, loadTokenizer(model), [
        ...hardTexts,
        ...randomTexts(250, seed + 2 + index),
        '<|turn|>there<|turn|>▁▁▁▁',
      ]);
    });
  }
});

test('a unigram model: the same ids, or a cut of the same probability', () => {
  const scores = new Map<string, number>();
  const pieces = trainedPieces(250).map((piece, index) =>
    piece.type ? piece : { ...piece, score: -3 - (index % 97) / 13 },
  );
  for (const { piece, score } of pieces) scores.set(piece, score ?? 0);
  const total = (tokenizer: Tokenizer, ids: ArrayLike<number>) =>
    Array.from(ids).reduce((sum, id) => sum + (scores.get(tokenizer.piece(id)) ?? 0), 0);
  withFiles((write) => {
    const model = write('tokenizer.model', modelFile({ pieces, byteFallback: true, modelType: 'unigram' }));
    const tokenizer = loadTokenizer(model);
    assert.is(tokenizer.kind, 'sentencepiece-unigram');
    const texts = [...hardTexts, ...randomTexts(400, seed + 9)];
    let equal = 0;
    for (const [index, { ids, decoded }] of askSentencepieceJs(model, texts).entries()) {
      const text = texts[index]!;
      const ours = tokenizer.encode(text);
      if (ours.join() === ids.join()) equal++;
      // sentencepiece-js is an older release, which breaks ties otherwise (tokenizer/unigram.ts).
      const tolerance = 1e-3 * (1 + text.length / 100);
      assert.ok(
        Math.abs(total(tokenizer, ours) - total(tokenizer, ids)) < tolerance,
        `seed ${seed}: ${JSON.stringify(text)}`,
      );
      assert.is(tokenizer.decode(ids), decoded);
      assert.is(tokenizer.decode(ours), decoded);
    }
    assert.ok(equal > 0.8 * texts.length, `only ${equal} of ${texts.length} equal`);
  });
});
