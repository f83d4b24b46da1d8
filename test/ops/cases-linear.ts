// SPDX-License-Identifier: Apache-2.0
// Matrix products: dense and NF4 linears and the fused head. Sizes stand around register tiles (14×32, 6×16) and blocks of
// quantisation; every storage type, compute type and flag.
import { assignedOrAdded, given, type OpTable, type Tolerance, table, updated, written } from './op-table.js';
import type { Random } from './random.js';

const products = [
  { M: 0, N: 4, K: 4 },
  { M: 3, N: 0, K: 4 },
  { M: 3, N: 4, K: 0 },
  { M: 1, N: 1, K: 1 },
  { M: 1, N: 33, K: 65 },
  { M: 2, N: 5, K: 3 },
  { M: 13, N: 31, K: 15 },
  { M: 14, N: 32, K: 16 },
  { M: 15, N: 33, K: 17 },
  { M: 6, N: 16, K: 8 },
  { M: 7, N: 17, K: 9 },
  { M: 29, N: 65, K: 64 },
  { M: 33, N: 96, K: 127 },
  { M: 1, N: 200, K: 300 },
  { M: 50, N: 130, K: 2100 }, // beyond one block of K
  { M: 150, N: 64, K: 96 },
  { M: 16, N: 300, K: 128 },
  { M: 1, N: 33, K: 288 }, // up to four rows of whole spans of 32 are not packed
  { M: 2, N: 70, K: 64 },
  { M: 3, N: 40, K: 96 },
  { M: 4, N: 9, K: 352 },
  { M: 70, N: 5, K: 33 }, // fewer columns than rows: transposed
  { M: 200, N: 20, K: 600 },
];
const typicalProduct = { M: 512, N: 4096, K: 4096, R: 0 };

/** Ranks of what is added: none, odd ones, whole tiles and more than one. */
const ranks = [0, 5, 16, 64, 70];
const LOW_ALPHA = 0.25;

/** Both values of each flag, without all their combinations: shape i takes the i-th of a cycle of six. */
const withSettings = <S>(shapes: S[]) =>
  shapes.flatMap((shape, i) =>
    [0, 1].map((compute) => ({
      ...shape,
      R: ranks[i % ranks.length]!,
      type: i % 3,
      alpha: i % 2 ? 0.5 : 1,
      accumulate: Math.floor(i / 2) % 2,
      compute,
    })),
  );

const f32Sums: Tolerance = {
  error: 3e-6,
  floor: 'rms',
  reason:
    'f32 sums of up to 2100 products in another order; rounding to bf16, where asked for, is the same on both sides',
};

function nf4Weight(N: number, K: number, nested: number, random: Random) {
  const blocks = Math.ceil((N * K) / 64);
  return {
    codes: given(random.bytes(Math.ceil((N * K) / 2))),
    absmax_codes: given(nested ? random.bytes(blocks) : new Uint8Array(0)),
    absmax: given(random.uniform(nested ? Math.ceil(blocks / 256) : blocks, 0.5, 1)),
    absmax_offset: nested ? 1.25 : 0,
  };
}
const nf4Shapes = products.flatMap((shape, i) =>
  [0, 1].map((compute) => ({
    ...shape,
    R: ranks[i % ranks.length]!,
    nested: (i + compute) % 2,
    accumulate: Math.floor(i / 2) % 2,
    compute,
  })),
);
const typicalNf4 = { ...typicalProduct, nested: 1, accumulate: 0, compute: 1 };

const heads = [
  { M: 0, V: 5, C: 4 },
  { M: 1, V: 1, C: 1 },
  { M: 3, V: 2, C: 7 },
  { M: 13, V: 31, C: 16 },
  { M: 14, V: 33, C: 17 },
  { M: 40, V: 257, C: 64 },
  { M: 70, V: 1000, C: 96 },
];
const headShapes = heads.flatMap((shape, i) => [0, 1].map((compute) => ({ ...shape, type: i % 3, compute })));

function makeLabels(M: number, V: number, random: Random): Int32Array {
  // A fifth of the rows, and the first one, have no target.
  return random.integers(M, 0, V).map((label, m) => (m === 0 || random.next() < 0.2 ? -100 : label));
}

