// SPDX-License-Identifier: Apache-2.0
// Scratch memory of matrix products: the formula that plans are made with bounds what is held, closely, on every
// instruction set; and a want of memory is an error of the call, after which the addon still works.
import * as assert from 'uvu/assert';
import { native, ScratchPlan, STORAGE_TYPE } from '../kernels/index.js';
import { suite } from './support/harness.js';

const test = suite('scratch');
const addon = native();

const NO_CODES = new Uint8Array(0);
const none = new Float32Array(0);

function linear(M: number, N: number, K: number, compute: number): void {
  const [inp, out] = [new Float32Array(M * K), new Float32Array(M * N)];
  const codes = new Uint8Array(Math.ceil((N * K) / 2));
  const absmax = new Float32Array(Math.ceil((N * K) / 64));
  addon.linearNf4Forward(out, inp, codes, NO_CODES, absmax, 0, none, none, M, N, K, 0, 0, 0, compute);
  addon.linearNf4Backward(inp, out, codes, NO_CODES, absmax, 0, none, none, M, N, K, 0, 0, 0, compute);
}

function lowRank(M: number, R: number, K: number, compute: number): void {
  const [inp, out, weight] = [new Float32Array(M * K), new Float32Array(M * R), new Float32Array(R * K)];
  addon.linearForward(out, inp, weight, STORAGE_TYPE.f32, none, none, M, R, K, 0, 1, 0, 0, compute);
  addon.linearBackward(inp, out, weight, STORAGE_TYPE.f32, none, none, M, R, K, 0, 1, 0, 1, compute);
  addon.linearWeightBackward(weight, out, inp, M, R, K, 1, compute);
}

function crossEntropy(M: number, V: number, C: number, compute: number): void {
  const [loss, inp, dinp] = [new Float32Array(M), new Float32Array(M * C), new Float32Array(M * C)];
  const [weight, dweight] = [new Float32Array(V * C), new Float32Array(V * C)];
  const labels = Int32Array.from({ length: M }, (_, m) => (m % 5 ? m % V : -100));
  addon.crossEntropyForwardBackward(loss, dinp, dweight, inp, weight, STORAGE_TYPE.f32, labels, 1, M, V, C, compute);
}

/** Runs `body` with nothing held before, on every instruction set, both compute types and several numbers of threads. */
function everywhere(body: (compute: number, threads: number) => void): void {
  const before = { set: addon.instructionSet(), threads: addon.threads() };
  try {
    for (const set of addon.instructionSets()) {
      if (set === 'reference') continue;
      addon.selectInstructionSet(set);
      for (const threads of [1, 3]) {
        addon.setThreads(threads);
        for (const compute of [0, 1]) {
          addon.releaseScratch();
          body(compute, threads);
        }
      }
    }
  } finally {
    addon.selectInstructionSet(before.set);
    addon.setThreads(before.threads);
    addon.releaseScratch();
  }
}

/** Planned may exceed held by half (bf16 pairs, rows without a target), a large page, and panels that one row leaves out. */
function bounds(planned: number, what: string): void {
  const held = addon.scratchBytes();
  assert.ok(held > 0 && held <= planned, `${what}: ${held} bytes held, ${planned} planned`);
  assert.ok(planned <= 2 * held + 2 ** 21 + addon.threads() * 2 ** 17, `${what}: ${planned} bytes planned for ${held}`);
}

const LINEAR: [number, number, number][] = [
  [1, 96, 64],
  [4, 100, 352],
  [13, 70, 33],
  [64, 300, 288],
  [130, 64, 1100],
  [64, 80, 90_000], // beyond the bound of packed A
  [8200, 80, 10], // beyond the rows that it holds
];

test('linear layers hold what the plan says', () => {
  everywhere((compute, threads) => {
    for (const [M, N, K] of LINEAR) {
      addon.releaseScratch();
      linear(M, N, K, compute);
      lowRank(M, N, K, compute);
      bounds(new ScratchPlan(threads).linear(M, N, K), `M=${M} N=${N} K=${K}`);
    }
  });
});

test('the fused head holds what the plan says', () => {
  everywhere((compute, threads) => {
    for (const [M, V, C] of [
      [1, 11, 32],
      [9, 1000, 64],
      [300, 500, 40],
      [70, 140_000, 4], // fewer rows at once than there are
    ] as const) {
      addon.releaseScratch();
      crossEntropy(M, V, C, compute);
      bounds(new ScratchPlan(threads).crossEntropy(M, V, C), `M=${M} V=${V} C=${C}`);
    }
  });
});

test('attention holds what the plan says', () => {
  const shapes: [number, number, number, number, number][] = [
    [1, 12, 2, 1, 8],
    [2, 130, 4, 2, 64],
    [1, 600, 4, 1, 32], // keys in several parts
    [1, 70, 2, 2, 160], // wider than a slab
  ];
  everywhere((_, threads) => {
    for (const [B, T, Hq, Hkv, D] of shapes) {
      addon.releaseScratch();
      const query = () => new Float32Array(B * T * Hq * D).fill(0.1);
      const key = () => new Float32Array(B * T * Hkv * D).fill(0.1);
      const [out, lse, q, k, v, starts] = [
        query(),
        new Float32Array(B * Hq * T),
        query(),
        key(),
        key(),
        new Int32Array(B * T),
      ];
      addon.attentionForward(out, lse, q, k, v, starts, B, T, T, Hq, Hkv, D, 0);
      addon.attentionBackward(query(), key(), key(), query(), q, k, v, out, lse, starts, B, T, Hq, Hkv, D, 0);
      bounds(new ScratchPlan(threads).attention(B, T, Hq, Hkv, D), `B=${B} T=${T} Hq=${Hq} Hkv=${Hkv} D=${D}`);
    }
  });
});

test('a sequence of ops holds the largest need of each slot', () => {
  everywhere((compute, threads) => {
    const plan = new ScratchPlan(threads);
    linear(64, 300, 288, compute);
    plan.linear(64, 300, 288);
    crossEntropy(40, 900, 300, compute);
    plan.crossEntropy(40, 900, 300);
    lowRank(64, 8, 300, compute);
    bounds(plan.linear(64, 8, 300), 'sequence');
  });
});

test('memory that is not to be had is an error of the call', () => {
  // A vocabulary of 2^50 over vectors of no element: no input is large, and the logits of one row are 4 PiB.
  const V = 2 ** 50;
  const none = new Float32Array(0);
  assert.throws(
    () => addon.crossEntropyForward(new Float32Array(1), none, none, STORAGE_TYPE.f32, Int32Array.of(3), 1, V, 0, 0),
    /cross_entropy_forward: .*alloc/,
  );
  const out = new Float32Array(1);
  addon.linearForward(
    out,
    Float32Array.of(2),
    Float32Array.of(3),
    STORAGE_TYPE.f32,
    none,
    none,
    1,
    1,
    1,
    0,
    1,
    0,
    0,
    0,
  );
  assert.is(out[0], 6);
});
