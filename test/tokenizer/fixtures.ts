// SPDX-License-Identifier: Apache-2.0
// Tokenizers for tests, made by ourselves: a writer of SentencePiece's `.model` files, a small model trained on a few lines of
// ours, and a seeded source of hard texts. So the suite checks the encoders where no reference files are at hand.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** Printed with every failure of a random test; give it back in the environment to repeat one. */
export const seed = Number(process.env['TACOTUNE_SEED'] ?? 1);

export interface Piece {
  piece: string;
  score?: number;
  /** 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. */
  type?: number;
}

export interface ModelOptions {
  pieces: readonly Piece[];
  modelType?: 'unigram' | 'bpe' | 'word';
  byteFallback?: boolean;
  addDummyPrefix?: boolean;
  removeExtraWhitespaces?: boolean;
  normalizer?: { name: string; charsmap?: string };
}

/** The bytes of a SentencePiece model file. */
export function modelFile(options: ModelOptions): Buffer {
  const { modelType = 'bpe', byteFallback = false, addDummyPrefix = true, removeExtraWhitespaces = false } = options;
  const pieces = options.pieces.map(({ piece, score = 0, type = 1 }) =>
    bytesField(1, Buffer.concat([bytesField(1, Buffer.from(piece)), floatField(2, score), numberField(3, type)])),
  );
  const trainer = [numberField(3, { unigram: 1, bpe: 2, word: 3 }[modelType]), numberField(35, byteFallback ? 1 : 0)];
  const normalizer = [
    bytesField(1, Buffer.from(options.normalizer?.name ?? 'identity')),
    bytesField(2, Buffer.from(options.normalizer?.charsmap ?? '')),
    numberField(3, addDummyPrefix ? 1 : 0),
    numberField(4, removeExtraWhitespaces ? 1 : 0),
  ];
  return Buffer.concat([...pieces, bytesField(2, Buffer.concat(trainer)), bytesField(3, Buffer.concat(normalizer))]);
}

export function bytesField(number: number, value: Uint8Array): Buffer {
  return Buffer.concat([varint(number * 8 + 2), varint(value.length), value]);
}

function numberField(number: number, value: number): Buffer {
  return Buffer.concat([varint(number * 8), varint(value)]);
}

function floatField(number: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([varint(number * 8 + 5), bytes]);
}

export function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return Buffer.from([...bytes, value]);
}

export const basicPieces: readonly Piece[] = [
  { piece: '<unk>', type: 2 },
  { piece: '<s>', type: 3 },
  { piece: '</s>', type: 3 },
];

export const bytePieces: readonly Piece[] = Array.from({ length: 256 }, (_, byte) => ({
  piece: `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
  type: 6,
}));

const lines = [
  'The farmer carried the water up the hill before the sun was high.',
  'She asked the teacher how the river had found its way to the sea.',
  'List three colours: red, green, and blue. Then count from 1 to 20!',
  'किसानले बिहान सबेरै पानी बोकेर डाँडामाथि लग्यो।',
  'उनले शिक्षकलाई सोधिन्, नदीले समुद्रसम्मको बाटो कसरी भेट्टायो?',
  'کشاورز پیش از بالا آمدن آفتاب آب را به بالای تپه می‌برد.',
  'for (let i = 0; i < n; i++) {\n    total += values[i];\n}',
];

/** Pieces by byte-pair merging over our few lines: the specials, 256 bytes, at most `count` merges, then single characters. */
export function trainedPieces(count: number): Piece[] {
  const words = lines
    .flatMap((line) => ` ${line}`.replaceAll(' ', '▁').match(/▁+[^▁]*/g) ?? [])
    .map((word) => [...word]);
  const merged: string[] = [];
  while (merged.length < count) {
    const counts = new Map<string, number>();
    for (const word of words) {
      for (let i = 1; i < word.length; i++) {
        const pair = word[i - 1]! + word[i]!;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    }
    const best = [...counts].reduce((a, b) => (b[1] > a[1] ? b : a), ['', 0])[0];
    if (best === '') break; // every word is one piece
    merged.push(best);
    for (const word of words) {
      for (let i = 1; i < word.length; i++) if (word[i - 1]! + word[i]! === best) word.splice(i - 1, 2, best);
    }
  }
  const characters = [...new Set(lines.join('').replaceAll(' ', '▁').replaceAll('\n', ''))];
  const normal = [...new Set([...merged, ...characters])].map((piece, rank) => ({ piece, score: -rank }));
  return [...basicPieces, ...bytePieces, ...normal];
}

/** Runs `body` with a function that puts bytes or text into a file of a folder that is removed afterwards. */
export function withFiles<T>(body: (write: (name: string, content: Uint8Array | string) => string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'tacotune-tokenizer-'));
  try {
    return body((name, content) => {
      const path = join(folder, name);
      writeFileSync(path, content);
      return path;
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export const folderOf = dirname;

/** A small counter-based generator of whole numbers below a bound. */
export function generator(start: number): (below: number) => number {
  let state = start >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** What tokenizers have been seen to stumble over. */
export const hardTexts: readonly string[] = [
  '',
  ' ',
  '      ',
  'a',
  ' a  b   c ',
  '\n\n\t \r\n',
  '\0',
  'a\0b\0\0',
  '\u0001\u001b[31m\u007f\u0080\u009f',
  '▁',
  ' ▁▁ ▁a▁',
  '<s>Hello</s><unk>',
  '<0x41><0x0A>',
  'Instruction in English:  x.\n                        Response in English: y. \n',
  'क्षत्रिय ज्ञान गर्‍यो श्रीमद्भगवद्गीता ॐ',
  'می‌خواهم نمی‌شود کتاب‌ها',
  '👨‍👩‍👧‍👦🇳🇵👋🏽😀😀',
  'e\u0301 é \u202eabc\u202c \ufeff',
  '你好，世界！ こんにちは 안녕하세요',
  'if (x == 0) {\n        return [1, 2.5e-3];\n}',
  'https://example.org/a?b=c&d=%20#e',
  '1234567890 १२३ ۱۲۳',
  "don't DON'T we'll 'S",
  'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
];

/** Texts of mixed scripts, spaces, digits, code and marks; none with lone surrogates. */
export function randomTexts(count: number, start: number): string[] {
  const below = generator(start);
  const words = lines.join(' ').split(' ');
  const blocks = [0x20, 0x61, 0x900, 0x600, 0x4e00, 0x1f600, 0xac00, 0x370];
  const part = (): string => {
    switch (below(8)) {
      case 0:
        return hardTexts[below(hardTexts.length)]!;
      case 1:
        return ' '.repeat(below(24));
      case 2:
        return String.fromCodePoint(...Array.from({ length: below(6) }, () => blocks[below(8)]! + below(90)));
      case 3:
        return Array.from({ length: below(12) }, () => 'there he▁'[below(9)]).join('');
      default:
        return ` ${words[below(words.length)]}`;
    }
  };
  return Array.from({ length: count }, (_, index) =>
    Array.from({ length: index % 40 === 39 ? 300 : 1 + below(14) }, part).join(''),
  );
}