export const linearTables = {
  linearForward: table({
    shapes: withSettings(products),
    typical: { ...typicalProduct, type: 1, alpha: 1, accumulate: 0, compute: 1 },
    make: ({ M, N, K, R, type, alpha, accumulate, compute }, random) => ({
      out: assignedOrAdded(M * N, accumulate, random),
      inp: given(random.normal(M * K)),
      weight: given(random.stored(N * K, type)),
      weight_type: type,
      low: given(random.normal(M * R)),
      factor: given(random.normal(N * R)),
      M,
      N,
      K,
      R,
      alpha,
      low_alpha: LOW_ALPHA,
      accumulate,
      compute,
    }),
    tolerance: f32Sums,
  }),
  linearBackward: table({
    shapes: withSettings(products),
    typical: { ...typicalProduct, type: 1, alpha: 1, accumulate: 0, compute: 1 },
    make: ({ M, N, K, R, type, alpha, accumulate, compute }, random) => ({
      dinp: assignedOrAdded(M * K, accumulate, random),
      dout: given(random.normal(M * N)),
      weight: given(random.stored(N * K, type)),
      weight_type: type,
      low: given(random.normal(M * R)),
      factor: given(random.normal(K * R)),
      M,
      N,
      K,
      R,
      alpha,
      low_alpha: LOW_ALPHA,
      accumulate,
      compute,
    }),
    tolerance: f32Sums,
  }),
  linearWeightBackward: table({
    shapes: withSettings(products),
    typical: { M: 512, N: 16, K: 4096, R: 0, type: 0, alpha: 1, accumulate: 0, compute: 1 },
    make: ({ M, N, K, alpha, compute }, random) => ({
      dweight: updated(random.normal(N * K)),
      dout: given(random.normal(M * N)),
      inp: given(random.normal(M * K)),
      M,
      N,
      K,
      alpha,
      compute,
    }),
    tolerance: f32Sums,
  }),
  linearNf4Forward: table({
    shapes: nf4Shapes,
    typical: typicalNf4,
    make: ({ M, N, K, R, nested, accumulate, compute }, random) => ({
      out: assignedOrAdded(M * N, accumulate, random),
      inp: given(random.normal(M * K)),
      ...nf4Weight(N, K, nested, random),
      low: given(random.normal(M * R)),
      factor: given(random.normal(N * R)),
      M,
      N,
      K,
      R,
      low_alpha: LOW_ALPHA,
      accumulate,
      compute,
    }),
    tolerance: f32Sums,
  }),
  linearNf4Backward: table({
    shapes: nf4Shapes,
    typical: typicalNf4,
    make: ({ M, N, K, R, nested, accumulate, compute }, random) => ({
      dinp: assignedOrAdded(M * K, accumulate, random),
      dout: given(random.normal(M * N)),
      ...nf4Weight(N, K, nested, random),
      low: given(random.normal(M * R)),
      factor: given(random.normal(K * R)),
      M,
      N,
      K,
      R,
      low_alpha: LOW_ALPHA,
      accumulate,
      compute,
    }),
    tolerance: f32Sums,
  }),

  crossEntropyForward: table({
    shapes: headShapes,
    typical: { M: 512, V: 32000, C: 4096, type: 1, compute: 1 },
    make: ({ M, V, C, type, compute }, random) => ({
      loss: written(M),
      inp: given(random.normal(M * C, 0.5)),
      weight: given(random.stored(V * C, type)),
      weight_type: type,
      labels: given(makeLabels(M, V, random)),
      M,
      V,
      C,
      compute,
    }),
    tolerance: { error: 2e-6, floor: 'rms', reason: 'logits of about ±8 with f32 sums over C, then a sum over V' },
  }),
  crossEntropyForwardBackward: table({
    shapes: headShapes.flatMap((shape) => [0, 1].map((frozen) => ({ ...shape, frozen }))),
    typical: { M: 512, V: 32000, C: 4096, type: 1, compute: 1, frozen: 1 },
    make: ({ M, V, C, type, compute, frozen }, random) => ({
      loss: written(M),
      dinp: written(M * C),
      dweight: updated(random.normal(frozen ? 0 : V * C)),
      inp: given(random.normal(M * C, 0.5)),
      weight: given(random.stored(V * C, type)),
      weight_type: type,
      labels: given(makeLabels(M, V, random)),
      scale: 0.125,
      M,
      V,
      C,
      compute,
    }),
    tolerance: {
      error: 4e-3,
      floor: 'rms',
      reason: 'with bf16 the rounding of a probability may fall to the neighbouring value, 2^-8 away',
    },
  }),
} satisfies Record<string, OpTable>;
