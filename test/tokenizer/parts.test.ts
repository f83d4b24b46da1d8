// SPDX-License-Identifier: Apache-2.0
// Parts of the tokenizer that whole texts seldom put to the test: split patterns, by what Hugging Face tokenizers 0.23.2
// (Oniguruma) made of the same texts, and the word cache when hashes collide and when it overflows.
import * as assert from 'uvu/assert';
import { byteLevelPattern, SplitPattern } from '../../tokenizer/split-pattern.js';
import { TokenBuffer } from '../../tokenizer/token-buffer.js';
import { hashSeed, hashUnit, WordCache } from '../../tokenizer/word-cache.js';
import { suite } from '../support/harness.js';

const test = suite('tokenizer parts');

const llama3 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

const splits: [pattern: string, text: string, parts: string[]][] = [
  [
    llama3,
    "He'LL say it'ſx  \u0085\ufeff x\r\n\r\n  12345-- 𝔘𝔫😀!\n",
    [
      'He',
      "'LL",
      ' say',
      ' it',
      "'ſ",
      'x',
      '  ',
      '\u0085',
      '\ufeff',
      ' x',
      '\r\n\r\n',
      ' ',
      ' ',
      '123',
      '45',
      '--',
      ' 𝔘𝔫',
      '😀!\n',
    ],
  ],
  [
    byteLevelPattern,
    "He'LL don't  \u0085\ufeff x\r\n\r\n  12345-- 𝔘𝔫😀!",
    ['He', "'", 'LL', ' don', "'t", '  ', '\u0085', '\ufeff', ' x', '\r\n\r\n ', ' 12345', '--', ' 𝔘𝔫', '😀!'],
  ],
  ['a++b|a+', 'aab aaa', ['aab', ' ', 'aaa']],
  ['a*+ab|a', 'aab', ['a', 'a', 'b']],
  ['a?+ab|b', 'aab', ['aab']],
  ['😀+😀a|😀', '😀😀😀a', ['😀😀😀a']],
  ['(?:ab|a)?b+c?', 'ababbcab', ['ab', 'abbc', 'ab']],
  ['\\p{Lu}{2,}|\\p{Ll}{1,2}', 'ABCdefG', ['ABC', 'de', 'f', 'G']],
  ['x(?=y)|y{2}', 'xyxxyy', ['x', 'yx', 'x', 'yy']],
  ['[^a-c\\s]+', 'abxd e\u0085f', ['ab', 'xd', ' ', 'e', '\u0085', 'f']],
];

function partsOf(pattern: SplitPattern, text: string): string[] {
  const units = unitsOf(text);
  const parts: string[] = [];
  let leftOver = 0;
  for (let at = 0; at < text.length; ) {
    const end = pattern.matchAt(units, at, text.length);
    if (end > at) {
      if (leftOver < at) parts.push(text.slice(leftOver, at));
      parts.push(text.slice(at, end));
      leftOver = end;
      at = end;
    } else {
      at += text.codePointAt(at)! > 0xffff ? 2 : 1;
    }
  }
  if (leftOver < text.length) parts.push(text.slice(leftOver));
  return parts;
}

for (const [pattern, text, parts] of splits) {
  test(`split by ${pattern.slice(0, 40)}`, () => {
    assert.equal(partsOf(new SplitPattern(pattern, 'here'), text), parts);
  });
}

test('a literal split means its characters', () => {
  assert.equal(partsOf(SplitPattern.literal('a.b', 'here'), 'axb a.b-a.b'), ['axb ', 'a.b', '-', 'a.b']);
});

/** Adds `word` as one token `id`; `hash` may be forced to collide. */
function remember(cache: WordCache, word: string, id: number, hash?: number): void {
  const units = unitsOf(word);
  const buffer = new TokenBuffer();
  buffer.push(id, 0);
  cache.add(buffer, 0, units, 0, units.length, hash ?? hashOf(units));
}

function recall(cache: WordCache, word: string, hash?: number): number | undefined {
  const units = unitsOf(word);
  const buffer = new TokenBuffer();
  return cache.appendTo(buffer, units, 0, units.length, hash ?? hashOf(units)) ? buffer.ids[0] : undefined;
}

function unitsOf(word: string): Uint16Array {
  return Uint16Array.from({ length: word.length }, (_, index) => word.charCodeAt(index));
}

function hashOf(units: Uint16Array): number {
  return units.reduce(hashUnit, hashSeed);
}

test('words of one hash are told apart', () => {
  const cache = new WordCache();
  remember(cache, 'one', 1, 7);
  remember(cache, 'two', 2, 7);
  remember(cache, 'twofold', 3, 7);
  assert.equal([recall(cache, 'one', 7), recall(cache, 'two', 7), recall(cache, 'twofold', 7)], [1, 2, 3]);
  assert.is(recall(cache, 'six', 7), undefined);
});

test('the cache forgets when it is full and goes on', () => {
  const cache = new WordCache();
  for (let i = 0; i < 300_000; i++) {
    remember(cache, `w${i}`, i);
    if (i % 1000 === 0) assert.is(recall(cache, `w${i}`), i);
  }
  for (let i = 0; i < 300_000; i++) {
    const id = recall(cache, `w${i}`);
    assert.ok(id === undefined || id === i, `w${i} gave ${id}`);
  }
  assert.is(recall(cache, 'w0'), undefined);
});
