// SPDX-License-Identifier: Apache-2.0
// Strings by their UTF-16 units, with a number for each. Flat: a walk makes no object.

/** The edges are in one open-addressing table; node 0 is the root. */
export class Trie {
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
      const unit = string.charCodeAt(i);
      const at = this.#find(node, unit);
      if (this.#edges[at + 2] === 0) {
        this.#edges[at] = node;
        this.#edges[at + 1] = unit;
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
