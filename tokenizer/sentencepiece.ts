// SPDX-License-Identifier: Apache-2.0
// Text ↔ ids as SentencePiece does it: normalise (spaces become ▁, a ▁ in front), cut into pieces by merging (BPE) or by
// probability (unigram), spell unknown characters in byte pieces. Special tokens are not its business.
// The text is encoded in words that no token can span (neighbours.ts); words cut by merging are cached.
import type { Codec, CodecStream } from './codec.js';
import { Merger } from './merger.js';
import { Neighbours } from './neighbours.js';
import { Normalizer } from './normalizer.js';
import { type BytePairRules, type PieceModel, PieceType, spaceMark } from './piece-model.js';
import type { TokenBuffer } from './token-buffer.js';
import { Unigram } from './unigram.js';
import { Utf8Decoder, utf8Bytes } from './utf8.js';
import { hashSeed, hashUnit, maxCachedUnits, WordCache } from './word-cache.js';

const mark = String.fromCharCode(spaceMark);

/** Cuts one word of the normalised text into tokens; starts are unit indices. */
type SegmentWord = (units: Uint16Array, from: number, to: number, out: TokenBuffer) => void;

export class SentencePieceCodec implements Codec {
  readonly kind;
  readonly size: number;
  readonly prefixesOnlyFirst: boolean;
  readonly #model: PieceModel;
  readonly #normalizer: Normalizer;
  readonly #segment: SegmentWord;
  readonly #begin: () => void;
  readonly #neighbours: Neighbours;
  readonly #cache: WordCache | undefined;
  readonly #byteOf: Int16Array; // of a byte piece its byte, else −1
  readonly #utf8 = new Uint8Array(4);

  constructor(model: PieceModel) {
    this.#model = model;
    this.size = model.pieces.length;
    this.prefixesOnlyFirst = model.dummyPrefix === 'first';
    this.#normalizer = new Normalizer(model);
    this.#neighbours = new Neighbours(model.pieces);
    if (model.segmentation.algorithm === 'bpe') {
      this.kind = 'sentencepiece-bpe' as const;
      this.#segment = this.#bytePairSegmenter(model.segmentation);
      this.#begin = () => {};
      this.#cache = new WordCache();
    } else {
      this.kind = 'sentencepiece-unigram' as const;
      const unigram = new Unigram(model, model.segmentation);
      this.#segment = (units, from, to, out) =>
        unigram.segment(units, from, to, (id, start) => this.#emit(id, units, start, out));
      this.#begin = () => unigram.begin();
    }
    this.#byteOf = new Int16Array(this.size).fill(-1);
    for (const [byte, id] of model.byteIds?.entries() ?? []) this.#byteOf[id] = byte;
  }

  encode(text: string, continuation: boolean, out: TokenBuffer): void {
    const first = out.length;
    const normalizer = this.#normalizer;
    const length = normalizer.run(text, continuation);
    const { units } = normalizer;
    this.#begin();
    this.#encodeWords(units, length, out);
    if (!this.#model.byteIds && this.#model.fuseUnknown) this.#fuseUnknown(out, first);
    for (let i = first; i < out.length; i++) out.starts[i] = normalizer.offsetOf(out.starts[i]!);
  }

  #encodeWords(units: Uint16Array, length: number, out: TokenBuffer): void {
    const cache = this.#cache;
    const neighbours = this.#neighbours;
    for (let from = 0; from < length; ) {
      let unit = units[from]!;
      let hash = hashUnit(hashSeed, unit);
      let to = from + 1;
      while (to < length && neighbours.mayJoin(unit, units[to]!)) {
        unit = units[to++]!;
        hash = hashUnit(hash, unit);
      }
      const cached = cache && to - from <= maxCachedUnits ? cache : undefined;
      if (!cached?.appendTo(out, units, from, to, hash)) {
        const first = out.length;
        this.#segment(units, from, to, out);
        cached?.add(out, first, units, from, to, hash);
      }
      from = to;
    }
  }

  #bytePairSegmenter({ merges, symbolOf }: BytePairRules): SegmentWord {
    // What never merges is −2 − code point; the table answers for the basic plane, where nearly all text is.
    const basicSymbols = new Int32Array(0x10000);
    for (let unit = 0; unit < 0x10000; unit++) basicSymbols[unit] = -2 - unit;
    for (const [codePoint, symbol] of symbolOf) if (codePoint < 0x10000) basicSymbols[codePoint] = symbol;
    const codePointOf = new Map<number, number>(); // of symbols that are no piece
    for (const [codePoint, symbol] of symbolOf) if (symbol >= this.size) codePointOf.set(symbol, codePoint);
    const userDefined = userDefinedPieces(this.#model);
    const merger = new Merger(merges);
    return (units, from, to, out) => {
      merger.reserve(to - from);
      const { symbols, starts } = merger;
      let count = 0;
      for (let at = from; at < to; count++) {
        starts[count] = at;
        const unit = units[at]!;
        const whole = userDefined?.get(unit)?.find(({ piece }) => occursAt(piece, units, at, to));
        if (whole) {
          symbols[count] = whole.id;
          at += whole.piece.length;
        } else if (unit >= 0xd800 && unit < 0xdc00) {
          const codePoint = codePointAt(units, at);
          symbols[count] = symbolOf.get(codePoint) ?? -2 - codePoint;
          at += 2;
        } else {
          symbols[count] = basicSymbols[unit]!;
          at++;
        }
      }
      count = merger.merge(count);
      out.reserve(count);
      for (let i = 0; i < count; i++) {
        const symbol = symbols[i]!;
        if (symbol >= 0 && symbol < this.size) out.push(symbol, starts[i]!);
        else this.#emitUnknown(symbol < 0 ? -2 - symbol : codePointOf.get(symbol)!, starts[i]!, out);
      }
    };
  }

  /** A piece, or (−1) the character at `start` spelled out. */
  #emit(id: number, units: Uint16Array, start: number, out: TokenBuffer): void {
    if (id >= 0) out.push(id, start);
    else this.#emitUnknown(codePointAt(units, start), start, out);
  }

