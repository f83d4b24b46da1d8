// SPDX-License-Identifier: Apache-2.0
// How much scratch memory ops take for themselves, from shapes and threads alone, so that a run can be planned before it
// starts. An upper bound on every instruction set and compute type; `native().scratchBytes()` has what is really held. The
// constants are those of cpu/gemm.inc, cross_entropy.inc and attention.inc, and a test holds the two together.

const PACKED_A_BYTES = 16 * 2 ** 20;
const PANEL_BYTES = 4 * 64 * 1024; // a thread
const NARROW = 64;
const LOGITS_BYTES = 32 * 2 ** 20;
const MIN_LOGITS_ROWS = 64;
const ATTENTION = {
  rows: 48,
  keys: 64,
  leastKeys: 60,
  panelWidth: 128,
  panelStride: 144,
  tasks: 16,
  leastPartKeys: 256,
};

/** Memory is taken in pages, large pieces in large pages (cpu/threads.cc). */
function paged(bytes: number): number {
  const page = bytes >= 4 * 2 ** 20 ? 2 * 2 ** 20 : 4096;
  return Math.ceil(bytes / page) * page;
}

/** Rows whose logits (V) are computed at once. */
function logitsRows(M: number, V: number): number {
  const fitting = Math.floor(LOGITS_BYTES / (4 * Math.max(V, 1)) / 16) * 16;
  return Math.min(M, Math.max(MIN_LOGITS_ROWS, fitting));
}

type Slot = 'packed' | 'panels' | 'logits' | 'rows' | 'labels' | 'attention';

/**
 * Scratch memory of a sequence of ops. It is kept in slots by purpose; a slot grows to the largest need and stays, so the
 * total is the sum of the slots' largest needs. Methods take the shapes of ops.h and return the total so far.
 */
export class ScratchPlan {
  readonly #threads: number;
  readonly #slots = new Map<Slot, number>();

  constructor(threads: number) {
    this.#threads = threads;
  }

  get bytes(): number {
    let total = 0;
    for (const bytes of this.#slots.values()) total += bytes;
    return total;
  }

  #need(slot: Slot, bytes: number): void {
    this.#slots.set(slot, Math.max(this.#slots.get(slot) ?? 0, bytes));
  }

  /** C (M,N) = A (M,D)·B (D,N): A is packed once for all threads, or B where it is narrow and the smaller one. */
  #product(M: number, N: number, D: number): void {
    const lines = N <= NARROW ? Math.min(M, N) : M;
    this.#need('packed', paged(Math.min(PACKED_A_BYTES, 4 * lines * D)));
    this.#need('panels', this.#threads * paged(PANEL_BYTES));
  }

  /** The ops linear… and linearNf4… of one weight (N,K), forward and backward. */
  linear(M: number, N: number, K: number): number {
    this.#product(M, N, K);
    this.#product(M, K, N);
    this.#product(N, K, M);
    return this.bytes;
  }

  /** crossEntropyForward and crossEntropyForwardBackward over a head (V,C). */
  crossEntropy(M: number, V: number, C: number): number {
    const rows = logitsRows(M, V);
    this.#need('labels', paged(8 * rows));
    this.#need('rows', paged(4 * rows * C));
    this.#need('logits', paged(4 * rows * V));
    return this.linear(rows, V, C); // fewer rows, in the last chunk or without targets, need no more
  }

  /** attentionForward and attentionBackward of q (B,T,Hq,D) over k and v (B,T,Hkv,D). */
  attention(B: number, T: number, Hq: number, Hkv: number, D: number): number {
    const { rows, keys, leastKeys, panelWidth, panelStride, tasks, leastPartKeys } = ATTENTION;
    const panel = (capacity: number) => Math.ceil(D / panelWidth) * capacity * panelStride;
    const parts = Math.max(1, Math.min(Math.ceil(tasks / Math.max(1, B * Hkv)), Math.floor(T / leastPartKeys)));
    const partKeys = Math.ceil(Math.ceil(T / leastKeys) / parts) * keys;
    // The backward pass: keys, values and their gradients of a part; queries, dout and dq of a tile; scores and theirs.
    const floats = 4 * panel(partKeys) + 3 * panel(rows) + 2 * rows * (D + keys);
    this.#need('attention', this.#threads * paged(4 * floats));
    this.#need('rows', paged(4 * (parts - 1) * B * T * Hq * D));
    return this.bytes;
  }
}
