// SPDX-License-Identifier: Apache-2.0
// The cases of every op, with the edges at which kernels break: nothing, one, around each vector width, no multiple of
// anything, enough for many threads. Both values of every flag, every storage type.
import { attentionTables } from './cases-attention.js';
import { formatTables } from './cases-formats.js';
import { linearTables } from './cases-linear.js';
import {
  assignedOrAdded,
  given,
  type OpName,
  type OpTable,
  type Tolerance,
  table,
  updated,
  written,
} from './op-table.js';

/** Element counts around the vector widths 4, 8 and 16, and one that several threads share. */
const lengths = [0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 65, 1000, 100_003].map((n) => ({ n }));

const exact: Tolerance = { error: 0, floor: 0, reason: 'moves or adds values in one way only' };

const rows = [
  { M: 0, C: 8 },
  { M: 1, C: 1 },
  { M: 2, C: 3 },
  { M: 3, C: 15 },
  { M: 5, C: 16 },
  { M: 4, C: 17 },
  { M: 7, C: 63 },
  { M: 33, C: 64 },
  { M: 9, C: 65 },
  { M: 130, C: 288 },
  { M: 37, C: 2048 },
];

const rope = [
  { M: 0, H: 2, D: 8, P: 4 },
  { M: 1, H: 1, D: 2, P: 1 },
  { M: 5, H: 3, D: 6, P: 9 },
  { M: 4, H: 2, D: 16, P: 12 },
  { M: 3, H: 2, D: 34, P: 5 },
  { M: 70, H: 8, D: 128, P: 80 },
];
const ropeTable: OpTable = table({
  shapes: rope,
  typical: { M: 512, H: 32, D: 128, P: 2048 },
  make: ({ M, H, D, P }, random) => {
    const cosinesAndSines = new Float32Array(P * D);
    for (let p = 0; p < P; p++) {
      for (let d = 0; d < D / 2; d++) {
        const angle = p * 10000 ** ((-2 * d) / D);
        cosinesAndSines[p * D + d] = Math.cos(angle);
        cosinesAndSines[p * D + D / 2 + d] = Math.sin(angle);
      }
    }
    return {
      x: updated(random.normal(M * H * D)),
      table: given(cosinesAndSines),
      positions: given(random.integers(M, 0, P)),
      M,
      H,
      D,
      P,
    };
  },
  tolerance: { error: 2e-7, floor: 1, reason: 'two products and a sum of values of about 1, each rounded to 2^-24' },
});

const dropout = lengths.flatMap(({ n }) => [
  { n, p: 0, seed: 1, accumulate: n % 2 },
  { n, p: 0.25, seed: 2 ** 53 - 1, accumulate: 1 - (n % 2) },
]);
const dropoutTolerance: Tolerance = {
  error: 5e-7,
  floor: 1,
  reason: '1/(1-p) is rounded before the product; which elements are kept is exact',
};

const adamwShapes = lengths.flatMap(({ n }) => [
  { n, step: 1, weightDecay: 0.01 },
  { n, step: 1000, weightDecay: 0 },
]);

const adamwSettings = (step: number, weightDecay: number) => ({
  learning_rate: 1e-2,
  beta1: 0.9,
  beta2: 0.999,
  eps: 1e-8,
  weight_decay: weightDecay,
  step,
  grad_scale: 0.75,
});