  #emitUnknown(codePoint: number, start: number, out: TokenBuffer): void {
    const { byteIds, unknownId } = this.#model;
    if (byteIds) {
      const count = utf8Bytes(codePoint, this.#utf8);
      for (let i = 0; i < count; i++) out.push(byteIds[this.#utf8[i]!]!, start);
    } else if (unknownId !== undefined) {
      out.push(unknownId, start);
    }
  }

  #fuseUnknown(out: TokenBuffer, first: number): void {
    const { unknownId } = this.#model;
    let kept = first;
    for (let i = first; i < out.length; i++) {
      if (kept > first && out.ids[i] === unknownId && out.ids[kept - 1] === unknownId) continue;
      out.ids[kept] = out.ids[i]!;
      out.starts[kept++] = out.starts[i]!;
    }
    out.length = kept;
  }

  stream(continuation: boolean): CodecStream {
    const { dummyPrefix, removeExtraWhitespaces, pieces, unknownId, unknownSurface } = this.#model;
    const bytes = new Utf8Decoder('per-byte');
    // Until any text has come, one leading ▁ is the dummy prefix and gives nothing.
    let atStart = !continuation && (dummyPrefix !== 'never' || removeExtraWhitespaces);
    const done = (text: string): string => {
      if (text !== '') atStart = false;
      return text;
    };
    return {
      push: (id) => {
        const byte = this.#byteOf[id]!;
        if (byte >= 0) return done(bytes.push(byte));
        const before = done(bytes.flush());
        const piece = pieces[id]!;
        const surface = id === unknownId ? unknownSurface : piece.replaceAll(mark, ' ');
        if (!atStart || piece.charCodeAt(0) !== spaceMark) return done(before + surface);
        if (!removeExtraWhitespaces) atStart = false; // else every leading ▁ goes
        return done(before + surface.slice(1));
      },
      pushText: (text) => done(bytes.flush() + text),
      end: () => bytes.flush(),
    };
  }

  piece(id: number): string | undefined {
    return this.#model.pieces[id];
  }
}

/** Pieces that are cut out of the text before anything merges, by their first unit, the longest first. */
function userDefinedPieces({ pieces, types }: PieceModel) {
  const byUnit = new Map<number, { piece: string; id: number }[]>();
  for (const [id, piece] of pieces.entries()) {
    if (types[id] !== PieceType.userDefined) continue;
    const unit = piece.charCodeAt(0);
    byUnit.set(
      unit,
      [...(byUnit.get(unit) ?? []), { piece, id }].sort((a, b) => b.piece.length - a.piece.length),
    );
  }
  return byUnit.size > 0 ? byUnit : undefined;
}

function occursAt(piece: string, units: Uint16Array, at: number, end: number): boolean {
  if (at + piece.length > end) return false;
  for (let i = 0; i < piece.length; i++) if (units[at + i] !== piece.charCodeAt(i)) return false;
  return true;
}

/** The normalised text has no lone surrogates, so the second half is there. */
function codePointAt(units: Uint16Array, at: number): number {
  const unit = units[at]!;
  return unit >= 0xd800 && unit < 0xdc00 ? 0x10000 + ((unit - 0xd800) << 10) + (units[at + 1]! - 0xdc00) : unit;
}
