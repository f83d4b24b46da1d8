// SPDX-License-Identifier: Apache-2.0
// Token rows as the model takes them: plain numbers in, device tensors with shifted labels and key ranges out. Labels come
// unshifted, as everywhere in the field (labels[t] is the target that stands at t); position t predicts the label at t+1 of
// the same segment.
import type { Device, I32 } from '../device/index.js';

/** The label of a position that is no target. */
export const IGNORED_LABEL = -100;

/** B rows of T tokens. Several examples may share a row as segments 1, 2, …; segment 0 is padding. */
export interface Batch {
  readonly B: number;
  readonly T: number;
  readonly ids: Int32Array; // (B·T)
  readonly labels: Int32Array; // (B·T) unshifted; -100 is no target
  readonly positions: Int32Array; // (B·T) from 0 in each segment
  readonly segments: Int32Array; // (B·T)
}

export interface DeviceBatch {
  readonly B: number;
  readonly T: number;
  readonly ids: I32; // (M)
  readonly labels: I32; // (M) shifted
  readonly positions: I32; // (M)
  readonly starts: I32; // (B,T)
  /** Labels that are targets. */
  readonly targets: number;
  /** Tokens that are not padding. */
  readonly tokens: number;
}

/** One row of one segment, positions from 0. Labels default to the ids. */
export function singleRow(ids: ArrayLike<number>, labels?: ArrayLike<number>): Batch {
  const T = ids.length;
  return {
    B: 1,
    T,
    ids: Int32Array.from(ids),
    labels: Int32Array.from(labels ?? ids),
    positions: Int32Array.from({ length: T }, (_, t) => t),
    segments: new Int32Array(T).fill(1),
  };
}

/** Position t's target: the label at t+1 where that token belongs to the same segment. */
export function shiftedLabels({ B, T, labels, segments }: Batch): Int32Array {
  const shifted = new Int32Array(B * T).fill(IGNORED_LABEL);
  for (let m = 0; m < B * T; m++) {
    if (m % T < T - 1 && segments[m] !== 0 && segments[m] === segments[m + 1]) shifted[m] = labels[m + 1]!;
  }
  return shifted;
}

/** The first key that each query sees: the first token of its segment. A padding token sees itself. */
export function segmentStarts({ B, T, segments }: Batch): Int32Array {
  const starts = new Int32Array(B * T);
  for (let b = 0; b < B; b++) {
    let start = 0;
    for (let t = 0; t < T; t++) {
      const segment = segments[b * T + t]!;
      if (t > 0 && segment !== segments[b * T + t - 1]) start = t;
      starts[b * T + t] = segment === 0 ? t : start;
    }
  }
  return starts;
}

export function countTargets(batch: Batch): number {
  return shiftedLabels(batch).reduce((count, label) => count + Number(label !== IGNORED_LABEL), 0);
}

export function countTokens(batch: Batch): number {
  return batch.segments.reduce((count, segment) => count + Number(segment !== 0), 0);
}

/** The largest position plus one: rows that the rotary table must have. */
export function positionsNeeded(batch: Batch): number {
  return batch.positions.reduce((most, position) => Math.max(most, position), 0) + 1;
}

export function uploadBatch(device: Device, batch: Batch): DeviceBatch {
  const { B, T } = batch;
  const make = (values: Int32Array, shape: number[]): I32 => {
    const tensor = device.allocate('activations', shape, 'i32');
    device.upload(tensor, values);
    return tensor;
  };
  return {
    B,
    T,
    ids: make(batch.ids, [B * T]),
    labels: make(shiftedLabels(batch), [B * T]),
    positions: make(batch.positions, [B * T]),
    starts: make(segmentStarts(batch), [B, T]),
    targets: countTargets(batch),
    tokens: countTokens(batch),
  };
}

export function freeBatch(device: Device, batch: DeviceBatch): void {
  for (const tensor of [batch.ids, batch.labels, batch.positions, batch.starts]) device.free(tensor);
}
