// SPDX-License-Identifier: Apache-2.0
// What the contract in tokenizer/tokenizer.ts promises, on small models of ours: special tokens, offsets, continuation,
// decoding as a stream, settings beside the tokenizer, and time on texts of millions of characters.
import * as assert from 'uvu/assert';
import { UserError } from '../../errors.js';
import { loadTokenizer, type Tokenizer } from '../../tokenizer/index.js';
import { suite } from '../support/harness.js';
import {
  folderOf,
  generator,
  hardTexts,
  modelFile,
  type Piece,
  randomTexts,
  seed,
  trainedPieces,
  withFiles,
} from './fixtures.js';

const test = suite('tokenizer behaviour');

const trained = trainedPieces(250);
const sentencePiece = withFiles((write) =>
  loadTokenizer(write('tokenizer.model', modelFile({ pieces: trained, byteFallback: true }))),
);
const unigram = withFiles((write) => {
  const pieces = trained.map((piece, index) => (piece.type ? piece : { ...piece, score: -2 - index / 100 }));
  return loadTokenizer(write('tokenizer.model', modelFile({ pieces, byteFallback: true, modelType: 'unigram' })));
});
const byteLevel = withFiles((write) => loadTokenizer(write('tokenizer.json', JSON.stringify(byteLevelJson()))));
const all = { sentencePiece, unigram, byteLevel };

/** A byte-level tokenizer of the 256 bytes, a few merges and two special tokens. */
function byteLevelJson() {
  const printable = (byte: number) => (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
  let others = 0;
  const alphabet = Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(printable(byte) ? byte : 0x100 + others++),
  );
  const merges = [
    ['t', 'h'],
    ['th', 'e'],
    ['Ġ', 'the'],
    ['e', 'r'],
    ['Ġthe', 'r'],
    ['à', '¤'],
    ['Ġ', 'Ġ'],
    ['ĠĠ', 'ĠĠ'],
  ];
  const tokens = [...alphabet, ...merges.map((pair) => pair.join('')), '123'];
  return {
    added_tokens: [
      { id: 300, content: '<|begin|>', special: true },
      { id: 301, content: '<|end|>', special: true },
      { id: 302, content: '[ref]', special: false },
    ],
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        {
          type: 'Split',
          pattern: {
            Regex: "(?i:'s)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|\\s+(?!\\S)|\\s+| ?[^\\s\\p{L}\\p{N}]+",
          },
          behavior: 'Isolated',
        },
        { type: 'ByteLevel', add_prefix_space: false, use_regex: false },
      ],
    },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<|begin|>' } }, { Sequence: { id: 'A' } }],
    },
    model: {
      type: 'BPE',
      ignore_merges: true,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
}

const spell = (tokenizer: Tokenizer, ids: ArrayLike<number>) => Array.from(ids, (id) => tokenizer.piece(id));

test('special tokens never come from text, and come from their name', () => {
  const forged = '<s>x</s> <unk><|begin|><|end|>';
  for (const tokenizer of Object.values(all)) {
    const specials = ['<s>', '</s>', '<unk>', '<|begin|>', '<|end|>'].map((name) => tokenizer.specialId(name));
    for (const id of tokenizer.encode(forged)) assert.not(specials.includes(id), `id ${id} from text`);
    assert.is(tokenizer.decode(tokenizer.encode(forged)), forged);
  }
  assert.is(sentencePiece.specialId('<s>'), 1);
  assert.is(sentencePiece.specialId('▁the'), undefined);
  assert.is(byteLevel.specialId('<|end|>'), 301);
  assert.is(byteLevel.specialId('the'), undefined);
});

test('on request special tokens are cut out of text, offsets included', () => {
  const { ids, starts } = byteLevel.encodeWithOffsets('<|begin|>the<|end|>', { specials: true });
  assert.equal(spell(byteLevel, ids), ['<|begin|>', 'the', '<|end|>']);
  assert.equal(Array.from(starts), [0, 9, 12]);
  assert.equal(spell(sentencePiece, sentencePiece.encode('<s>the', { specials: true })), ['<s>', '▁the']);
});

test('an added token that is not special is ordinary text', () => {
  assert.equal(spell(byteLevel, byteLevel.encode('the[ref]the')), ['the', '[ref]', 'the']);
  assert.is(byteLevel.decode([302]), '[ref]');
});

