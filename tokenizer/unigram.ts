// SPDX-License-Identifier: Apache-2.0
// Unigram segmentation: the most probable way to cut a word into pieces (Viterbi over a trie of UTF-16 units). Follows
// SentencePiece's EncodeOptimized, rounding included: path scores are float32 and run on from word to word, since near ties
// are decided by their last bits. So a word's pieces depend on what came before, and must not be cached.
import { type PieceModel, PieceType, type UnigramRules } from './piece-model.js';

/** How much worse an unknown character is than the worst piece (kUnkPenalty). */
const unknownPenalty = 10;

export class Unigram {
  readonly #trie: Trie;
  /** Log probability by id; NaN for what never occurs in text. */
  readonly #scores: Float64Array;
  readonly #unknownScore: number;
  #runningScore = 0;
  // Best path to each place in the word: its score, where its last piece starts and that piece (−1: an unknown character).
  #best = new Float32Array(0);
  #cameFrom = new Int32Array(0);
  #piece = new Int32Array(0);

  constructor(model: PieceModel, { scores }: UnigramRules) {
    const { pieces, types } = model;
    let least = 3.4028234663852886e38; // FLT_MAX
    let greatest = 1.1754943508222875e-38; // FLT_MIN, the least positive one: SentencePiece's own starting value
    for (const [id, type] of types.entries()) {
      if (type !== PieceType.normal) continue;
      least = Math.min(least, scores[id]!);
      greatest = Math.max(greatest, scores[id]!);
    }
    this.#unknownScore = Math.fround(least - unknownPenalty);
    this.#scores = new Float64Array(pieces.length).fill(Number.NaN);
    this.#trie = new Trie(pieces);
    for (const [id, type] of types.entries()) {
      const piece = pieces[id]!;
      if (type === PieceType.normal) this.#scores[id] = scores[id]!;
      // Such a score wins against any other cut. Length in UTF-8 bytes.
      else if (type === PieceType.userDefined)
        this.#scores[id] = Math.fround(Buffer.byteLength(piece) * greatest) - 0.1;
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
      const here = best[start]!;
      const unit = units[from + start]!;
      const characterEnd = start + (unit >= 0xd800 && unit < 0xdc00 ? 2 : 1);
      let covered = false;
      let node = this.#trie.child(0, unit);
      for (let end = start + 1; node >= 0; node = this.#trie.child(node, units[from + end++]!)) {
        const id = this.#trie.valueAt(node);
        if (id >= 0) {
          const score = this.#scores[id]! + here;
          if (cameFrom[end]! < 0 || score > best[end]!) {
            best[end] = score;
            cameFrom[end] = start;
            pieceAt[end] = id;
          }
          if (end === characterEnd) covered = true;
        }
        if (end === length) break;
      }
      if (!covered) {
        const score = this.#unknownScore + here;
        if (cameFrom[characterEnd]! < 0 || score > best[characterEnd]!) {
          best[characterEnd] = score;
          cameFrom[characterEnd] = start;
          pieceAt[characterEnd] = -1;
        }
      }
      start = characterEnd;
    }
    this.#runningScore = best[length]!;
    // Backwards along the best path; then `piece` holds, at each start on it, where the next piece starts… in reverse order.
    let count = 0;
    for (let end = length; end > 0; end = cameFrom[end]!) this.#path[count++] = end;
    for (let i = count - 1; i >= 0; i--) {
      const end = this.#path[i]!;
      emit(pieceAt[end]!, from + cameFrom[end]!);
    }
  }

  #path = new Int32Array(0);

  #reserve(count: number): void {
    if (count <= this.#best.length && (count > 4096 || this.#best.length <= 1 << 20)) return;
    const capacity = Math.max(1024, count);
    this.#best = new Float32Array(capacity);
    this.#cameFrom = new Int32Array(capacity);
    this.#piece = new Int32Array(capacity);
    this.#path = new Int32Array(capacity);
  }
}

/** A trie of strings over UTF-16 units, its edges in one open-addressing table. Node 0 is the root. */
class Trie {
  readonly #edges: Int32Array; // parent, unit, child; child = 0 in an empty slot
  readonly #mask: number;
  readonly #values: Int32Array;
  #nodes = 1;

  /** Room for all of `strings`, which are then added one by one. */
  constructor(strings: readonly string[]) {
    let units = 0;
    for (const string of strings) units += string.length;
    let capacity = 16;
    while (capacity < 2 * units) capacity *= 2;
    this.#edges = new Int32Array(3 * capacity);
    this.#mask = capacity - 1;
    this.#values = new Int32Array(units + 1).fill(-1);
  }

  add(string: string, value: number): void {
    let node = 0;
    for (let i = 0; i < string.length; i++) {
      const at = this.#find(node, string.charCodeAt(i));
      if (this.#edges[at + 2] === 0) {
        this.#edges[at] = node;
        this.#edges[at + 1] = string.charCodeAt(i);
        this.#edges[at + 2] = this.#nodes++;
      }
      node = this.#edges[at + 2]!;
    }
    this.#values[node] = value;
  }

  /** The node below `node` along `unit`, or −1. */
  child(node: number, unit: number): number {
    return this.#edges[this.#find(node, unit) + 2]! || -1;
  }

  /** The value of the string that ends at `node`, or −1. */
  valueAt(node: number): number {
    return this.#values[node]!;
  }

  #find(node: number, unit: number): number {
    const edges = this.#edges;
    for (let slot = Math.imul(Math.imul(node, 0x2c1b3c6d) + unit, 0x9e3779b1) >>> 8; ; slot++) {
      const at = 3 * (slot & this.#mask);
      if (edges[at + 2] === 0 || (edges[at] === node && edges[at + 1] === unit)) return at;
    }
  }
}
