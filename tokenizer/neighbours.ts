// SPDX-License-Identifier: Apache-2.0
// Where a text may be cut into words: between two characters that stand side by side in no piece. No token can span such a
// place, so the words can be encoded one by one. With LLaMA's vocabulary that is before every run of spaces (no piece has ▁
// after another character) and around newlines, digits and rare characters.

const bitCount = 1 << 20; // 128 KiB: fits the second-level cache, and LLaMA's pairs fill a few per cent

/** Pairs of neighbouring UTF-16 units in a set of strings. One hash, so a pair may be taken for known; never the reverse. */
export class Neighbours {
  readonly #bits = new Int32Array(bitCount / 32);

  constructor(strings: Iterable<string>) {
    for (const string of strings) {
      for (let i = 1; i < string.length; i++) {
        const bit = bitOf(string.charCodeAt(i - 1), string.charCodeAt(i));
        this.#bits[bit >> 5]! |= 1 << (bit & 31);
      }
    }
  }

  /** Whether a token may hold `left` and then `right`: false only where one certainly cannot. */
  mayJoin(left: number, right: number): boolean {
    const bit = bitOf(left, right);
    // The halves of a surrogate pair are one character whatever the pieces are.
    return (this.#bits[bit >> 5]! & (1 << (bit & 31))) !== 0 || (right & 0xfc00) === 0xdc00;
  }
}

function bitOf(left: number, right: number): number {
  return (Math.imul(left, 0x9e35) ^ right) & (bitCount - 1);
}
