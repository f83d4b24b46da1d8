// SPDX-License-Identifier: Apache-2.0
// Examples side by side in rows of T tokens. Which example goes where is decided by lengths alone (first-fit decreasing) and
// is a pure function of them. A row's examples are apart: positions restart and segments are numbered, so that attention
// stays within each and loss and gradients equal those of the separate examples.
import { IGNORED, type TokenExample } from './examples.js';

/** Row-major; what a training step reads. */
export interface PackedBatch {
  B: number;
  T: number;
  ids: Int32Array; // (B,T)
  labels: Int32Array; // (B,T) unshifted: the target token that stands at t; −100 = none, as at the first of each example
  positions: Int32Array; // (B,T) from 0 in each example
  segments: Int32Array; // (B,T) from 1 in each row; 0 = padding
}

/**
 * Which examples share a row of T tokens, as indices into `lengths`; none may be longer than T. First-fit decreasing: each in
 * turn, longest first, goes into the first row with room. Rows stand in the order of the example that opened them, so that
 * long and short ones come mixed as their examples did.
 */
export function packRows(lengths: ArrayLike<number>, T: number): number[][] {
  const longestFirst = Array.from({ length: lengths.length }, (_, i) => i).sort(
    (a, b) => lengths[b]! - lengths[a]! || a - b,
  );
  const rows: { members: number[]; room: number }[] = [];
  for (const i of longestFirst) {
    const length = lengths[i]!;
    if (length > T) throw new RangeError(`an example of ${length} tokens for a row of ${T}`);
    const row = rows.find(({ room }) => room >= length);
    if (row) {
      row.members.push(i);
      row.room -= length;
    } else rows.push({ members: [i], room: T - length });
  }
  return rows.map(({ members }) => members).sort((a, b) => a[0]! - b[0]!);
}

/** Lays rows of examples out as a batch; what is left of each row is padding with `padId`. */
export function layOut(rows: readonly (readonly TokenExample[])[], T: number, padId: number): PackedBatch {
  const B = rows.length;
  const ids = new Int32Array(B * T).fill(padId);
  const labels = new Int32Array(B * T).fill(IGNORED);
  const positions = new Int32Array(B * T);
  const segments = new Int32Array(B * T);
  for (const [b, row] of rows.entries()) {
    let at = b * T;
    for (const [s, example] of row.entries()) {
      const end = at + example.ids.length;
      if (end > (b + 1) * T) throw new RangeError(`examples of more than ${T} tokens in row ${b}`);
      ids.set(example.ids, at);
      labels.set(example.labels, at);
      labels[at] = IGNORED; // the example before it must not predict its first token
      for (let t = at; t < end; t++) positions[t] = t - at;
      segments.fill(s + 1, at, end);
      at = end;
    }
  }
  return { B, T, ids, labels, positions, segments };
}
