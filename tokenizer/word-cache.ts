// SPDX-License-Identifier: Apache-2.0
// Remembers the tokens of words already encoded: UTF-16 units in, ids and relative starts out. Flat typed arrays, so a hit
// makes no string and no object. It knows nothing of how words are encoded or cut; whoever uses it must make sure that a
// word's tokens do not depend on its neighbours. Bounded: when a pool is full everything is forgotten, which changes no result.
import type { TokenBuffer } from './token-buffer.js';

/** Longer words are rare and cost little more to encode than to compare. */
export const maxCachedUnits = 64;
const maxEntries = 1 << 16;
const maxUnits = 1 << 20;
const maxTokens = 1 << 19;

// An entry is five numbers.
const hashAt = 0;
const unitsAt = 1;
const unitCountAt = 2;
const tokensAt = 3;
const tokenCountAt = 4;
const entrySize = 5;

/** The hash of a word is `hashUnit` folded over its units from `hashSeed`. */
export const hashSeed = 0x811c9dc5 | 0;
export function hashUnit(hash: number, unit: number): number {
  return Math.imul(hash ^ unit, 0x01000193);
}

export class WordCache {
  readonly #slots = new Int32Array(maxEntries * 2).fill(-1); // entry offset, or −1
  readonly #entries = new Int32Array(maxEntries * entrySize);
  readonly #units = new Uint16Array(maxUnits);
  readonly #ids = new Int32Array(maxTokens);
  readonly #starts = new Uint8Array(maxTokens); // relative to the word; below maxCachedUnits
  #entryCount = 0;
  #unitCount = 0;
  #tokenCount = 0;

  /** Appends the tokens of the word `units[from…to)` to `out` if it is known; says whether it was. */
  appendTo(out: TokenBuffer, units: Uint16Array, from: number, to: number, hash: number): boolean {
    const entries = this.#entries;
    const length = to - from;
    for (let slot = slotOf(hash); ; slot = (slot + 1) & slotMask) {
      const entry = this.#slots[slot]!;
      if (entry < 0) return false;
      if (entries[entry + hashAt] !== hash || entries[entry + unitCountAt] !== length) continue;
      const known = entries[entry + unitsAt]!;
      let i = 0;
      while (i < length && this.#units[known + i] === units[from + i]) i++;
      if (i < length) continue;
      const first = entries[entry + tokensAt]!;
      const count = entries[entry + tokenCountAt]!;
      if (out.length + count > out.ids.length) out.reserve(count);
      const { ids, starts } = out;
      let at = out.length;
      for (let k = first; k < first + count; k++, at++) {
        ids[at] = this.#ids[k]!;
        starts[at] = from + this.#starts[k]!;
      }
      out.length = at;
      return true;
    }
  }

  /** Remembers that the word `units[from…to)` gave the tokens of `out` from index `firstToken` on. */
  add(out: TokenBuffer, firstToken: number, units: Uint16Array, from: number, to: number, hash: number): void {
    const length = to - from;
    const count = out.length - firstToken;
    if (
      this.#entryCount === maxEntries ||
      this.#unitCount + length > maxUnits ||
      this.#tokenCount + count > maxTokens
    ) {
      this.#slots.fill(-1);
      this.#entryCount = this.#unitCount = this.#tokenCount = 0;
    }
    const entry = this.#entryCount++ * entrySize;
    this.#entries[entry + hashAt] = hash;
    this.#entries[entry + unitsAt] = this.#unitCount;
    this.#entries[entry + unitCountAt] = length;
    this.#entries[entry + tokensAt] = this.#tokenCount;
    this.#entries[entry + tokenCountAt] = count;
    for (let i = from; i < to; i++) this.#units[this.#unitCount++] = units[i]!;
    for (let k = firstToken; k < out.length; k++) {
      this.#ids[this.#tokenCount] = out.ids[k]!;
      this.#starts[this.#tokenCount++] = out.starts[k]! - from;
    }
    let slot = slotOf(hash);
    while (this.#slots[slot]! >= 0) slot = (slot + 1) & slotMask;
    this.#slots[slot] = entry;
  }
}

const slotMask = maxEntries * 2 - 1;

// FNV leaves the low bits of short words poorly mixed.
function slotOf(hash: number): number {
  return (hash ^ (hash >>> 15)) & slotMask;
}
