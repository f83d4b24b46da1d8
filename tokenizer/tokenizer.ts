// SPDX-License-Identifier: Apache-2.0
// What the rest of the project sees of a tokenizer. Ids go to `engine`, offsets to `datasets` for the loss mask. It knows
// nothing of prompts: a template decides where special tokens stand and asks `specialId` for them. The invariant: text alone
// never yields a special token, so nothing in a training row or a user's prompt can forge one.

export type TokenizerKind = 'sentencepiece-bpe' | 'sentencepiece-unigram' | 'byte-level-bpe';

export interface EncodeOptions {
  /** Cut special tokens out of the text as Hugging Face tokenizers do. Only for text whose author is trusted. Default false. */
  specials?: boolean;
  /** The text goes on from other text, so SentencePiece's leading ▁ ("dummy prefix") is not added. Default false. */
  continuation?: boolean;
}

export interface DecodeOptions {
  /** Special tokens give their literal text instead of nothing. Default false. */
  specials?: boolean;
  /** The ids go on from other ids, so the leading space that a dummy prefix stands for is kept. Default false. */
  continuation?: boolean;
}

export interface Encoding {
  ids: Int32Array;
  /**
   * For each token the UTF-16 offset in the text of its first character. Never decreasing. Several tokens that are bytes of
   * one character share its offset; a token made of the dummy prefix alone has the offset of the character after it.
   */
  starts: Int32Array;
}

/** Decoding id by id. What `push` and `end` return, joined, equals `decode` of all ids. */
export interface StreamDecoder {
  /** Takes one id and returns the text that has become certain: whole characters only, often '' within one. */
  push(id: number): string;
  /** Ends the text; an unfinished character becomes U+FFFD. */
  end(): string;
}

export interface Tokenizer {
  readonly kind: TokenizerKind;
  /** One more than the highest id, added tokens included: the least number of embedding rows the model needs. */
  readonly vocabularySize: number;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly unknownId: number | undefined;
  readonly padId: number | undefined;
  /** Whether the model's texts begin with `bosId`. `encode` itself never adds it. False where there is no `bosId`. */
  readonly addBos: boolean;
  /** Whether the model's texts end with `eosId`, by the tokenizer's own settings. `encode` itself never adds it. */
  readonly addEos: boolean;
  /** Hexadecimal hash of all that determines ids. Equal fingerprints give equal ids, so it can key a cache of them. */
  readonly fingerprint: string;

  /** Text → ids. Lone surrogates count as U+FFFD. Never throws, never adds bos or eos. */
  encode(text: string, options?: EncodeOptions): Int32Array;
  /** As `encode`, with the place in the text where each token begins. */
  encodeWithOffsets(text: string, options?: EncodeOptions): Encoding;
  /** Ids → text. Special tokens give nothing. @throws UserError for an id outside the vocabulary. */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;
  /** A decoder for ids that arrive one by one, as in generation. @throws UserError (on push) as `decode`. */
  decoder(options?: DecodeOptions): StreamDecoder;
  /** The id of a special or added token with exactly this text, or undefined: the only way in for special tokens. */
  specialId(text: string): number | undefined;
  /** The token as the vocabulary spells it (`▁the`, `<0x0A>`, `Ġthe`). @throws UserError for an id outside the vocabulary. */
  piece(id: number): string;
}