export const opTables: Record<OpName, OpTable> = {
  ...linearTables,
  ...attentionTables,
  ...formatTables,

  embeddingForward: table({
    shapes: rows.flatMap(({ M, C }, i) => ({ M, V: i + 2, C, type: i % 3 })),
    typical: { M: 512, V: 32000, C: 4096, type: 1 },
    make: ({ M, V, C, type }, random) => ({
      out: written(M * C),
      ids: given(random.integers(M, 0, V)),
      weight: given(random.stored(V * C, type)),
      weight_type: type,
      M,
      V,
      C,
    }),
    tolerance: exact,
  }),
  embeddingBackward: table({
    shapes: rows.map(({ M, C }, i) => ({ M, V: i + 2, C })),
    typical: { M: 512, V: 32000, C: 288 },
    make: ({ M, V, C }, random) => ({
      dweight: updated(random.normal(V * C)),
      dout: given(random.normal(M * C)),
      ids: given(random.integers(M, 0, V)),
      M,
      V,
      C,
    }),
    tolerance: { error: 2e-6, floor: 'rms', reason: 'an id repeats some twenty times; each sum is rounded to f32' },
  }),

  rmsnormForward: table({
    shapes: rows.map((shape, i) => ({ ...shape, eps: i % 2 ? 1e-5 : 1e-6 })),
    typical: { M: 512, C: 4096, eps: 1e-5 },
    make: ({ M, C, eps }, random) => ({
      out: written(M * C),
      rstd: written(M),
      inp: given(random.normal(M * C, 3)),
      weight: given(random.normal(C)),
      M,
      C,
      eps,
    }),
    tolerance: { error: 5e-7, floor: 0, reason: 'a sum of squares has no cancellation; then three roundings' },
  }),
  rmsnormBackward: table({
    shapes: rows.flatMap((shape) => [
      { ...shape, frozen: 0, accumulate: 0 },
      { ...shape, frozen: 1, accumulate: 1 },
    ]),
    typical: { M: 512, C: 4096, frozen: 1, accumulate: 1 },
    make: ({ M, C, frozen, accumulate }, random) => ({
      dinp: assignedOrAdded(M * C, accumulate, random),
      dweight: updated(random.normal(frozen ? 0 : C)),
      dout: given(random.normal(M * C)),
      inp: given(random.normal(M * C, 3)),
      rstd: given(random.uniform(M, 0.2, 0.5)),
      weight: given(random.normal(C)),
      M,
      C,
      accumulate,
    }),
    tolerance: { error: 2e-6, floor: 'rms', reason: 'sums over C (dinp) and M (dweight) with cancellation' },
  }),

  ropeForward: ropeTable,
  ropeBackward: ropeTable,

  swigluForward: table({
    shapes: lengths,
    typical: { n: 512 * 11008 },
    make: ({ n }, random) => ({
      out: written(n),
      gate: given(random.normal(n, 30)), // far into both tails of the exponential
      up: given(random.normal(n)),
      n,
    }),
    aliases: [
      ['out', 'gate'],
      ['out', 'up'],
    ],
    tolerance: { error: 6e-7, floor: 1e-30, reason: 'exp within 2 units in the last place, then four roundings' },
  }),
  swigluBackward: table({
    shapes: lengths,
    typical: { n: 512 * 11008 },
    make: ({ n }, random) => ({
      dgate: written(n),
      dup: written(n),
      dout: given(random.normal(n)),
      gate: given(random.normal(n, 5)),
      up: given(random.normal(n)),
      n,
    }),
    aliases: [
      ['dgate', 'gate'],
      ['dup', 'up'],
    ],
    tolerance: { error: 2e-6, floor: 0.1, reason: '1 + g·(1-σ) cancels near g = -1.28, where silu turns' },
  }),

  dropoutForward: table({
    shapes: dropout,
    typical: { n: 512 * 4096, p: 0.05, seed: 7, accumulate: 0 },
    make: ({ n, p, seed }, random) => ({ out: written(n), inp: given(random.normal(n)), n, p, seed }),
    aliases: [['out', 'inp']],
    tolerance: dropoutTolerance,
  }),
  dropoutBackward: table({
    shapes: dropout,
    typical: { n: 512 * 4096, p: 0.05, seed: 7, accumulate: 1 },
    make: ({ n, p, seed, accumulate }, random) => ({
      dinp: assignedOrAdded(n, accumulate, random),
      dout: given(random.normal(n)),
      n,
      p,
      seed,
      accumulate,
    }),
    tolerance: dropoutTolerance,
  }),

  add: table({
    shapes: lengths,
    typical: { n: 512 * 4096 },
    make: ({ n }, random) => ({ out: updated(random.normal(n)), inp: given(random.normal(n)), n }),
    tolerance: exact,
  }),
  copy: table({
    shapes: lengths,
    typical: { n: 512 * 4096 },
    make: ({ n }, random) => ({ out: written(n), inp: given(random.normal(n)), n }),
    tolerance: exact,
  }),
  fill: table({
    shapes: lengths,
    typical: { n: 512 * 4096 },
    make: ({ n }, random) => ({ out: written(n), value: random.next(), n }),
    tolerance: exact,
  }),
  sum: table({
    shapes: lengths,
    typical: { n: 512 * 4096 },
    make: ({ n }, random) => ({ out: updated(random.normal(1)), inp: given(random.normal(n)), n }),
    tolerance: { error: 1e-7, floor: 1e-6, reason: 'summed in double, rounded once; the double sums differ by order' },
  }),
  sumOfSquares: table({
    shapes: lengths,
    typical: { n: 512 * 4096 },
    make: ({ n }, random) => ({ out: written(1), inp: given(random.normal(n)), n }),
    tolerance: { error: 1e-7, floor: 0, reason: 'summed in double, rounded once' },
  }),

  adamw: table({
    shapes: adamwShapes,
    typical: { n: 4_000_000, step: 10, weightDecay: 0.01 },
    make: ({ n, step, weightDecay }, random) => ({
      param: updated(random.normal(n)),
      grad: given(random.normal(n)),
      m: updated(random.normal(n, 0.1)),
      v: updated(random.uniform(n, 0, 0.01)),
      n,
      ...adamwSettings(step, weightDecay),
    }),
    tolerance: { error: 1e-6, floor: 0.1, reason: 'two terms of about 0.3 cancel in m; ten f32 roundings' },
  }),
  adamw8bit: table({
    shapes: [0, 1, 17, 255, 256, 257, 4148, 20_000].flatMap((n) => [
      { n, step: 1, weightDecay: 0.01 },
      { n, step: 1000, weightDecay: 0 },
    ]),
    typical: { n: 4_000_000, step: 10, weightDecay: 0.01 },
    make: ({ n, step, weightDecay }, random) => {
      const blocks = Math.ceil(n / 256);
      return {
        param: updated(random.normal(n)),
        grad: given(random.normal(n).fill(0, 512, 768)), // a block that stays without gradient
        m: updated(random.bytes(n).fill(127, 512, 768)),
        v: updated(random.bytes(n).fill(0, 512, 768)),
        m_absmax: updated(random.uniform(blocks, 0.1, 1)),
        v_absmax: updated(random.uniform(blocks, 0.001, 0.1)),
        n,
        ...adamwSettings(step, weightDecay),
      };
    },
    tolerance: {
      error: 1e-5,
      floor: 0.1,
      codes: 0.002,
      reason: 'a small v magnifies the roundings of m; a value on the boundary of two codes takes either',
    },
  }),
};
