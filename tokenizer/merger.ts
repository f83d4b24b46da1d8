// SPDX-License-Identifier: Apache-2.0
// Byte-pair merging: a row of symbols, a table of which neighbours merge into what and how early, and the loop that merges
// the pair of lowest rank, leftmost first, until none is left. Knows neither text nor vocabularies; symbols are numbers ≥ 0,
// and numbers ≤ −2 stand for what never merges. Short rows are scanned, long ones go through a heap: n log n, never n².

/** One merge: `left`, `right` (symbols), `rank` (the lower, the earlier), `merged` (symbol). Flat: four numbers each. */
export type MergeList = readonly number[];

const noRank = 0x7fffffff;
const maxScanned = 40; // below this many symbols scanning is faster than a heap
const positionRange = 2 ** 31; // a heap key is rank · positionRange + position, below 2^53

/** (left, right) → rank and merged symbol; open addressing, so a look-up makes no object. */
class MergeTable {
  readonly slots: Int32Array; // left, right, rank, merged; left = −1 in an empty slot
  readonly #shift: number;
  readonly #mask: number;

  /** Of two merges of one pair the later one counts. */
  constructor(merges: MergeList) {
    let bits = 4;
    while (2 ** bits < merges.length / 2) bits++; // at most half full
    this.slots = new Int32Array(4 * 2 ** bits).fill(-1);
    this.#shift = 32 - bits;
    this.#mask = 2 ** bits - 1;
    for (let i = 0; i < merges.length; i += 4) {
      let slot = this.#first(merges[i]!, merges[i + 1]!);
      while (this.slots[4 * slot] !== -1 && !this.#holds(4 * slot, merges[i]!, merges[i + 1]!))
        slot = (slot + 1) & this.#mask;
      for (let k = 0; k < 4; k++) this.slots[4 * slot + k] = merges[i + k]!;
    }
  }

  /** Index in `slots` of the merge of this pair, or −1. */
  find(left: number, right: number): number {
    for (let slot = this.#first(left, right); ; slot = (slot + 1) & this.#mask) {
      const at = 4 * slot;
      if (this.slots[at] === left && this.slots[at + 1] === right) return at;
      if (this.slots[at] === -1) return -1;
    }
  }

  #first(left: number, right: number): number {
    return Math.imul(Math.imul(left, 0x2c1b3c6d) + right, 0x9e3779b1) >>> this.#shift;
  }

  #holds(at: number, left: number, right: number): boolean {
    return this.slots[at] === left && this.slots[at + 1] === right;
  }
}

export class Merger {
  /** The row: the caller fills `symbols[0…n)` and `starts[0…n)` after `reserve(n)`; `merge` leaves its result there. */
  symbols = new Int32Array(0);
  /** Any number per symbol; a merged symbol keeps that of its leftmost part. */
  starts = new Int32Array(0);

  readonly #table: MergeTable;
  // Of the pair that begins at each symbol: its rank (noRank: does not merge) and what it merges into.
  #ranks = new Int32Array(0);
  #merged = new Int32Array(0);

  constructor(merges: MergeList) {
    this.#table = new MergeTable(merges);
  }

  reserve(count: number): void {
    // A row that was blown up by one huge word is let go at the next ordinary one.
    if (count <= this.symbols.length && (count > 4096 || this.symbols.length <= 1 << 20)) return;
    const capacity = Math.max(256, count);
    this.symbols = new Int32Array(capacity);
    this.starts = new Int32Array(capacity);
    this.#ranks = new Int32Array(capacity);
    this.#merged = new Int32Array(capacity);
  }

  /** Merges the row of `count` symbols in place and returns how many are left. */
  merge(count: number): number {
    return count <= maxScanned ? this.#mergeScanning(count) : this.#mergeByHeap(count);
  }

