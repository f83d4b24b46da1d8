// SPDX-License-Identifier: Apache-2.0
// What native kernels hold for themselves while they run, for plans: which of the shapes of a call decides it. The
// formulas are the kernels' own.
import { ScratchPlan } from '../../kernels/index.js';
import { type F32, lastOf, type OpName, type Ops, rowsOf, type Weight } from './device.js';
import type { ScratchRule } from './plan.js';

type Need<Op extends OpName> = (plan: ScratchPlan, ...args: Parameters<Ops[Op]>) => number;

/** The product of rows (M,·) with a weight (N,K). */
function linear(plan: ScratchPlan, rows: F32, { shape }: Pick<Weight, 'shape'>): number {
  const [N, K] = shape as [number, number];
  return plan.linear(rowsOf(rows), N, K);
}

function attention(plan: ScratchPlan, q: F32, k: F32): number {
  const [B, T, Hq, D] = q.shape as [number, number, number, number];
  return plan.attention(B, T, Hq, k.shape[2]!, D);
}

function crossEntropy(plan: ScratchPlan, inp: F32, head: Weight): number {
  return plan.crossEntropy(rowsOf(inp), head.shape[0]!, lastOf(inp.shape));
}

/** Ops that are not here need next to nothing. */
const NEEDS: { [Op in OpName]?: Need<Op> } = {
  linearForward: (plan, _out, inp, weight) => linear(plan, inp, weight),
  linearBackward: (plan, _dinp, dout, weight) => linear(plan, dout, weight),
  linearWeightBackward: (plan, dweight, dout) => linear(plan, dout, dweight),
  attentionForward: (plan, _out, _lse, q, k) => attention(plan, q, k),
  attentionBackward: (plan, _dq, _dk, _dv, _dout, q, k) => attention(plan, q, k),
  crossEntropyForward: (plan, _loss, inp, head) => crossEntropy(plan, inp, head),
  crossEntropyForwardBackward: (plan, _loss, _dinp, _dweight, inp, head) => crossEntropy(plan, inp, head),
};

/** The rule for a run on so many threads. It remembers the largest needs so far: one rule for the plans of one run. */
export function cpuScratch(threads: number): ScratchRule {
  const plan = new ScratchPlan(threads);
  return (op, args) => (NEEDS[op] as Need<typeof op> | undefined)?.(plan, ...args) ?? 0;
}

/** The rule for a run on a GPU. */
export function cudaScratch(): ScratchRule {
  return () => 0;
}
