// SPDX-License-Identifier: Apache-2.0
// Every backward op, on every instruction set, against central differences of the reference's forward op: the derivative
// of Σ dout·out by each input, with dout fixed. The scheme's error falls with h⁴, so h may be large and rounding small.
// Run: npm test -- ops/gradients
import { COMPUTE_TYPE, native, STORAGE_TYPE } from '../../kernels/index.js';
import { suite } from '../support/harness.js';
import { under } from './execute.js';
import { Random } from './random.js';

const H = 2 ** -5;
/** In units of max(1, largest gradient): f32 outputs of about 1, rounded to 6e-8, differ by 2·h; ten times their noise. */
const TOLERANCE = 3e-4;
const LARGEST_SAMPLE = 48; // elements of an input that are checked

type F32 = Float32Array;

interface GradientCase {
  /** What is differentiated, under the name of its gradient. */
  inputs: Record<string, F32>;
  /** Calls the forward op; returns Σ dout·out. */
  loss(): number;
  /** Calls the backward op; returns gradients under the names of `inputs`. */
  gradients(): Record<string, F32>;
}

const dot = (a: F32, b: F32) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
const zeros = (like: F32) => new Float32Array(like.length);
/** Values that stay exact when h is added. */
const coarse = (values: F32) => values.map((value) => Math.round(value * 1024) / 1024);
const none = new Float32Array(0);

