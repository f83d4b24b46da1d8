// SPDX-License-Identifier: Apache-2.0
// A growing pair of arrays, ids and the unit index where each token begins, filled by the encoders. Reused between calls.

export class TokenBuffer {
  ids = new Int32Array(1024);
  starts = new Int32Array(1024);
  length = 0;

  push(id: number, start: number): void {
    if (this.length === this.ids.length) this.reserve(1);
    this.ids[this.length] = id;
    this.starts[this.length++] = start;
  }

  /** Makes room for `count` more tokens. */
  reserve(count: number): void {
    const needed = this.length + count;
    if (needed <= this.ids.length) return;
    const capacity = Math.max(needed, this.ids.length * 2);
    const ids = new Int32Array(capacity);
    const starts = new Int32Array(capacity);
    ids.set(this.ids.subarray(0, this.length));
    starts.set(this.starts.subarray(0, this.length));
    this.ids = ids;
    this.starts = starts;
  }

  /** Empties the buffer; one that a huge text had blown up is let go. */
  clear(): void {
    this.length = 0;
    if (this.ids.length > 1 << 22) {
      this.ids = new Int32Array(1024);
      this.starts = new Int32Array(1024);
    }
  }
}