test('decoding leaves special tokens out unless asked', () => {
  assert.is(byteLevel.decode([300, ...byteLevel.encode('the end'), 301]), 'the end');
  assert.is(byteLevel.decode([300, ...byteLevel.encode('x')], { specials: true }), '<|begin|>x');
  assert.is(sentencePiece.decode([1, ...sentencePiece.encode('the end'), 2]), 'the end');
  assert.is(sentencePiece.decode([0]), ' \u2047 ');
});

test('a continuation has no dummy prefix, and decodes with its space', () => {
  const whole = sentencePiece.encode('the water');
  assert.equal(spell(sentencePiece, whole.slice(0, 1)), ['▁the']);
  assert.equal(Array.from(sentencePiece.encode(' water', { continuation: true })), Array.from(whole.slice(1)));
  assert.is(sentencePiece.decode(whole.slice(1)), 'water');
  assert.is(sentencePiece.decode(whole.slice(1), { continuation: true }), ' water');
  assert.not(spell(sentencePiece, sentencePiece.encode('the', { continuation: true }))[0]!.startsWith('▁'));
});

test('offsets point at the first character of each token', () => {
  for (const [name, tokenizer] of Object.entries(all)) {
    for (const text of [...hardTexts, ...randomTexts(150, seed)]) {
      const { ids, starts } = tokenizer.encodeWithOffsets(text);
      const message = `${name}, seed ${seed}: ${JSON.stringify(text)}`;
      assert.equal(ids, tokenizer.encode(text), message);
      assert.is(starts.length, ids.length);
      // What a token decodes to, in its place, is the text between its start and the next different one.
      for (let i = 0; i < ids.length; ) {
        let next = i + 1;
        while (next < ids.length && starts[next] === starts[i]) next++;
        const part = text.slice(starts[i], starts[next] ?? text.length);
        const decoded = tokenizer.decode(ids.slice(i, next), { continuation: i > 0 });
        if (!part.includes('▁')) assert.is(decoded, part, message);
        i = next;
      }
      if (text !== '') assert.is(starts[0], 0, message);
    }
  }
});

test('a stream of ids gives what decoding them at once gives, never half a character', () => {
  const below = generator(seed);
  for (const [name, tokenizer] of Object.entries(all)) {
    for (let round = 0; round < 300; round++) {
      const ids = Array.from({ length: 1 + below(20) }, () => below(264)); // mostly bytes, often broken
      const decoder = tokenizer.decoder();
      const parts = [...ids.map((id) => decoder.push(id)), decoder.end()];
      assert.is(parts.join(''), tokenizer.decode(ids), `${name}, seed ${seed}: ${ids}`);
      for (const part of parts) assert.not.match(part, /[\ud800-\udbff]$|^[\udc00-\udfff]/);
    }
    const emoji = tokenizer.encode('😀');
    const decoder = tokenizer.decoder();
    const parts = Array.from(emoji, (id) => decoder.push(id));
    assert.equal([parts.slice(0, -1).join(''), parts.at(-1), decoder.end()], ['', '😀', '']);
  }
});

test('texts survive the way there and back', () => {
  for (const tokenizer of Object.values(all)) {
    for (const text of [...hardTexts, ...randomTexts(150, seed + 1)]) {
      if (!text.includes('▁')) assert.is(tokenizer.decode(tokenizer.encode(text)), text);
    }
    assert.is(tokenizer.decode(tokenizer.encode('a\ud83d b\ude00')), 'a\ufffd b\ufffd');
  }
});

test('merging follows its definition: best score first, then leftmost', () => {
  const below = generator(seed + 2);
  for (let round = 0; round < 30; round++) {
    // Few letters and scores with ties make every order matter; characters without a piece of their own take part too.
    const strings = new Set<string>();
    while (strings.size < 40) strings.add(Array.from({ length: 1 + below(4) }, () => 'ab▁cd'[below(5)]).join(''));
    const pieces: Piece[] = [...strings].map((piece) => ({ piece, score: -below(12) }));
    const tokenizer = withFiles((write) =>
      loadTokenizer(
        write(
          'tokenizer.model',
          modelFile({ pieces: [{ piece: '<unk>', type: 2 }, ...pieces], addDummyPrefix: false }),
        ),
      ),
    );
    const scores = new Map(pieces.map(({ piece, score }) => [piece, score!]));
    for (let text = 0; text < 30; text++) {
      const input = Array.from({ length: 1 + below(text === 0 ? 400 : 60) }, () => 'ab cd'[below(5)]).join('');
      const expected = mergeNaively(input.replaceAll(' ', '▁'), scores).map((part) =>
        scores.has(part) ? part : '<unk>',
      );
      const fused = expected.filter((piece, index) => piece !== '<unk>' || expected[index - 1] !== '<unk>');
      assert.equal(spell(tokenizer, tokenizer.encode(input)), fused, `seed ${seed}, round ${round}: ${input}`);
    }
  }
});