const cases: Record<string, (random: Random) => GradientCase> = {
  embeddingBackward(random) {
    const [M, V, C] = [7, 4, 5];
    const weight = coarse(random.normal(V * C));
    const ids = random.integers(M, 0, V);
    const dout = random.normal(M * C);
    return {
      inputs: { dweight: weight },
      loss() {
        const out = zeros(dout);
        native().embeddingForward(out, ids, weight, STORAGE_TYPE.f32, M, V, C);
        return dot(dout, out);
      },
      gradients() {
        const dweight = zeros(weight);
        native().embeddingBackward(dweight, dout, ids, M, V, C);
        return { dweight };
      },
    };
  },

  rmsnormBackward(random) {
    const [M, C, eps] = [3, 17, 1e-5];
    const inp = coarse(random.normal(M * C));
    const weight = coarse(random.normal(C));
    const dout = random.normal(M * C);
    const rstd = new Float32Array(M);
    const forward = () => {
      const out = zeros(inp);
      native().rmsnormForward(out, rstd, inp, weight, M, C, eps);
      return out;
    };
    return {
      inputs: { dinp: inp, dweight: weight },
      loss: () => dot(dout, forward()),
      gradients() {
        const [dinp, dweight] = [zeros(inp), zeros(weight)];
        forward();
        native().rmsnormBackward(dinp, dweight, dout, inp, rstd, weight, M, C, 0);
        return { dinp, dweight };
      },
    };
  },

  ropeBackward(random) {
    const [M, heads, D, P] = [4, 2, 6, 9];
    const x = coarse(random.normal(M * heads * D));
    const dout = random.normal(x.length);
    const table = new Float32Array(P * D);
    for (let i = 0; i < P * D; i++) {
      const angle = Math.floor(i / D) / (1 + (i % (D / 2)));
      table[i] = i % D < D / 2 ? Math.cos(angle) : Math.sin(angle);
    }
    const positions = random.integers(M, 0, P);
    return {
      inputs: { dx: x },
      loss() {
        const out = x.slice();
        native().ropeForward(out, table, positions, M, heads, D, P);
        return dot(dout, out);
      },
      gradients() {
        const dx = dout.slice();
        native().ropeBackward(dx, table, positions, M, heads, D, P);
        return { dx };
      },
    };
  },

  attentionBackward(random) {
    const [B, T, Hq, Hkv, D] = [2, 9, 4, 2, 5];
    const q = coarse(random.normal(B * T * Hq * D));
    const [k, v] = [coarse(random.normal(B * T * Hkv * D)), coarse(random.normal(B * T * Hkv * D))];
    const dout = random.normal(q.length);
    const starts = new Int32Array(B * T).map((_, i) => (i % T < 4 ? 0 : 4)); // two examples in a row
    const lse = new Float32Array(B * Hq * T);
    const forward = () => {
      const out = zeros(q);
      native().attentionForward(out, lse, q, k, v, starts, B, T, T, Hq, Hkv, D, 0);
      return out;
    };
    return {
      inputs: { dq: q, dk: k, dv: v },
      loss: () => dot(dout, forward()),
      gradients() {
        const [dq, dk, dv] = [zeros(q), zeros(k), zeros(v)];
        native().attentionBackward(dq, dk, dv, dout, q, k, v, forward(), lse, starts, B, T, Hq, Hkv, D, 0);
        return { dq, dk, dv };
      },
    };
  },

  swigluBackward(random) {
    const n = 40;
    const [gate, up] = [coarse(random.normal(n, 3)), coarse(random.normal(n))];
    const dout = random.normal(n);
    return {
      inputs: { dgate: gate, dup: up },
      loss() {
        const out = zeros(gate);
        native().swigluForward(out, gate, up, n);
        return dot(dout, out);
      },
      gradients() {
        const [dgate, dup] = [zeros(gate), zeros(up)];
        native().swigluBackward(dgate, dup, dout, gate, up, n);
        return { dgate, dup };
      },
    };
  },

  'linearBackward and linearWeightBackward'(random) {
    const [M, N, K, alpha] = [4, 5, 6, 0.75];
    const [inp, weight] = [coarse(random.normal(M * K)), coarse(random.normal(N * K))];
    const dout = random.normal(M * N);
    return {
      inputs: { dinp: inp, dweight: weight },
      loss() {
        const out = zeros(dout);
        native().linearForward(
          out,
          inp,
          weight,
          STORAGE_TYPE.f32,
          none,
          none,
          M,
          N,
          K,
          0,
          alpha,
          0,
          0,
          COMPUTE_TYPE.f32,
        );
        return dot(dout, out);
      },
      gradients() {
        const [dinp, dweight] = [zeros(inp), zeros(weight)];
        native().linearBackward(
          dinp,
          dout,
          weight,
          STORAGE_TYPE.f32,
          none,
          none,
          M,
          N,
          K,
          0,
          alpha,
          0,
          0,
          COMPUTE_TYPE.f32,
        );
        native().linearWeightBackward(dweight, dout, inp, M, N, K, alpha, COMPUTE_TYPE.f32);
        return { dinp, dweight };
      },
    };
  },

  'linearBackward with the low-rank product of a LoRA'(random) {
    const [M, N, K, R, scale] = [4, 5, 6, 3, 0.75];
    const [inp, weight] = [coarse(random.normal(M * K)), coarse(random.normal(N * K))];
    const [A, B] = [coarse(random.normal(R * K)), coarse(random.normal(N * R))];
    const dout = random.normal(M * N);
    const [f32, compute] = [STORAGE_TYPE.f32, COMPUTE_TYPE.f32];
    return {
      inputs: { dinp: inp },
      loss() {
        const [out, low] = [zeros(dout), new Float32Array(M * R)];
        native().linearForward(low, inp, A, f32, none, none, M, R, K, 0, 1, 0, 0, compute);
        native().linearForward(out, inp, weight, f32, low, B, M, N, K, R, 1, scale, 0, compute);
        return dot(dout, out);
      },
      gradients() {
        const [dinp, dlow] = [zeros(inp), new Float32Array(M * R)];
        native().linearBackward(dlow, dout, B, f32, none, none, M, N, R, 0, scale, 0, 0, compute);
        native().linearBackward(dinp, dout, weight, f32, dlow, A, M, N, K, R, 1, 1, 0, compute);
        return { dinp };
      },
    };
  },

  linearNf4Backward(random) {
    const [M, N, K] = [3, 7, 21]; // blocks of 64 straddle rows
    const inp = coarse(random.normal(M * K));
    const dout = random.normal(M * N);
    const codes = random.bytes(Math.ceil((N * K) / 2));
    const absmaxCodes = random.bytes(Math.ceil((N * K) / 64));
    const nested = Float32Array.of(0.5);
    return {
      inputs: { dinp: inp },
      loss() {
        const out = zeros(dout);
        native().linearNf4Forward(
          out,
          inp,
          codes,
          absmaxCodes,
          nested,
          1,
          none,
          none,
          M,
          N,
          K,
          0,
          0,
          0,
          COMPUTE_TYPE.f32,
        );
        return dot(dout, out);
      },
      gradients() {
        const dinp = zeros(inp);
        native().linearNf4Backward(
          dinp,
          dout,
          codes,
          absmaxCodes,
          nested,
          1,
          none,
          none,
          M,
          N,
          K,
          0,
          0,
          0,
          COMPUTE_TYPE.f32,
        );
        return { dinp };
      },
    };
  },

  dropoutBackward(random) {
    const [n, p, seed] = [40, 0.4, 99];
    const inp = coarse(random.normal(n));
    const dout = random.normal(n);
    return {
      inputs: { dinp: inp },
      loss() {
        const out = zeros(inp);
        native().dropoutForward(out, inp, n, p, seed);
        return dot(dout, out);
      },
      gradients() {
        const dinp = zeros(inp);
        native().dropoutBackward(dinp, dout, n, p, seed, 0);
        return { dinp };
      },
    };
  },

  crossEntropyForwardBackward(random) {
    const [M, V, C, scale] = [4, 9, 5, 0.5];
    const [inp, weight] = [coarse(random.normal(M * C)), coarse(random.normal(V * C))];
    const labels = Int32Array.of(3, -100, 0, 8);
    return {
      inputs: { dinp: inp, dweight: weight },
      loss() {
        const loss = new Float32Array(M);
        native().crossEntropyForward(loss, inp, weight, STORAGE_TYPE.f32, labels, M, V, C, COMPUTE_TYPE.f32);
        return dot(loss, new Float32Array(M).fill(scale));
      },
      gradients() {
        const [loss, dinp, dweight] = [new Float32Array(M), zeros(inp), zeros(weight)];
        const type = STORAGE_TYPE.f32;
        native().crossEntropyForwardBackward(
          loss,
          dinp,
          dweight,
          inp,
          weight,
          type,
          labels,
          scale,
          M,
          V,
          C,
          COMPUTE_TYPE.f32,
        );
        return { dinp, dweight };
      },
    };
  },
};

