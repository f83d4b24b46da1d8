// SPDX-License-Identifier: Apache-2.0
// Bytes → text, byte by byte, with the two ways of replacing bad bytes that tokenizers use. Knows no tokens.
// Invariant: what is returned so far never ends within a character, and no split of the input changes the joined result.

/**
 * What a broken sequence becomes: SentencePiece writes one U+FFFD for every byte of it, Hugging Face's byte-level decoder one
 * for its longest valid beginning (as browsers do).
 */
export type Replacement = 'per-byte' | 'per-sequence';

/** An incremental UTF-8 decoder; byte order marks stay. */
export class Utf8Decoder {
  readonly #replacement: Replacement;
  #codePoint = 0;
  #seen = 0;
  #missing = 0;
  // Bounds of the next trail byte: narrower after E0, ED, F0 and F4 (overlong forms, surrogates, beyond U+10FFFF).
  #lower = 0x80;
  #upper = 0xbf;

  constructor(replacement: Replacement) {
    this.#replacement = replacement;
  }

  push(byte: number): string {
    if (this.#missing === 0) return this.#lead(byte);
    if (byte < this.#lower || byte > this.#upper) return this.flush() + this.#lead(byte);
    this.#codePoint = (this.#codePoint << 6) | (byte & 0x3f);
    this.#lower = 0x80;
    this.#upper = 0xbf;
    this.#seen++;
    this.#missing--;
    return this.#missing === 0 ? String.fromCodePoint(this.#codePoint) : '';
  }

  /** Ends the sequence: what is unfinished is replaced. */
  flush(): string {
    if (this.#missing === 0) return '';
    this.#missing = 0;
    this.#lower = 0x80;
    this.#upper = 0xbf;
    return '\ufffd'.repeat(this.#replacement === 'per-byte' ? this.#seen : 1);
  }

  #lead(byte: number): string {
    if (byte < 0x80) return String.fromCharCode(byte);
    if (byte < 0xc2 || byte > 0xf4) return '\ufffd';
    this.#missing = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    this.#codePoint = byte & (0x3f >> this.#missing);
    this.#seen = 1;
    if (byte === 0xe0) this.#lower = 0xa0;
    else if (byte === 0xf0) this.#lower = 0x90;
    else if (byte === 0xed) this.#upper = 0x9f;
    else if (byte === 0xf4) this.#upper = 0x8f;
    return '';
  }
}

/** Text of bytes that may be broken, as SentencePiece reads them: one U+FFFD for each bad byte. */
export function textOfBytes(bytes: Uint8Array): string {
  const decoder = new Utf8Decoder('per-byte');
  const parts: string[] = [];
  for (const byte of bytes) parts.push(decoder.push(byte));
  parts.push(decoder.flush());
  return parts.join('');
}

/** Writes the UTF-8 bytes of a code point at `bytes[0…]` and returns how many. */
export function utf8Bytes(codePoint: number, bytes: Uint8Array): number {
  if (codePoint < 0x80) {
    bytes[0] = codePoint;
    return 1;
  }
  const trail = codePoint < 0x800 ? 1 : codePoint < 0x10000 ? 2 : 3;
  for (let i = trail, rest = codePoint; i > 0; i--, rest >>= 6) bytes[i] = 0x80 | (rest & 0x3f);
  bytes[0] = (codePoint >> (6 * trail)) | ((0xf0 << (3 - trail)) & 0xff);
  return trail + 1;
}

/** Whether the surrogate at `index` lacks its other half. */
export function isLoneSurrogate(text: string, index: number): boolean {
  const high = (text.charCodeAt(index) & 0xfc00) === 0xd800;
  // charCodeAt outside the text is NaN, and NaN & … is 0.
  return (text.charCodeAt(index + (high ? 1 : -1)) & 0xfc00) !== (high ? 0xdc00 : 0xd800);
}
