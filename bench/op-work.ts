// SPDX-License-Identifier: Apache-2.0
// The work of an op by its arguments: floating-point operations where arithmetic is the bound (two for a multiply-add), and
// the bytes of its tensors, each counted once for being read and once for being written.
import type { Argument, Arguments, OpName } from '../test/ops/op-table.js';

export interface Work {
  flops?: number;
  bytes: number;
}

type Sizes = Record<string, number>;

const product = ({ M, N, K }: Sizes) => 2 * M! * N! * K!;
const forward = (sizes: Sizes) => product(sizes) + 2 * sizes['M']! * sizes['N']! * sizes['R']!;
const backward = (sizes: Sizes) => product(sizes) + 2 * sizes['M']! * sizes['K']! * sizes['R']!;
/** Pairs of a query and a key that a causal mask lets through, times their width. */
const pairs = ({ B, T, Tq, Tk, Hq, D }: Sizes) => {
  const [queries, keys] = [Tq ?? T!, Tk ?? T!];
  return B! * Hq! * D! * queries * (keys - (queries - 1) / 2);
};

const FLOPS: Partial<Record<OpName, (sizes: Sizes, args: Arguments) => number>> = {
  linearForward: forward,
  linearBackward: backward,
  linearWeightBackward: product,
  linearNf4Forward: forward,
  linearNf4Backward: backward,
  attentionForward: (sizes) => 4 * pairs(sizes),
  attentionBackward: (sizes) => 10 * pairs(sizes),
  crossEntropyForward: ({ V, C }, args) => 2 * targets(args) * V! * C!,
  crossEntropyForwardBackward: ({ V, C }, args) => (isEmpty(args['dweight']!) ? 4 : 6) * targets(args) * V! * C!,
};

/** Bytes of the ops that touch only some rows of a tensor. */
const PARTLY: Partial<Record<OpName, (sizes: Sizes) => number>> = {
  embeddingForward: ({ M, C, weight_type }) => M! * C! * (4 + (weight_type ? 2 : 4)),
  embeddingBackward: ({ M, C }) => M! * C! * (4 + 8),
};

const isEmpty = (argument: Argument) => typeof argument !== 'number' && argument.values.length === 0;

/** Rows with a target; the others cost nothing. */
function targets(args: Arguments): number {
  const labels = args['labels']!;
  return typeof labels === 'number' ? 0 : [...labels.values].filter((label) => label !== -100).length;
}

export function workOf(op: OpName, args: Arguments): Work {
  const sizes: Sizes = {};
  let bytes = 0;
  for (const [name, argument] of Object.entries(args)) {
    if (typeof argument === 'number') sizes[name] = argument;
    else bytes += argument.values.byteLength * (argument.role === 'inout' ? 2 : 1);
  }
  bytes = PARTLY[op]?.(sizes) ?? bytes;
  const flops = FLOPS[op]?.(sizes, args);
  return flops === undefined ? { bytes } : { flops, bytes };
}