/** ∂loss/∂input[i], its error of the order of h⁴. */
function centralDifference(loss: () => number, input: F32, i: number): number {
  const middle = input[i]!;
  const at = (steps: number) => {
    input[i] = middle + steps * H;
    return loss();
  };
  const slope = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * H);
  input[i] = middle;
  return slope;
}

const test = suite('ops: gradients');

for (const [name, make] of Object.entries(cases)) {
  test(name, () => {
    const subject = make(new Random(name.length));
    const expected = under('reference', 1, () =>
      Object.entries(subject.inputs).map(([gradient, input]) => {
        const stride = Math.ceil(input.length / LARGEST_SAMPLE);
        const indices = Array.from({ length: Math.floor((input.length - 1) / stride) + 1 }, (_, i) => i * stride);
        return { gradient, slopes: indices.map((i) => ({ i, want: centralDifference(subject.loss, input, i) })) };
      }),
    );
    for (const set of native().instructionSets()) {
      const got = under(set, 1, subject.gradients);
      for (const { gradient, slopes } of expected) {
        const unit = Math.max(1, ...slopes.map(({ want }) => Math.abs(want)));
        for (const { i, want } of slopes) {
          const error = Math.abs(got[gradient]![i]! - want) / unit;
          if (!(error <= TOLERANCE)) {
            const found = `got ${got[gradient]![i]}, differences say ${want}, error ${error} in units of ${unit}`;
            throw new Error(`${name} on ${set}: ${gradient}[${i}]: ${found}, allowed ${TOLERANCE}`);
          }
        }
      }
    }
  });
}
