// SPDX-License-Identifier: Apache-2.0
// Damaged, hostile and unsupported tokenizer files: each gives one clear UserError, soon, and never another exception.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { UserError } from '../../errors.js';
import { loadTokenizer } from '../../tokenizer/index.js';
import { suite } from '../support/harness.js';
import {
  basicPieces,
  bytePieces,
  bytesField,
  folderOf,
  generator,
  modelFile,
  seed,
  trainedPieces,
  varint,
  withFiles,
} from './fixtures.js';

const test = suite('tokenizer files');

const good = modelFile({ pieces: trainedPieces(60), byteFallback: true });

/** Loads a file with this content and gives the message of the UserError that it must end in. */
function messageOf(content: Uint8Array | string, name = 'tokenizer.model'): string {
  return withFiles((write) => {
    const start = performance.now();
    try {
      loadTokenizer(write(name, content));
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      assert.ok(performance.now() - start < 20_000, 'too slow');
      assert.match(error.message, name);
      return error.message;
    }
    throw new Error('loaded without an error');
  });
}

test('files of other kinds are named', () => {
  const cases: [Uint8Array | string, RegExp][] = [
    ['', /an empty file/],
    ['<!DOCTYPE html><html></html>', /a web page/],
    ['\n <html>', /a web page/],
    [Buffer.from([0x80, 2, 0x7d, 0x71]), /pickle/],
    ['PK\x03\x04\0\0', /zip/],
    ['version https://git-lfs.github.com/spec/v1\noid sha256:0\n', /git-lfs pointer[\s\S]*git lfs pull/],
    ['IQ== 0\nIg== 1\n', /tiktoken[\s\S]*tokenizer\.json/],
    ['GGUF\x03\0\0\0', /GGUF/],
    ['just some words', /damaged or of another kind/],
  ];
  for (const [content, message] of cases) assert.match(messageOf(content), message);
});

test('a truncated model is refused wherever it ends', () => {
  for (let length = 1; length < good.length; length += 37) messageOf(good.subarray(0, length));
});

test('a damaged model is refused or works, and nothing else', () => {
  const below = generator(seed);
  let refused = 0;
  for (let round = 0; round < 400; round++) {
    const damaged = Buffer.from(good);
    for (let i = 0; i <= below(3); i++) damaged[below(damaged.length)] = below(256);
    withFiles((write) => {
      try {
        const tokenizer = loadTokenizer(write('x.model', damaged));
        tokenizer.decode(tokenizer.encode('the water, क ی 😀 <0x41>'));
      } catch (error) {
        assert.instance(error, UserError, `seed ${seed}, round ${round}: ${error}`);
        refused++;
      }
    });
  }
  assert.ok(refused > 100);
});

test('what SentencePiece refuses or we cannot do exactly is refused by name', () => {
  const pieces = [...basicPieces, { piece: 'a' }];
  const cases: [Parameters<typeof modelFile>[0], RegExp][] = [
    [{ pieces: [] }, /with pieces, found none/],
    [{ pieces: [{ piece: 'a' }] }, /piece of type unknown, found none/],
    [{ pieces: [...pieces, { piece: 'u', type: 2 }] }, /one piece of type unknown/],
    [{ pieces: [...pieces, { piece: 'a' }] }, /all different, found 'a' as 3 and 4/],
    [{ pieces: [...pieces, { piece: '' }] }, /found an empty string[\s\S]*piece 4/],
    [{ pieces: [...pieces, { piece: 'b', score: Number.NaN }] }, /finite score for 'b'/],
    [{ pieces: [...pieces, { piece: 'b', type: 7 }] }, /type from 1 to 6/],
    [{ pieces: [...pieces, { piece: 'b', type: 5 }] }, /unused pieces/],
    [{ pieces: [...pieces, { piece: 'b'.repeat(2000) }] }, /at most 1024 bytes/],
    [{ pieces, byteFallback: true }, /256 byte pieces, found 0/],
    [{ pieces: [...pieces, ...bytePieces] }, /only with byte_fallback/],
    [{ pieces: [...pieces, { piece: '<0xZZ>', type: 6 }], byteFallback: true }, /named <0x00> to <0xFF>/],
    [{ pieces, modelType: 'word' }, /unigram or bpe, found word/],
    [{ pieces, normalizer: { name: 'nmt_nfkc', charsmap: 'x' } }, /identity normalizer, found 'nmt_nfkc'/],
  ];
  for (const [options, message] of cases) assert.match(messageOf(modelFile(options)), message);
  assert.match(messageOf(bytesField(1, Buffer.concat([bytesField(1, Buffer.from([0xff, 0xfe]))]))), /UTF-8/);
  // A piece that really is U+FFFD is no bad byte.
  withFiles((write) => {
    const tokenizer = loadTokenizer(
      write('x.model', modelFile({ pieces: [...pieces, { piece: '\ufffd' }], addDummyPrefix: false })),
    );
    assert.equal(tokenizer.encode('\ufffd'), Int32Array.of(4));
  });
});

test('lengths beyond the file cost nothing', () => {
  for (const length of [4, 1000, 2 ** 31 - 1, 2 ** 32 + 1, 2 ** 40, 2 ** 53]) {
    assert.match(
      messageOf(Buffer.concat([Buffer.from([0x0a]), varint(length), Buffer.from('abc')])),
      /at most 3 more bytes/,
    );
  }
  assert.match(messageOf(Buffer.alloc(40, 0xff)), /at most 10 bytes/);
  const long = Array.from({ length: 3000 }, (_, i) => ({ piece: `${i}`.padStart(1000, 'a') }));
  assert.match(messageOf(modelFile({ pieces: [...basicPieces, ...long] })), /ordinary length/);
});