function mergeNaively(text: string, scores: ReadonlyMap<string, number>): string[] {
  const parts = [...text];
  for (;;) {
    let best = -1;
    for (let i = 0; i + 1 < parts.length; i++) {
      const score = scores.get(parts[i]! + parts[i + 1]!) ?? Number.NEGATIVE_INFINITY;
      const leader = best < 0 ? Number.NEGATIVE_INFINITY : scores.get(parts[best]! + parts[best + 1]!)!;
      if (score > leader) best = i;
    }
    if (best < 0) return parts;
    parts.splice(best, 2, parts[best]! + parts[best + 1]!);
  }
}

test('the cache of words may overflow without changing anything', () => {
  const below = generator(seed + 3);
  const words = Array.from({ length: 90_000 }, () => ` ${below(2 ** 30).toString(36)}${below(2 ** 30).toString(36)}`);
  const text = words.join('');
  const probe = words.slice(0, 200).join('');
  for (const make of [sentencePiece, byteLevel]) {
    const before = make.encode(probe);
    assert.ok(make.encode(text).length > words.length);
    assert.equal(make.encode(probe), before);
  }
});

test('millions of characters without a space take seconds, not hours', () => {
  const below = generator(seed + 4);
  const letters = Array.from({ length: 1 << 19 }, () => 'there'[below(5)]).join('');
  for (const text of ['a'.repeat(2e6), ' '.repeat(2e6), 'é'.repeat(1e6), '\ud800'.repeat(1e6), letters]) {
    for (const [name, tokenizer] of Object.entries(all)) {
      const start = performance.now();
      assert.ok(tokenizer.encode(text).length > 0);
      const seconds = (performance.now() - start) / 1000;
      assert.ok(seconds < 60, `${name} took ${seconds} s for ${JSON.stringify(text.slice(0, 5))}…`);
    }
  }
});

test('files beside the tokenizer name bos, eos and pad and add tokens', () => {
  withFiles((write) => {
    const file = write(
      'tokenizer.model',
      modelFile({ pieces: [...trained, { piece: '<|im_start|>', type: 4 }], byteFallback: true }),
    );
    const size = trained.length + 1;
    const plain = loadTokenizer(file);
    assert.equal([plain.bosId, plain.eosId, plain.unknownId, plain.padId], [1, 2, 0, undefined]);
    assert.equal([plain.addBos, plain.addEos, plain.vocabularySize], [true, false, size]);
    assert.ok(plain.encode('<|im_start|>').includes(size - 1), 'a user-defined piece is text');
    write('added_tokens.json', JSON.stringify({ '[PAD]': size }));
    write(
      'tokenizer_config.json',
      JSON.stringify({
        bos_token: '',
        eos_token: { content: '<|eot|>' },
        pad_token: '[PAD]',
        add_bos_token: false,
        add_eos_token: true,
        added_tokens_decoder: {
          [size - 1]: { content: '<|im_start|>', special: true },
          [size + 1]: { content: '<|eot|>', special: true },
        },
      }),
    );
    const full = loadTokenizer(folderOf(file));
    assert.equal([full.bosId, full.eosId, full.padId], [1, size + 1, size]);
    assert.equal([full.addBos, full.addEos, full.vocabularySize], [false, true, size + 2]);
    assert.is(full.specialId('<|im_start|>'), size - 1);
    assert.not(full.encode('<|im_start|>').includes(size - 1), 'declared special, it is text no longer');
    assert.is(full.decode([size - 1, size, size + 1]), '');
    assert.is(full.piece(size), '[PAD]');
    assert.is.not(full.fingerprint, plain.fingerprint);
  });
});

test('a fingerprint depends on the tokenizer alone', () => {
  const make = (pieces: readonly Piece[]) =>
    withFiles((write) => loadTokenizer(write('x.model', modelFile({ pieces, byteFallback: true }))).fingerprint);
  assert.match(sentencePiece.fingerprint, /^[0-9a-f]{64}$/);
  assert.is(make(trained), sentencePiece.fingerprint);
  assert.is.not(make(trained.slice(0, -1)), sentencePiece.fingerprint);
});

