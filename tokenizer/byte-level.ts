// SPDX-License-Identifier: Apache-2.0
// Byte-level BPE as in GPT-2 and Llama 3: split the text into words by a pattern, take each word's UTF-8 bytes as symbols,
// merge. Every text can be spelled, and decoding is the concatenation of bytes. Special tokens are not its business.
import type { Codec, CodecStream } from './codec.js';
import { type MergeList, Merger } from './merger.js';
import type { SplitPattern } from './split-pattern.js';
import type { TokenBuffer } from './token-buffer.js';
import { isLoneSurrogate, Utf8Decoder, utf8Bytes } from './utf8.js';
import { hashSeed, hashUnit, maxCachedUnits, WordCache } from './word-cache.js';

export interface ByteLevelModel {
  /** Token by id as the file spells it, a character per byte; undefined where an id is not used. */
  pieces: readonly (string | undefined)[];
  /** Bytes of each token. */
  bytes: readonly (Uint8Array | undefined)[];
  merges: MergeList;
  /** Applied one within the parts of the other. What a pattern leaves over is a part of its own. */
  patterns: readonly SplitPattern[];
  /** A word that is a token is taken whole, whatever the merges say. */
  ignoreMerges: boolean;
}

const maxTokenBytes = 1024;

export class ByteLevelCodec implements Codec {
  readonly kind = 'byte-level-bpe' as const;
  readonly size: number;
  readonly prefixesOnlyFirst = false;
  readonly #model: ByteLevelModel;
  readonly #merger: Merger;
  readonly #cache = new WordCache();
  readonly #symbolOf = new Int32Array(256);
  /** Ids of whole tokens by their bytes (as a string of as many characters), where words are looked up whole. */
  readonly #wholeIds = new Map<string, number>();
  readonly #utf8 = new Uint8Array(4);
  #units = new Uint16Array(1024);

  /** `model` has a token for each single byte; the reader has checked it. */
  constructor(model: ByteLevelModel) {
    this.#model = model;
    this.size = model.pieces.length;
    this.#merger = new Merger(model.merges);
    for (const [id, bytes] of model.bytes.entries()) {
      if (bytes?.length === 1) this.#symbolOf[bytes[0]!] = id;
      if (bytes && model.ignoreMerges && bytes.length <= maxTokenBytes)
        this.#wholeIds.set(String.fromCharCode(...bytes), id);
    }
  }

  encode(text: string, _continuation: boolean, out: TokenBuffer): void {
    const { length } = text;
    if (length > this.#units.length || (this.#units.length > 1 << 23 && length < 1 << 20)) {
      this.#units = new Uint16Array(Math.max(1024, length));
    }
    for (let i = 0; i < length; i++) {
      const unit = text.charCodeAt(i);
      this.#units[i] = (unit & 0xf800) === 0xd800 && isLoneSurrogate(text, i) ? 0xfffd : unit;
    }
    if (length > 0) this.#split(0, length, 0, out);
  }

  /** Splits `units[from…to)` by the pattern at `level`, the parts by those after it. */
  #split(from: number, to: number, level: number, out: TokenBuffer): void {
    const pattern = this.#model.patterns[level];
    if (!pattern) {
      this.#word(from, to, out);
      return;
    }
    let leftOver = from; // start of what no match covers
    for (let at = from; at < to; ) {
      const end = pattern.matchAt(this.#units, at, to);
      if (end > at) {
        if (leftOver < at) this.#split(leftOver, at, level + 1, out);
        this.#split(at, end, level + 1, out);
        at = end;
        leftOver = end;
      } else {
        at += (this.#units[at]! & 0xfc00) === 0xd800 ? 2 : 1;
      }
    }
    if (leftOver < to) this.#split(leftOver, to, level + 1, out);
  }

  #word(from: number, to: number, out: TokenBuffer): void {
    const units = this.#units;
    if (to - from > maxCachedUnits) {
      this.#merge(from, to, out);
      return;
    }
    let hash = hashSeed;
    for (let i = from; i < to; i++) hash = hashUnit(hash, units[i]!);
    if (this.#cache.appendTo(out, units, from, to, hash)) return;
    const first = out.length;
    this.#merge(from, to, out);
    this.#cache.add(out, first, units, from, to, hash);
  }

  #merge(from: number, to: number, out: TokenBuffer): void {
    const units = this.#units;
    this.#merger.reserve(3 * (to - from));
    const { symbols, starts } = this.#merger;
    let count = 0;
    for (let at = from; at < to; ) {
      const start = at;
      const unit = units[at++]!;
      const high = unit >= 0xd800 && unit < 0xdc00;
      const codePoint = high ? 0x10000 + ((unit - 0xd800) << 10) + (units[at++]! - 0xdc00) : unit;
      const length = utf8Bytes(codePoint, this.#utf8);
      for (let i = 0; i < length; i++, count++) {
        symbols[count] = this.#utf8[i]!;
        starts[count] = start;
      }
    }
    if (this.#model.ignoreMerges && count <= maxTokenBytes) {
      const whole = this.#wholeIds.get(String.fromCharCode(...symbols.subarray(0, count)));
      if (whole !== undefined) {
        out.push(whole, from);
        return;
      }
    }
    for (let i = 0; i < count; i++) symbols[i] = this.#symbolOf[symbols[i]!]!;
    count = this.#merger.merge(count);
    out.reserve(count);
    for (let i = 0; i < count; i++) out.push(symbols[i]!, starts[i]!);
  }

  stream(): CodecStream {
    const decoder = new Utf8Decoder('per-sequence');
    const pushBytes = (bytes: Uint8Array): string => {
      let text = '';
      for (const byte of bytes) text += decoder.push(byte);
      return text;
    };
    return {
      push: (id) => pushBytes(this.#model.bytes[id]!),
      // Hugging Face joins the bytes across a special token that is left out, and so across none: nothing is flushed.
      pushText: (text) => pushBytes(Buffer.from(text)),
      end: () => decoder.flush(),
    };
  }

  piece(id: number): string | undefined {
    return this.#model.pieces[id];
  }
}
