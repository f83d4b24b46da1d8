// SPDX-License-Identifier: Apache-2.0
// A model's vocabulary as llama.cpp has it in GGUF files: SentencePiece's, or byte-level BPE with merges and the name of the way
// that text is split before. What llama.cpp would cut into other tokens is refused. Its check against llama.cpp itself is
// `npm run check:clients`.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { GgufEntry, LlamaConfig } from '../checkpoints/index.js';
import { UserError } from '../errors.js';
import { type ByteLevelVocabulary, readVocabulary, type Vocabulary } from '../tokenizer/index.js';

/** The vocabulary of a file or folder. @throws UserError where there is none that llama.cpp would cut text with as we do */
export function vocabularyOf(path: string, vocabularySize: number): Vocabulary {
  const names = ['tokenizer.model', 'tokenizer.json'].map((name) => join(path, name));
  const file = /\.(model|json)$/.test(path) ? path : names.find((name) => existsSync(name));
  if (file === undefined || !existsSync(file)) {
    throw new UserError({
      expected: 'tokenizer.model or tokenizer.json, for the vocabulary that a GGUF model carries',
      found: 'neither',
      where: path,
      remedy: 'name one with --tokenizer',
    });
  }
  const vocabulary = readVocabulary(file);
  if (vocabulary.form === 'sentencepiece' && vocabulary.algorithm !== 'bpe') {
    throw new UserError({
      expected: "a SentencePiece model of type bpe, as llama.cpp's LLaMA models have",
      found: vocabulary.algorithm,
      where: file,
    });
  }
  if (vocabulary.pieces.length > vocabularySize) {
    throw new UserError({
      expected: `a tokenizer for a model with a vocabulary of ${vocabularySize}`,
      found: `one with ${vocabulary.pieces.length} pieces`,
      where: file,
      remedy: 'use the tokenizer that came with the model (--tokenizer)',
    });
  }
  if (vocabulary.form === 'byte-level') checkSplits(vocabulary, file);
  return vocabulary;
}

/** How llama.cpp splits text, by the names that it knows (llama-vocab.cpp), and whether it takes words that are pieces whole. */
const GPT2_SPLIT = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const PRE_TOKENIZERS: readonly { name: string; splits: readonly string[]; ignoreMerges: boolean }[] = [
  {
    name: 'llama-bpe',
    splits: [
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    ],
    ignoreMerges: true,
  },
  { name: 'gpt-2', splits: [GPT2_SPLIT], ignoreMerges: false },
  { name: 'smollm', splits: ['\\p{N}', GPT2_SPLIT], ignoreMerges: false },
];

const preTokenizerOf = ({ splits, ignoreMerges }: ByteLevelVocabulary) =>
  PRE_TOKENIZERS.find((known) => known.splits.join('\n') === splits.join('\n') && known.ignoreMerges === ignoreMerges);

/** llama.cpp knows ways to split text by name alone: others would give other ids without a word. */
function checkSplits(vocabulary: ByteLevelVocabulary, file: string): void {
  if (preTokenizerOf(vocabulary)) return;
  throw new UserError({
    expected: `text split as by ${PRE_TOKENIZERS.map(({ name }) => name).join(', ')}, which llama.cpp has names for`,
    found: `${vocabulary.splits.join(', then ')}${vocabulary.ignoreMerges ? ' (with ignore_merges)' : ''}`,
    where: file,
    remedy: 'export the adapter alone: it needs no vocabulary',
  });
}

/** llama.cpp's number for pieces that stand for nothing: rows by which the embedding was rounded up. */
const UNUSED = 5;

/** What a GGUF model says of its vocabulary (keys of ggml's gguf.md). */
export function vocabularyKeys(v: Vocabulary, config: LlamaConfig): [string, GgufEntry][] {
  const spare = config.vocabularySize - v.pieces.length;
  const padded = <T>(values: Iterable<T>, filler: T): T[] => [
    ...values,
    ...Array.from({ length: spare }, () => filler),
  ];
  const named = padded(v.pieces, '').map((piece, id) => (piece === '' ? `[PAD${id}]` : piece));
  const common: [string, GgufEntry][] = [
    ['tokens', ['texts', named]],
    ['token_type', ['i32s', Int32Array.from(padded(v.types, UNUSED))]],
    ['add_bos_token', ['bool', v.addBos]],
    ['add_eos_token', ['bool', false]],
  ];
  const ids = {
    bos: config.bosTokenId ?? v.bosId,
    eos: config.eosTokenIds[0] ?? v.eosId,
    unknown: v.unknownId,
    padding: config.padTokenId ?? v.padId,
  };
  for (const [name, id] of Object.entries(ids)) if (id !== undefined) common.push([`${name}_token_id`, ['u32', id]]);
  const own: [string, GgufEntry][] =
    v.form === 'byte-level'
      ? [
          ['model', ['text', 'gpt2']],
          ['pre', ['text', preTokenizerOf(v)!.name]],
          ['merges', ['texts', v.merges]],
        ]
      : [
          ['model', ['text', 'llama']],
          ['pre', ['text', 'default']],
          ['scores', ['f32s', Float32Array.from(padded(v.scores, -1000))]],
          ['add_space_prefix', ['bool', v.dummyPrefix]],
          ['remove_extra_whitespaces', ['bool', v.removeExtraWhitespaces]],
        ];
  return [...own, ...common].map(([key, value]) => [`tokenizer.ggml.${key}`, value]);
}