test('ids outside the vocabulary are refused', () => {
  for (const tokenizer of Object.values(all)) {
    for (const id of [-1, 1.5, Number.NaN, tokenizer.vocabularySize, 2 ** 31]) {
      assert.throws(
        () => tokenizer.decode([id]),
        (error: unknown) => error instanceof UserError,
      );
      assert.throws(
        () => tokenizer.piece(id),
        (error: unknown) => error instanceof UserError,
      );
    }
  }
});

test('byte-level words: whole tokens first, patterns by the letter', () => {
  assert.equal(spell(byteLevel, byteLevel.encode('1234')), ['123', '4']);
  assert.equal(spell(byteLevel, byteLevel.encode(' there    the')), ['Ġther', 'e', 'ĠĠ', 'Ġ', 'Ġthe']);
  // ſ is a case of s, as Oniguruma has it; U+0085 is white space and U+FEFF is not.
  assert.equal(byteLevel.encodeWithOffsets("a'ſb").starts, Int32Array.of(0, 1, 2, 2, 3));
  assert.is(byteLevel.bosId, 300);
  assert.is(byteLevel.addBos, true);
  assert.is(byteLevel.kind, 'byte-level-bpe');
});

/** The trained model as a tokenizer.json, as Hugging Face converts it: every way to split a piece is a merge. */
function convertedJson(steps: Record<string, unknown>): string {
  const vocab = new Map(trained.map(({ piece }, id) => [piece, id]));
  const merges = trained.flatMap(({ piece, type }) => {
    const characters = type ? [] : [...piece];
    const splits = characters.map((_, cut) => [characters.slice(0, cut).join(''), characters.slice(cut).join('')]);
    return splits.filter(([left, right]) => vocab.has(left!) && vocab.has(right!));
  });
  return JSON.stringify({
    added_tokens: ['<unk>', '<s>', '</s>'].map((content, id) => ({ id, content, special: true })),
    model: {
      type: 'BPE',
      byte_fallback: true,
      unk_token: '<unk>',
      fuse_unk: true,
      vocab: Object.fromEntries(vocab),
      merges,
    },
    ...steps,
  });
}

test('a tokenizer.json converted from a SentencePiece model gives the same ids', () => {
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const normalizer = { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, replace] };
  const metaspace = (scheme: string) => ({ type: 'Metaspace', replacement: '▁', prepend_scheme: scheme, split: false });
  const load = (steps: Record<string, unknown>) =>
    withFiles((write) => loadTokenizer(write('tokenizer.json', convertedJson(steps))));
  const prepends = load({ normalizer });
  const first = load({ pre_tokenizer: metaspace('first') });
  const always = load({ pre_tokenizer: metaspace('always') });
  const never = load({ pre_tokenizer: metaspace('never') });
  assert.is(prepends.kind, 'sentencepiece-bpe');
  // They differ where a piece can be made in two ways, as ▁▁▁, which the list ranks and SentencePiece does not, and where a
  // character is in pieces but none itself, as \n here, which SentencePiece merges all the same.
  const texts = [...hardTexts, ...randomTexts(300, seed + 5)].filter((text) => !/[ ▁]{2}|\n/.test(text));
  assert.ok(texts.length > 50);
  for (const text of texts) {
    const ids = sentencePiece.encode(text);
    const message = `seed ${seed}: ${JSON.stringify(text)}`;
    assert.equal(prepends.encode(text), ids, message);
    assert.is(prepends.decode(ids), sentencePiece.decode(ids), message);
    // Metaspace puts no mark before a text that begins with one.
    const own = /^[ ▁]/.test(text) ? sentencePiece.encode(text, { continuation: true }) : ids;
    for (const tokenizer of [first, always]) assert.equal(tokenizer.encode(text), own, message);
    assert.equal(never.encode(text), sentencePiece.encode(text, { continuation: true }), message);
  }
  assert.equal(spell(always, always.encode('<s>the', { specials: true })), ['<s>', '▁the']);
  assert.equal(first.encode('<s>the', { specials: true }).slice(1), first.encode('the', { continuation: true }));
  assert.throws(() => load({ pre_tokenizer: { ...metaspace('first'), split: true } }), /Metaspace/);
  assert.throws(() => load({ normalizer: { type: 'NFKC' } }), /Prepend/);
});