  #mergeScanning(count: number): number {
    const { symbols, starts } = this;
    const ranks = this.#ranks;
    const merged = this.#merged;
    for (let i = 0; i + 1 < count; i++) this.#rate(i, symbols[i]!, symbols[i + 1]!);
    for (;;) {
      let best = noRank;
      let at = -1;
      for (let i = 0; i + 1 < count; i++) {
        if (ranks[i]! < best) {
          best = ranks[i]!;
          at = i;
        }
      }
      if (at < 0) return count;
      symbols[at] = merged[at]!;
      count--;
      for (let i = at + 1; i < count; i++) {
        symbols[i] = symbols[i + 1]!;
        starts[i] = starts[i + 1]!;
        ranks[i] = ranks[i + 1]!;
        merged[i] = merged[i + 1]!;
      }
      if (at > 0) this.#rate(at - 1, symbols[at - 1]!, symbols[at]!);
      if (at + 1 < count) this.#rate(at, symbols[at]!, symbols[at + 1]!);
    }
  }

  #mergeByHeap(count: number): number {
    const { symbols, starts } = this;
    const ranks = this.#ranks;
    const next = new Int32Array(count); // index of the right neighbour; `count` at the end
    const previous = new Int32Array(count);
    const heap = new MinHeap(count);
    for (let i = 0; i < count; i++) {
      next[i] = i + 1;
      previous[i] = i - 1;
      if (i + 1 < count && this.#rate(i, symbols[i]!, symbols[i + 1]!)) heap.push(ranks[i]! * positionRange + i);
    }
    ranks[count - 1] = noRank;
    while (heap.size > 0) {
      const key = heap.pop();
      const rank = Math.floor(key / positionRange);
      const at = key - rank * positionRange;
      // The pair has changed since. (If the new pair has the same rank, this key stands for it just as well.)
      if (ranks[at] !== rank) continue;
      const right = next[at]!;
      const after = next[right]!;
      symbols[at] = this.#merged[at]!;
      ranks[right] = noRank;
      ranks[at] = noRank;
      next[at] = after;
      if (after < count) {
        previous[after] = at;
        if (this.#rate(at, symbols[at]!, symbols[after]!)) heap.push(ranks[at]! * positionRange + at);
      }
      const before = previous[at]!;
      if (before >= 0 && this.#rate(before, symbols[before]!, symbols[at]!))
        heap.push(ranks[before]! * positionRange + before);
    }
    let left = 0;
    for (let i = 0; i < count; i = next[i]!, left++) {
      symbols[left] = symbols[i]!;
      starts[left] = starts[i]!;
    }
    return left;
  }

  /** Looks up the pair that begins at `index`; says whether it merges. */
  #rate(index: number, left: number, right: number): boolean {
    const found = this.#table.find(left, right);
    if (found < 0) {
      this.#ranks[index] = noRank;
      return false;
    }
    this.#ranks[index] = this.#table.slots[found + 2]!;
    this.#merged[index] = this.#table.slots[found + 3]!;
    return true;
  }
}

/** A binary heap of numbers, least first. */
class MinHeap {
  #keys: Float64Array;
  size = 0;

  constructor(capacity: number) {
    this.#keys = new Float64Array(capacity);
  }

  push(key: number): void {
    if (this.size === this.#keys.length) {
      const grown = new Float64Array(this.size * 2 + 1);
      grown.set(this.#keys);
      this.#keys = grown;
    }
    const keys = this.#keys;
    let i = this.size++;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (keys[parent]! <= key) break;
      keys[i] = keys[parent]!;
      i = parent;
    }
    keys[i] = key;
  }

  pop(): number {
    const keys = this.#keys;
    const least = keys[0]!;
    const last = keys[--this.size]!;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= this.size) break;
      if (child + 1 < this.size && keys[child + 1]! < keys[child]!) child++;
      if (keys[child]! >= last) break;
      keys[i] = keys[child]!;
      i = child;
    }
    keys[i] = last;
    return least;
  }
}
