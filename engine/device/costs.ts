// SPDX-License-Identifier: Apache-2.0
// What an op costs, from shapes and element sizes alone: floating-point operations (a multiply-add counts two) and bytes of
// the tensors it must read and write once. The plan device adds these up and the profile device divides by them, so a
// plan and a profile speak of the same work. Attention is counted as one causal segment of the whole row.
import {
  bytesOf,
  type F32,
  type LinearOptions,
  lastOf,
  type OpName,
  type Ops,
  type Tensor,
  type Weight,
} from './device.js';

export interface Cost {
  flops: number;
  bytes: number;
}

/** Ops whose speed is bounded by the processor's multiply-add rate; the others are bounded by memory. */
export const MATRIX_OPS: ReadonlySet<OpName> = new Set<OpName>([
  'attentionForward',
  'attentionBackward',
  'linearForward',
  'linearBackward',
  'linearWeightBackward',
  'crossEntropyForward',
  'crossEntropyForwardBackward',
]);

type CostTable = { [Op in OpName]: (...args: Parameters<Ops[Op]>) => Cost };

const read = (...tensors: (Tensor | Weight | undefined)[]): number =>
  tensors.reduce((bytes, tensor) => bytes + (tensor ? bytesOf(tensor) : 0), 0);

/** Pairs of query and key that a causal row of Tq queries over Tk keys has, times heads and batch, times head width. */
function attentionWork(q: F32, k: F32): number {
  const [B, Tq, Hq, D] = q.shape as [number, number, number, number];
  const Tk = k.shape[1]!;
  return B * Hq * D * (Tq * (Tk - Tq) + (Tq * (Tq + 1)) / 2);
}

function elementwise(flopsPerElement: number, ...tensors: Tensor[]): Cost {
  return { flops: flopsPerElement * tensors[0]!.size, bytes: read(...tensors) };
}

/** The M·N·K of a product whose result or operand `rows` has M rows over a (N,K) weight. */
function product(rows: F32, width: number, weight: { shape: readonly number[] }): number {
  return (rows.size / width) * weight.shape[0]! * weight.shape[1]!;
}

/** A product with a weight, and a low-rank one that costs no pass over the output of its own. */
function linear(out: F32, work: number, operands: (Tensor | Weight)[], options: LinearOptions = {}): Cost {
  const { accumulate, lowRank } = options;
  return {
    flops: 2 * (work + (lowRank ? out.size * lastOf(lowRank.low.shape) : 0)),
    bytes: read(out, ...operands, accumulate ? out : undefined, lowRank?.low, lowRank?.factor),
  };
}

/** alpha, beta, decay, moments, bias corrections, root and division of AdamW, counted once by hand. */
const ADAMW_FLOPS = 16;

export const COSTS: CostTable = {
  embeddingForward: (out, ids) => ({ flops: 0, bytes: 2 * read(out) + read(ids) }),
  embeddingBackward: (_dweight, dout, ids) => ({ flops: dout.size, bytes: 3 * read(dout) + read(ids) }),
  rmsnormForward: (out, rstd, inp, weight) => ({ flops: 4 * inp.size, bytes: read(out, rstd, inp, weight) }),
  rmsnormBackward: (dinp, dweight, dout, inp, rstd, weight, accumulate) => ({
    flops: 9 * inp.size,
    bytes: read(dinp, dout, inp, rstd, weight, dweight, accumulate ? dinp : undefined),
  }),
  ropeForward: (x, _table, positions) => ({ flops: 3 * x.size, bytes: 2 * read(x) + read(positions) }),
  ropeBackward: (x, _table, positions) => ({ flops: 3 * x.size, bytes: 2 * read(x) + read(positions) }),
  attentionForward: (out, lse, q, k, v) => ({ flops: 4 * attentionWork(q, k), bytes: read(out, lse, q, k, v) }),
  // Scores and probabilities are made again (2), then dv, dp, dq, dk (8).
  attentionBackward: (dq, dk, dv, dout, q, k, v, out, lse) => ({
    flops: 10 * attentionWork(q, k),
    bytes: read(dq, dk, dv, dout, q, k, v, out, lse),
  }),
  swigluForward: (out, gate, up) => elementwise(5, out, gate, up),
  swigluBackward: (dgate, dup, dout, gate, up) => elementwise(10, dgate, dup, dout, gate, up),
  linearForward: (out, inp, weight, options) =>
    linear(out, product(inp, weight.shape[1]!, weight), [inp, weight], options),
  linearBackward: (dinp, dout, weight, options) =>
    linear(dinp, product(dout, weight.shape[0]!, weight), [dout, weight], options),
  linearWeightBackward: (dweight, dout, inp) => ({
    flops: 2 * product(dout, dweight.shape[0]!, dweight),
    bytes: 2 * read(dweight) + read(dout, inp),
  }),
  dropoutForward: (out, inp) => elementwise(1, out, inp),
  dropoutBackward: (dinp, dout, _p, _seed, accumulate) => ({
    flops: dinp.size,
    bytes: read(dinp, dout, accumulate ? dinp : undefined),
  }),
  crossEntropyForward: (loss, inp, weight, labels, targets) => ({
    flops: targets * weight.shape[0]! * (2 * lastOf(inp.shape) + 4),
    bytes: read(loss, inp, weight, labels),
  }),
  crossEntropyForwardBackward: (loss, dinp, dweight, inp, weight, labels, _scale, targets) => ({
    flops: targets * weight.shape[0]! * ((dweight ? 6 : 4) * lastOf(inp.shape) + 6),
    bytes: read(loss, dinp, inp, weight, weight, labels, dweight, dweight),
  }),
  add: (out, inp) => elementwise(1, out, out, inp),
  copy: (out, inp) => elementwise(0, out, inp),
  fill: (out) => elementwise(0, out),
  sum: (_out, inp) => elementwise(1, inp),
  sumOfSquares: (_out, inp) => elementwise(2, inp),
  adamw: (param, grad, m, v) => elementwise(ADAMW_FLOPS, param, param, grad, m, m, v, v),
  adamw8bit: (param, grad, m, v, mAbsmax, vAbsmax) =>
    elementwise(ADAMW_FLOPS, param, param, grad, m, m, v, v, mAbsmax, vAbsmax),
};

/** All op names, in the order of the table. */
export const OP_NAMES = Object.keys(COSTS) as OpName[];

/** The cost of one call. */
export function costOf<Op extends OpName>(op: Op, args: Parameters<Ops[Op]>): Cost {
  return COSTS[op](...args);
}
