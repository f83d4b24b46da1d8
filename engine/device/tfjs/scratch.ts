// SPDX-License-Identifier: Apache-2.0
// What ops of the tfjs device hold beside their operands, for plans: tensors that exist within an op, counted by reading it.
// An estimate, since when TensorFlow or JavaScript gives memory back is their affair.
import { type F32, lastOf, type OpName, type Ops, rowsOf, type Weight } from '../device.js';
import type { ScratchRule } from '../plan.js';
import { LOGITS } from './cross-entropy.js';

type Need<Op extends OpName> = (...args: Parameters<Ops[Op]>) => number;

/** A 4-bit weight: its bytes as four int32 and stacked, its values, and those scaled. */
const decoded = (weight: Weight): number => (weight.dtype === 'nf4' ? 24 * weight.shape[0] * weight.shape[1] : 0);

/** Matrices of scores of every head. */
function scores(q: F32, k: F32, copies: number): number {
  const [B, Tq, Hq] = q.shape as [number, number, number, number];
  return 4 * copies * B * Hq * Tq * k.shape[1]!;
}

const logits = (inp: F32, head: Weight, copies: number): number =>
  4 * copies * Math.min(LOGITS, rowsOf(inp) * head.shape[0]!) + 4 * rowsOf(inp) * lastOf(inp.shape);

const NEEDS: { [Op in OpName]?: Need<Op> } = {
  linearForward: (_out, _inp, weight) => decoded(weight),
  linearBackward: (_dinp, _dout, weight) => decoded(weight),
  attentionForward: (_out, _lse, q, k) => scores(q, k, 5),
  attentionBackward: (_dq, _dk, _dv, _dout, q, k) => scores(q, k, 7),
  swigluForward: (out) => 8 * out.size,
  swigluBackward: (_dgate, _dup, dout) => 24 * dout.size,
  crossEntropyForward: (_loss, inp, head) => logits(inp, head, 4),
  crossEntropyForwardBackward: (_loss, _dinp, _dweight, inp, head) => logits(inp, head, 6),
  adamw: (param) => 32 * param.size,
  adamw8bit: (param) => 16 * param.size,
};

export function tfjsScratch(): ScratchRule {
  return (op, args) => (NEEDS[op] as Need<typeof op> | undefined)?.(...args) ?? 0;
}
