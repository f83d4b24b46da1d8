// SPDX-License-Identifier: Apache-2.0
// What native kernels hold for themselves while they run, for plans: which of the shapes of a call decides it. The
// formulas are the kernels' own.
import {
  attentionScratch,
  CUBLASLT_LEAST,
  crossEntropyScratch,
  heldScratch,
  linearScratch,
  type Pattern,
  rmsnormScratch,
  ScratchPlan,
  type StoredAs,
} from '../../kernels/index.js';
import {
  type Dense,
  type F32,
  type LinearOptions,
  lastOf,
  type OpName,
  type Ops,
  rowsOf,
  type Weight,
} from './device.js';
import type { ScratchRule } from './plan.js';

type Need<Op extends OpName> = (plan: ScratchPlan, ...args: Parameters<Ops[Op]>) => number;

/** The product of rows (M,·) with a weight (N,K), then that with a low-rank factor. */
function linear(plan: ScratchPlan, rows: F32, { shape }: Pick<Weight, 'shape'>, options: LinearOptions = {}): number {
  const [N, K] = shape as [number, number];
  if (options.lowRank) linear(plan, options.lowRank.low, options.lowRank.factor);
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
  linearForward: (plan, _out, inp, weight, options) => linear(plan, inp, weight, options),
  linearBackward: (plan, _dinp, dout, weight, options) => linear(plan, dout, weight, options),
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

/** How products are computed: `bf16` or f32, and the least size of those that go to cuBLASLt (0: none). */
interface Products {
  bf16: boolean;
  cublasLt: number;
}

type GpuNeed<Op extends OpName> = (products: Products, ...args: Parameters<Ops[Op]>) => number;

function productOnGpu(
  pattern: Pattern,
  products: Products,
  rows: F32,
  { shape, dtype }: Pick<Weight, 'shape' | 'dtype'>,
  { alpha, lowRank }: LinearOptions = {},
) {
  const [N, K] = shape as [number, number];
  const R = lowRank ? lastOf(lowRank.low.shape) : 0;
  return linearScratch(pattern, {
    rows: rowsOf(rows),
    N,
    K,
    type: dtype as StoredAs,
    R,
    alpha: alpha ?? 1,
    ...products,
  });
}

function attentionShape(q: F32, k: F32) {
  const [B, Tq, Hq, D] = q.shape as [number, number, number, number];
  return { B, Tq, Tk: k.shape[1]!, Hq, Hkv: k.shape[2]!, D };
}

function headShape(inp: F32, head: Dense) {
  return { M: rowsOf(inp), V: head.shape[0]!, C: lastOf(inp.shape), type: head.dtype };
}

const GPU_NEEDS: { [Op in OpName]?: GpuNeed<Op> } = {
  linearForward: (products, _out, inp, weight, options) => productOnGpu('forward', products, inp, weight, options),
  linearBackward: (products, _dinp, dout, weight, options) => productOnGpu('backward', products, dout, weight, options),
  linearWeightBackward: (products, dweight, dout) => productOnGpu('weight', products, dout, dweight),
  attentionForward: ({ bf16 }, _out, _lse, q, k) => attentionScratch('forward', attentionShape(q, k), bf16),
  attentionBackward: ({ bf16 }, _dq, _dk, _dv, _dout, q, k) => attentionScratch('backward', attentionShape(q, k), bf16),
  crossEntropyForward: ({ bf16 }, _loss, inp, head) =>
    crossEntropyScratch(headShape(inp, head), { bf16, gradients: false, trains: false }),
  crossEntropyForwardBackward: ({ bf16 }, _loss, _dinp, dweight, inp, head) =>
    crossEntropyScratch(headShape(inp, head), { bf16, gradients: true, trains: dweight !== undefined }),
  rmsnormBackward: (_products, _dinp, dweight, dout) =>
    dweight ? rmsnormScratch(rowsOf(dout), lastOf(dout.shape)) : 0,
};

/**
 * The rule for a run on a GPU. It remembers the largest need so far: one rule for the plans of one run.
 * @param cublasLt large products go to cuBLASLt
 */
export function cudaScratch(cublasLt = false): ScratchRule {
  const least = cublasLt ? CUBLASLT_LEAST : 0;
  let largest = 0;
  return (op, args, compute) => {
    const need =
      (GPU_NEEDS[op] as GpuNeed<typeof op> | undefined)?.({ bf16: compute === 'bf16', cublasLt: least }, ...args) ?? 0;
    largest = Math.max(largest, need);
    return heldScratch(largest);
  };
}
