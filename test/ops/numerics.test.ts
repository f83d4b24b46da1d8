// SPDX-License-Identifier: Apache-2.0
// What random cases do not reach: the exponential over its whole range, scores that overflow an exponential, and NaN and
// infinity, which must show in results, since training notices them only there.
// Run: npm test -- ops/numerics
import * as assert from 'uvu/assert';
import { COMPUTE_TYPE, native, STORAGE_TYPE } from '../../kernels/index.js';
import { suite } from '../support/harness.js';
import { under } from './execute.js';
import { Random } from './random.js';

const test = suite('ops: numerics');
const sets = native().instructionSets();

test('the exponential is right to 2 units in the last place, seen through the sigmoid of swiglu', () => {
  const n = 40_000;
  const gate = Float32Array.from({ length: n }, (_, i) => -87 + (i / n) * 175); // exp(-gate) from e^87 to e^-88
  for (const set of sets) {
    const out = new Float32Array(n);
    under(set, 1, (kernels) => kernels.swigluForward(out, gate, new Float32Array(n).fill(1), n));
    let worst = 0;
    for (let i = 0; i < n; i++) {
      const want = gate[i]! / (1 + Math.exp(-gate[i]!));
      worst = Math.max(worst, Math.abs(out[i]! - want) / Math.abs(want || 1));
    }
    // Two units of exp, and half a unit each of the sum and the quotient.
    assert.ok(worst <= 3 * 2 ** -23, `${set}: relative error ${worst}`);
  }
});

test('the exponential ends in 0 and infinity, and passes NaN on', () => {
  const gate = Float32Array.of(-200, 200, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, Number.NaN);
  for (const set of sets) {
    const out = new Float32Array(5);
    under(set, 1, (kernels) => kernels.swigluForward(out, gate, new Float32Array(5).fill(1), 5));
    assert.ok(Math.abs(out[0]!) < 1e-30 && out[1] === 200 && out[3] === Number.POSITIVE_INFINITY, `${set}: ${out}`);
    assert.ok(Number.isNaN(out[4]), `${set}: NaN became ${out[4]}`);
  }
});

test('dropout draws the numbers of Philox4x32-10 and keeps what is not below p', () => {
  // The published test vector of Random123: key and counter 0.
  const words = [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8];
  for (const set of sets) {
    for (const [i, word] of words.entries()) {
      const uniform = (word >>> 8) * 2 ** -24;
      const [kept, dropped] = [uniform, uniform + 2 ** -24].map((p) => {
        const out = new Float32Array(4);
        under(set, 1, (kernels) => kernels.dropoutForward(out, new Float32Array(4).fill(1), 4, p, 0));
        return out[i]!;
      });
      assert.ok(
        Math.abs(kept! * (1 - uniform) - 1) <= 2 ** -22 && dropped === 0,
        `${set}, word ${i}: ${kept}, ${dropped}`,
      );
    }
  }
});

test('attention with scores in the thousands is a choice of the best key', () => {
  const [T, D] = [70, 16];
  const random = new Random(5);
  const q = random.normal(T * D, 60);
  const [k, v] = [random.normal(T * D, 60), random.normal(T * D)];
  const run = (set: string) => {
    const [out, lse] = [new Float32Array(T * D), new Float32Array(T)];
    under(set, 2, (kernels) => kernels.attentionForward(out, lse, q, k, v, new Int32Array(T), 1, T, T, 1, 1, D, 0));
    return { out, lse };
  };
  const want = run('reference');
  for (const set of sets) {
    const got = run(set);
    // Scores of ±10000 are rounded to 1e-3; the sum of the other keys' weights shares that error.
    for (const [i, x] of got.lse.entries())
      assert.ok(Math.abs(x - want.lse[i]!) <= 4e-7 * 1e4, `${set}: lse ${x}, want ${want.lse[i]}`);
    for (const [i, x] of got.out.entries())
      assert.ok(Math.abs(x - want.out[i]!) <= 2e-2, `${set}: out ${x}, want ${want.out[i]}`);
  }
});

test('sums show NaN and infinity wherever they stand', () => {
  for (const set of sets) {
    under(set, 2, (kernels) => {
      for (const n of [1, 7, 64, 65, 40_000]) {
        for (const place of [0, n >> 1, n - 1]) {
          const values = new Float32Array(n).fill(1);
          const out = new Float32Array(1);
          for (const [wrong, power] of [
            [Number.NaN, 1],
            [Number.POSITIVE_INFINITY, 1],
            [Number.NEGATIVE_INFINITY, 2],
          ] as const) {
            values[place] = wrong;
            kernels.sumOfSquares(out, values, n);
            assert.ok(
              Object.is(out[0], wrong * (power === 2 ? -1 : 1)),
              `${set}: Σ inp² of ${wrong} at ${place} of ${n}: ${out[0]}`,
            );
            out[0] = 1;
            kernels.sum(out, values, n);
            assert.ok(Object.is(out[0], wrong), `${set}: Σ inp of ${wrong} at ${place} of ${n}: ${out[0]}`);
          }
        }
      }
    });
  }
});

test('a NaN in an input reaches the output of every op of the model', () => {
  const [T, C, V] = [70, 32, 40];
  const random = new Random(6);
  const rotten = (n: number, at: number) => random.normal(n).fill(Number.NaN, at, at + 1);
  const weight = random.normal(V * C);
  const none = new Float32Array(0);
  for (const set of sets) {
    under(set, 2, (kernels) => {
      const nans = (values: Float32Array) => values.reduce((count, x) => count + (Number.isNaN(x) ? 1 : 0), 0);
      const inp = rotten(T * C, 5 * C + 3);
      const out = new Float32Array(T * C);
      kernels.rmsnormForward(out, new Float32Array(T), inp, random.normal(C), T, C, 1e-5);
      assert.is(nans(out), C, `${set}: rmsnorm spoils its row`);
      for (const compute of Object.values(COMPUTE_TYPE)) {
        const product = new Float32Array(T * V);
        kernels.linearForward(product, inp, weight, STORAGE_TYPE.f32, none, none, T, V, C, 0, 1, 0, 0, compute);
        assert.is(nans(product), V, `${set}: linear spoils its row`);
        const loss = new Float32Array(T);
        kernels.crossEntropyForward(loss, inp, weight, STORAGE_TYPE.f32, random.integers(T, 0, V), T, V, C, compute);
        assert.is(nans(loss), 1, `${set}: cross-entropy spoils its row`);
      }
      // As keys of one head of width C: the rows from 5 on see it.
      const starts = new Int32Array(T);
      kernels.attentionForward(
        out,
        new Float32Array(T),
        random.normal(T * C),
        inp,
        random.normal(T * C),
        starts,
        1,
        T,
        T,
        1,
        1,
        C,
        0,
      );
      assert.is(nans(out), (T - 5) * C, `${set}: attention spoils the rows that see the key, and no other`);
    });
  }
});