const alphabet = (() => {
  const printable = (byte: number) => (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
  let others = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : 0x100 + others++));
})();

/** A small byte-level tokenizer.json, changed by `change` before it is written. */
function tokenizerJson(
  change: (json: Record<string, unknown> & { model: Record<string, unknown> }) => void = () => {},
): string {
  const vocab = Object.fromEntries([...alphabet, 'th', 'the'].map((token, id) => [token, id]));
  const merges: unknown[] = [['t', 'h'], 'th e'];
  const json = {
    added_tokens: [],
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
    model: { type: 'BPE', vocab, merges },
  };
  change(json);
  return JSON.stringify(json);
}

test('a tokenizer.json that is damaged or asks for other steps is refused by name', () => {
  const vocabulary = (change: (vocab: Record<string, unknown>) => void) =>
    tokenizerJson(({ model }) => change(model['vocab'] as Record<string, unknown>));
  const split = (pattern: string) =>
    tokenizerJson((json) => {
      const pretokenizers = [
        { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated' },
        { type: 'ByteLevel', add_prefix_space: false, use_regex: false },
      ];
      json['pre_tokenizer'] = { type: 'Sequence', pretokenizers };
    });
  const nested = '['.repeat(100_000) + ']'.repeat(100_000);
  const cases: [string, RegExp][] = [
    [tokenizerJson().slice(0, 200), /JSON/],
    ['{}', /with a 'model'/],
    ['[1]', /with a 'model'/],
    [`{"model":${nested}}`, /with a 'model'/],
    [`{"model":{"vocab":${nested}}}`, /object 'model.vocab'/],
    [tokenizerJson(({ model }) => Object.assign(model, { type: 'WordPiece' })), /type 'BPE', found "WordPiece"/],
    [tokenizerJson(({ model }) => Object.assign(model, { dropout: 0.1 })), /no 'dropout'/],
    [tokenizerJson(({ model }) => Object.assign(model, { vocab: {} })), /tokens in 'model.vocab'/],
    [tokenizerJson(({ model }) => Object.assign(model, { merges: undefined })), /list 'model.merges', found nothing/],
    [tokenizerJson(({ model }) => Object.assign(model, { merges: ['t h', 'q x'] })), /'qx' in merges\[1\]/],
    [tokenizerJson(({ model }) => Object.assign(model, { merges: ['zz h'] })), /'zz' in merges\[0\]/],
    [tokenizerJson(({ model }) => Object.assign(model, { merges: ['a b c'] })), /two tokens in merges\[0\]/],
    [tokenizerJson(({ model }) => Object.assign(model, { merges: [7] })), /two tokens in merges\[0\]/],
    [vocabulary((vocab) => Object.assign(vocab, { the: 5 })), /ids that are all different/],
    [vocabulary((vocab) => Object.assign(vocab, { the: -1 })), /id from 0/],
    [vocabulary((vocab) => Object.assign(vocab, { the: 1.5 })), /id from 0/],
    [vocabulary((vocab) => Object.assign(vocab, { the: 2 ** 31 })), /id from 0/],
    [vocabulary((vocab) => Object.assign(vocab, { the: 4_000_000 })), /wide gaps/],
    [vocabulary((vocab) => Object.assign(vocab, { नमः: 300 })), /byte-level alphabet, found 'नमः'/],
    [vocabulary((vocab) => delete vocab['A']), /none for byte 65/],
    [tokenizerJson((json) => Object.assign(json, { normalizer: { type: 'NFC' } })), /no normalizer/],
    [tokenizerJson((json) => Object.assign(json, { pre_tokenizer: null })), /ByteLevel pre-tokenizer/],
    [
      tokenizerJson((json) => Object.assign(json, { pre_tokenizer: { type: 'Whitespace' } })),
      /found {"type":"Whitespace"}/,
    ],
    [tokenizerJson((json) => Object.assign(json, { added_tokens: [{ id: 'x' }] })), /added_tokens\[0\]/],
    [
      tokenizerJson((json) => Object.assign(json, { added_tokens: [{ id: 300, content: 'x', lstrip: true }] })),
      /without 'lstrip'/,
    ],
    ...[
      '(?<=a)b',
      'a+?',
      '[a',
      '(?:a',
      'a)',
      '^a',
      '(?:a*)*',
      '\\b',
      '\\p{Han}',
      '[a&&b]',
      '(?i:é)',
      '(?:'.repeat(50),
    ].map((pattern): [string, RegExp] => [split(pattern), /a split pattern of/]),
  ];
  for (const [json, message] of cases) assert.match(messageOf(json, 'tokenizer.json'), message);
  const intact = withFiles((write) => loadTokenizer(write('tokenizer.json', tokenizerJson())));
  assert.equal(intact.encode('the'), Int32Array.of(257));
});

test('a path without a tokenizer says what is there', () => {
  withFiles((write) => {
    const folder = folderOf(write('config.json', '{}'));
    assert.throws(() => loadTokenizer(folder), /tokenizer\.model or tokenizer\.json[\s\S]*found config\.json/);
    assert.throws(() => loadTokenizer(join(folder, 'nothing')), /found nothing there/);
    mkdirSync(join(folder, 'empty'));
    assert.throws(() => loadTokenizer(join(folder, 'empty')), /an empty directory/);
    write('tokenizer.json', tokenizerJson());
    assert.is(loadTokenizer(folder).kind, 'byte-level-bpe');
    write('tokenizer.model', good);
    assert.is(loadTokenizer(folder).kind, 'sentencepiece-bpe', 'tokenizer.model is preferred');
    writeFileSync(join(folder, 'tokenizer_config.json'), '{"bos_token": ');
    assert.throws(() => loadTokenizer(folder), /JSON[\s\S]*tokenizer_config\.json/);
  });
});
