// SPDX-License-Identifier: Apache-2.0
// The seam between a Tokenizer's common part and its two kinds: plain text to ids and back, without special tokens.
import type { TokenBuffer } from './token-buffer.js';
import type { TokenizerKind } from './tokenizer.js';

export interface Codec {
  readonly kind: TokenizerKind;
  /** One more than the highest id of the vocabulary proper. */
  readonly size: number;
  /** Whether text after a special token goes on from the text before it, as far as a dummy prefix is concerned. */
  readonly prefixesOnlyFirst: boolean;
  /** Appends the tokens of `text` to `out`, starts as offsets in `text`. */
  encode(text: string, continuation: boolean, out: TokenBuffer): void;
  stream(continuation: boolean): CodecStream;
  /** Undefined for an id without a token. */
  piece(id: number): string | undefined;
}

export interface CodecStream {
  /** `id` is one for which `piece` gives a token. */
  push(id: number): string;
  /** A token from outside the vocabulary proper, with the text it gives ('' for a special token that is left out). */
  pushText(text: string): string;
  end(): string;
}
