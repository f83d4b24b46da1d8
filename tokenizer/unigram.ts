// SPDX-License-Identifier: Apache-2.0
// Unigram segmentation: the most probable way to cut a word into pieces (Viterbi over a trie of UTF-16 units). Follows
// SentencePiece 0.2.2, rounding included: path scores are float32 and run on from word to word, since cuts of equal
// probability are decided by their last bits. So a word's pieces depend on what came before, and must not be cached.
// Earlier releases (sentencepiece-js has one) round otherwise and so cut ties, as in long runs of spaces, at other places.
import { type PieceModel, PieceType, type UnigramRules } from './piece-model.js';
import { Trie } from './trie.js';

/** How much worse an unknown character is than the worst piece. */
const unknownPenalty = 10;
/** A path score below this is taken off all paths, so that float32 keeps enough digits in long texts. */
const leastScore = -100_000;

export class Unigram {
  readonly #trie: Trie;
  /** Log probability by id; NaN for what never occurs in text. */
  readonly #scores: Float64Array;
  readonly #unknownScore: number;
  /** Units of the longest piece: no path is open further ahead. */
  readonly #longest: number;
  #runningScore = 0;
  // Best path to each place in the word: its score, where its last piece starts and that piece (−1: an unknown character).
  #best = new Float32Array(0);
  #cameFrom = new Int32Array(0);
  #piece = new Int32Array(0);
  #path = new Int32Array(0);

  constructor(model: PieceModel, { scores }: UnigramRules) {
    const { pieces, types } = model;
    let least = Number.POSITIVE_INFINITY;
    let greatest = 0.1; // log probabilities are below; the bonus of user-defined pieces must not be
    for (const [id, type] of types.entries()) {
      if (type !== PieceType.normal) continue;
      least = Math.min(least, scores[id]!);
      greatest = Math.max(greatest, scores[id]!);
    }
    this.#unknownScore = Math.fround(least - unknownPenalty);
    this.#scores = new Float64Array(pieces.length).fill(Number.NaN);
    this.#trie = new Trie(pieces);
    this.#longest = pieces.reduce((longest, piece) => Math.max(longest, piece.length), 2);
    for (const [id, type] of types.entries()) {
      const piece = pieces[id]!;
      if (type === PieceType.normal) this.#scores[id] = scores[id]!;
      // Such a score wins against any other cut. Length in UTF-8 bytes.
      else if (type === PieceType.userDefined)
        this.#scores[id] = Math.fround(Buffer.byteLength(piece) * greatest - 0.1);
      else continue;
      this.#trie.add(piece, id);
    }
  }

  /** Forgets the running score: a new text begins. */
  begin(): void {
    this.#runningScore = 0;
  }

  /**
   * Cuts `units[from…to)`. Calls `emit` for each piece in order with its id (−1: a character that no piece covers) and the
   * index of its first unit.
   */
  segment(units: Uint16Array, from: number, to: number, emit: (id: number, start: number) => void): void {
    const length = to - from;
    this.#reserve(length + 1);
    const best = this.#best;
    const cameFrom = this.#cameFrom;
    const pieceAt = this.#piece;
    cameFrom.fill(-1, 0, length + 1);
    best[0] = this.#runningScore;
    for (let start = 0; start < length; ) {
      if (best[start]! < leastScore) this.#rebase(start, length);
      const here = best[start]!;
      const unit = units[from + start]!;
      const characterEnd = start + (unit >= 0xd800 && unit < 0xdc00 ? 2 : 1);
      let covered = false;
      for (let end = start, node = 0; end < length; ) {
        node = this.#trie.child(node, units[from + end++]!);
        if (node < 0) break;
        const id = this.#trie.valueAt(node);
        if (id < 0) continue;
        if (end === characterEnd) covered = true;
        const score = Math.fround(this.#scores[id]! + here);
        if (cameFrom[end]! < 0 || score > best[end]!) {
          best[end] = score;
          cameFrom[end] = start;
          pieceAt[end] = id;
        }
      }
      if (!covered) {
        const score = Math.fround(this.#unknownScore + here);
        if (cameFrom[characterEnd]! < 0 || score > best[characterEnd]!) {
          best[characterEnd] = score;
          cameFrom[characterEnd] = start;
          pieceAt[characterEnd] = -1;
        }
      }
      start = characterEnd;
    }
    this.#runningScore = best[length]!;
    // Backwards along the best path, then forwards to emit.
    let count = 0;
    for (let end = length; end > 0; end = cameFrom[end]!) this.#path[count++] = end;
    for (let i = count - 1; i >= 0; i--) {
      const end = this.#path[i]!;
      emit(pieceAt[end]!, from + cameFrom[end]!);
    }
  }

  /** Takes the score of the path to `start` off all open paths. */
  #rebase(start: number, length: number): void {
    const base = this.#best[start]!;
    const last = Math.min(length, start + this.#longest);
    for (let end = start; end <= last; end++) {
      if (end === start || this.#cameFrom[end]! >= 0) this.#best[end]! -= base;
    }
  }

  #reserve(count: number): void {
    if (count <= this.#best.length && (count > 4096 || this.#best.length <= 1 << 20)) return;
    const capacity = Math.max(1024, count);
    this.#best = new Float32Array(capacity);
    this.#cameFrom = new Int32Array(capacity);
    this.#piece = new Int32Array(capacity);
    this.#path = new Int32Array(capacity);
  }
}
