// SPDX-License-Identifier: Apache-2.0
// Attention: every shape with plain causal rows, with packed segments and with padding in front; query heads that share a
// key-value head; queries fewer than keys, as with a key-value cache.
import { native } from '../../kernels/index.js';
import { given, type OpTable, table, written } from './op-table.js';
import type { Random } from './random.js';

/** How `starts` is filled: 0 all keys, 1 packed segments, 2 padding in front (a padded query sees itself alone), 3 all but key 0. */
const CAUSAL = 0;
const PACKED = 1;
const PADDED = 2;
const SECOND = 3;

function makeStarts(B: number, Tq: number, Tk: number, mask: number, random: Random): Int32Array {
  const starts = new Int32Array(B * Tq);
  for (let b = 0; b < B; b++) {
    const padding = random.integer(0, Tk);
    let segment = 0;
    for (let position = 0; position < Tk; position++) {
      if (mask === PACKED && random.next() < 4 / Tk) segment = position;
      const t = position - (Tk - Tq);
      if (t < 0) continue;
      const first = mask === PADDED ? padding : mask === SECOND ? 1 : segment;
      starts[b * Tq + t] = Math.min(first, position);
    }
  }
  return starts;
}

const sizes = [
  { B: 0, T: 4, Hq: 2, Hkv: 1, D: 8 },
  { B: 2, T: 0, Hq: 2, Hkv: 2, D: 8 },
  { B: 1, T: 1, Hq: 1, Hkv: 1, D: 1 },
  { B: 2, T: 3, Hq: 3, Hkv: 1, D: 5 },
  { B: 2, T: 33, Hq: 4, Hkv: 2, D: 16 },
  { B: 1, T: 47, Hq: 6, Hkv: 2, D: 24 },
  { B: 1, T: 48, Hq: 2, Hkv: 2, D: 32 },
  { B: 1, T: 65, Hq: 2, Hkv: 1, D: 80 },
  { B: 1, T: 129, Hq: 3, Hkv: 3, D: 130 },
  { B: 1, T: 50, Hq: 1, Hkv: 1, D: 260 },
  { B: 1, T: 300, Hq: 4, Hkv: 2, D: 64 },
  { B: 1, T: 530, Hq: 2, Hkv: 1, D: 20 }, // long enough for the backward pass to part the keys
];
const masked = <S>(shapes: S[]) =>
  shapes.flatMap((shape) =>
    [CAUSAL, PACKED, PADDED, SECOND].flatMap((mask) => [0, 1].map((compute) => ({ ...shape, mask, compute }))),
  );

/** `count` normal values; with `compute` 1 of 8 significant bits, as bf16 has. */
function normal(count: number, compute: number, random: Random): Float32Array {
  const values = random.normal(count);
  const bits = new Uint32Array(values.buffer);
  if (compute === 1) for (let i = 0; i < count; i++) bits[i] = bits[i]! & 0xffff0000;
  return values;
}

const cached = [
  { B: 1, Tq: 1, Tk: 1, Hq: 2, Hkv: 1, D: 7 },
  { B: 2, Tq: 1, Tk: 130, Hq: 4, Hkv: 2, D: 64 },
  { B: 3, Tq: 1, Tk: 37, Hq: 3, Hkv: 3, D: 20 },
  { B: 1, Tq: 5, Tk: 90, Hq: 8, Hkv: 1, D: 16 },
  { B: 2, Tq: 60, Tk: 200, Hq: 2, Hkv: 2, D: 48 },
  { B: 1, Tq: 40, Tk: 102, Hq: 2, Hkv: 1, D: 32 }, // the first query sees all but the last of 64 keys
  { B: 1, Tq: 2, Tk: 700, Hq: 2, Hkv: 1, D: 40 }, // a GPU parts the keys
];

export const attentionTables = {
  attentionForward: table({
    shapes: masked([...sizes.map(({ T, ...rest }) => ({ Tq: T, Tk: T, ...rest })), ...cached]),
    typical: { B: 1, Tq: 512, Tk: 512, Hq: 32, Hkv: 32, D: 128, mask: CAUSAL, compute: 1 },
    make: ({ B, Tq, Tk, Hq, Hkv, D, mask, compute }, random) => ({
      out: written(B * Tq * Hq * D),
      lse: written(B * Hq * Tq),
      q: given(normal(B * Tq * Hq * D, compute, random)),
      k: given(normal(B * Tk * Hkv * D, compute, random)),
      v: given(normal(B * Tk * Hkv * D, compute, random)),
      starts: given(makeStarts(B, Tq, Tk, mask, random)),
      B,
      Tq,
      Tk,
      Hq,
      Hkv,
      D,
      compute,
    }),
    tolerance: { error: 3e-6, floor: 1, reason: 'scores of about ±3 from f32 sums over D, then sums over the keys' },
  }),
  attentionBackward: table({
    shapes: masked(sizes),
    typical: { B: 1, T: 512, Hq: 32, Hkv: 32, D: 128, mask: CAUSAL, compute: 1 },
    make: ({ B, T, Hq, Hkv, D, mask, compute }, random) => {
      const [q, dout] = [normal(B * T * Hq * D, compute, random), normal(B * T * Hq * D, compute, random)];
      const [k, v] = [normal(B * T * Hkv * D, compute, random), normal(B * T * Hkv * D, compute, random)];
      const starts = makeStarts(B, T, T, mask, random);
      const [out, lse] = [new Float32Array(B * T * Hq * D), new Float32Array(B * Hq * T)];
      native().attentionForward(out, lse, q, k, v, starts, B, T, T, Hq, Hkv, D, 0);
      return {
        dq: written(B * T * Hq * D),
        dk: written(B * T * Hkv * D),
        dv: written(B * T * Hkv * D),
        dout: given(dout),
        q: given(q),
        k: given(k),
        v: given(v),
        out: given(out),
        lse: given(lse),
        starts: given(starts),
        B,
        T,
        Hq,
        Hkv,
        D,
        compute,
      };
    },
    tolerance: {
      error: 1e-5,
      floor: 1,
      reason: 'dP - Σ P·dP cancels, each of about √D; then sums over keys or queries and heads',
    },
  }),
} satisfies Record<string, OpTable>;
