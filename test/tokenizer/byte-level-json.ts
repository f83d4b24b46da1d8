// SPDX-License-Identifier: Apache-2.0
// A byte-level tokenizer.json for tests, with merges learnt from a text.

/** How Llama 3 splits text. */
export const LLAMA3_SPLIT =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** A printable character for every byte. */
export const BYTE_ALPHABET: readonly string[] = (() => {
  const printable = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let others = 0;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(printable(b) ? b : 0x100 + others++));
})();

export interface ByteLevelOptions {
  /** Of the pre-tokenizer. */
  steps?: object[];
  ignoreMerges?: boolean;
  special?: readonly string[];
  /** Added tokens that text may hold. */
  plain?: readonly string[];
}

const BYTE_LEVEL = { type: 'ByteLevel', add_prefix_space: false, use_regex: false };

/** As Llama 3's unless said otherwise. @param count of merges */
export function byteLevelJson(text: string, count: number, options: ByteLevelOptions = {}) {
  const { ignoreMerges = true, special = ['<|begin|>', '<|end|>'], plain = [] } = options;
  const split = { type: 'Split', pattern: { Regex: LLAMA3_SPLIT }, behavior: 'Isolated', invert: false };
  const merges = learntMerges(text, count);
  const pieces = [...BYTE_ALPHABET, ...new Set(merges.map((pair) => pair.join('')))];
  const added = [...special, ...plain].map((content, i) => ({
    ...{ id: pieces.length + i, content, special: i < special.length },
    ...{ single_word: false, lstrip: false, rstrip: false, normalized: false },
  }));
  return {
    version: '1.0',
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: options.steps ?? [split, BYTE_LEVEL] },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: special[0], type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    },
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      ignore_merges: ignoreMerges,
      vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
      merges: merges.map((pair) => pair.join(' ')),
    },
  };
}

/** The commonest pair of neighbours within words, joined; and again. */
function learntMerges(text: string, count: number): [string, string][] {
  const counts = new Map<string, number>();
  for (const [word] of text.matchAll(/\s?\S+/g)) counts.set(word, (counts.get(word) ?? 0) + 1);
  const words = [...counts].map(([word, times]) => ({
    times,
    symbols: [...Buffer.from(word)].map((byte) => BYTE_ALPHABET[byte]!),
  }));
  const merges: [string, string][] = [];
  while (merges.length < count) {
    const pairs = new Map<string, number>();
    for (const { symbols, times } of words) {
      for (let i = 1; i < symbols.length; i++) {
        const pair = `${symbols[i - 1]} ${symbols[i]}`;
        pairs.set(pair, (pairs.get(pair) ?? 0) + times);
      }
    }
    if (pairs.size === 0) return merges;
    const [best] = [...pairs].reduce((a, b) => (b[1] > a[1] || (b[1] === a[1] && b[0] < a[0]) ? b : a));
    const [left, right] = best.split(' ') as [string, string];
    merges.push([left, right]);
    for (const { symbols } of words) {
      for (let i = 1; i < symbols.length; i++) {
        if (symbols[i - 1] === left && symbols[i] === right) symbols.splice(i - 1, 2, left + right);
      }
    }
  }
  return merges;
}
