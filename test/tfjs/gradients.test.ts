// SPDX-License-Identifier: Apache-2.0
// Backward ops against autograd: TensorFlow.js derives each forward formula by itself (`tf.grads`), and the gradients must be
// those of the scalar reference, of every instruction set, and of the tfjs device's own backward, all written by hand.
// Run: npm test -- tfjs/gradients
import '@tensorflow/tfjs-layers'; // registers the gradients of tfjs-core's ops, which alone has none under Node
import * as assert from 'uvu/assert';
import { attentionForward } from '../../engine/device/tfjs/attention.js';
import {
  dropout,
  embeddingForward,
  rmsnormForward,
  rope,
  swigluForward,
} from '../../engine/device/tfjs/elementwise.js';
import { linearForward } from '../../engine/device/tfjs/linear.js';
import type { T, Tf } from '../../engine/device/tfjs/memory.js';
import { keepMask } from '../../engine/device/tfjs/philox.js';
import { native } from '../../kernels/index.js';
import { difference, execute, under } from '../ops/execute.js';
import { type Arguments, given, type OpName, type Tolerance, updated, written } from '../ops/op-table.js';
import { Random } from '../ops/random.js';
import { suite } from '../support/harness.js';
import { executeOn } from './calls.js';
import { tensorFlow, tfjsDevice } from './device.js';

const test = suite('tfjs: gradients');

const TOLERANCE: Tolerance = {
  error: 1e-5,
  floor: 'rms',
  reason: 'each op of the derivative is rounded to f32, and sums cancel',
};

interface Case {
  op: OpName;
  /** Of the backward op. What it reads of forward's results comes from the reference. */
  args: Arguments;
  /** The forward formula, its inputs under the names of their gradients, and the gradient of what it gives. */
  inputs: Record<string, T>;
  forward(...inputs: T[]): T;
  dout: T;
}

const zeros = (n: number) => updated(new Float32Array(n));

const CASES: Record<string, (tf: Tf, random: Random) => Case> = {
  embedding(tf, random) {
    const [M, V, C] = [9, 4, 5];
    const [ids, dout] = [random.integers(M, 0, V), random.normal(M * C)];
    const rows = tf.tensor1d(ids.slice(), 'int32');
    return {
      op: 'embeddingBackward',
      args: { dweight: zeros(V * C), dout: given(dout), ids: given(ids), M, V, C },
      inputs: { dweight: tf.tensor(random.normal(V * C), [V, C]) },
      forward: (weight) => embeddingForward(tf, rows, weight!),
      dout: tf.tensor(dout.slice(), [M, C]),
    };
  },

  rmsnorm(tf, random) {
    const [M, C, eps] = [5, 33, 1e-5];
    const [inp, weight, dout] = [random.normal(M * C, 2), random.normal(C), random.normal(M * C)];
    const rstd = new Float32Array(M);
    under('reference', 1, () => native().rmsnormForward(new Float32Array(M * C), rstd, inp, weight, M, C, eps));
    return {
      op: 'rmsnormBackward',
      args: {
        dinp: written(M * C),
        dweight: zeros(C),
        dout: given(dout),
        inp: given(inp),
        rstd: given(rstd),
        weight: given(weight),
        M,
        C,
        accumulate: 0,
      },
      inputs: { dinp: tf.tensor(inp.slice(), [M, C]), dweight: tf.tensor(weight.slice(), [C]) },
      forward: (x, w) => rmsnormForward(tf, x!, w!, eps).out,
      dout: tf.tensor(dout.slice(), [M, C]),
    };
  },

  rope(tf, random) {
    const [M, H, D, P] = [6, 3, 8, 9];
    const [table, dout] = [random.uniform(P * D, -1, 1), random.normal(M * H * D)];
    const positions = random.integers(M, 0, P);
    const rows = tf.tensor1d(positions.slice(), 'int32');
    return {
      op: 'ropeBackward',
      args: { x: updated(dout), table: given(table), positions: given(positions), M, H, D, P },
      inputs: { x: tf.tensor(random.normal(M * H * D), [M, H, D]) },
      forward: (x) => rope(tf, x!, tf.tensor(table.slice(), [P, 2, D / 2]), rows, 1),
      dout: tf.tensor(dout.slice(), [M, H, D]),
    };
  },

  attention(tf, random) {
    const [B, T, Hq, Hkv, D] = [2, 11, 4, 2, 6];
    const [query, key] = [[B, T, Hq, D] as const, [B, T, Hkv, D] as const];
    const [q, dout] = [random.normal(B * T * Hq * D), random.normal(B * T * Hq * D)];
    const [k, v] = [random.normal(B * T * Hkv * D), random.normal(B * T * Hkv * D)];
    const starts = new Int32Array(B * T).map((_, i) => (i % T < 4 ? 0 : 4)); // two examples in a row
    const [out, lse] = [new Float32Array(q.length), new Float32Array(B * Hq * T)];
    under('reference', 1, () => native().attentionForward(out, lse, q, k, v, starts, B, T, T, Hq, Hkv, D, 0));
    const from = tf.tensor(Float32Array.from(starts), [B, T]);
    return {
      op: 'attentionBackward',
      args: {
        dq: written(q.length),
        dk: written(k.length),
        dv: written(v.length),
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
        compute: 0,
      },
      inputs: {
        dq: tf.tensor(q.slice(), [...query]),
        dk: tf.tensor(k.slice(), [...key]),
        dv: tf.tensor(v.slice(), [...key]),
      },
      forward: (a, b, c) => attentionForward(tf, a!, b!, c!, from).out,
      dout: tf.tensor(dout.slice(), [...query]),
    };
  },

  swiglu(tf, random) {
    const n = 60;
    const [gate, up, dout] = [random.normal(n, 3), random.normal(n), random.normal(n)];
    return {
      op: 'swigluBackward',
      args: { dgate: written(n), dup: written(n), dout: given(dout), gate: given(gate), up: given(up), n },
      inputs: { dgate: tf.tensor1d(gate.slice()), dup: tf.tensor1d(up.slice()) },
      forward: (g, u) => swigluForward(tf, g!, u!),
      dout: tf.tensor1d(dout.slice()),
    };
  },

  'linear, input'(tf, random) {
    const [M, N, K, alpha] = [5, 7, 6, 0.75];
    const [weight, dout] = [random.normal(N * K), random.normal(M * N)];
    const none = { low: given(new Float32Array(0)), factor: given(new Float32Array(0)) };
    const sizes = { M, N, K, R: 0, alpha, low_alpha: 0, accumulate: 0, compute: 0 };
    return {
      op: 'linearBackward',
      args: { dinp: written(M * K), dout: given(dout), weight: given(weight), weight_type: 0, ...none, ...sizes },
      inputs: { dinp: tf.tensor(random.normal(M * K), [M, K]) },
      forward: (x) => linearForward(tf, x!, tf.tensor(weight.slice(), [N, K]), alpha),
      dout: tf.tensor(dout.slice(), [M, N]),
    };
  },

  'linear, weight'(tf, random) {
    const [M, N, K, alpha] = [5, 7, 6, 0.75];
    const [inp, dout] = [random.normal(M * K), random.normal(M * N)];
    return {
      op: 'linearWeightBackward',
      args: { dweight: zeros(N * K), dout: given(dout), inp: given(inp), M, N, K, alpha, compute: 0 },
      inputs: { dweight: tf.tensor(random.normal(N * K), [N, K]) },
      forward: (w) => linearForward(tf, tf.tensor(inp.slice(), [M, K]), w!, alpha),
      dout: tf.tensor(dout.slice(), [M, N]),
    };
  },

  'linear over NF4'(tf, random) {
    const [M, N, K] = [4, 7, 21]; // blocks of 64 straddle rows
    const dout = random.normal(M * N);
    const [codes, absmaxCodes] = [random.bytes(Math.ceil((N * K) / 2)), random.bytes(Math.ceil((N * K) / 64))];
    const [nested, weight] = [Float32Array.of(0.5), new Float32Array(N * K)];
    under('reference', 1, () => native().nf4Dequantize(weight, codes, absmaxCodes, nested, 1, N * K));
    const parts = { codes: given(codes), absmax_codes: given(absmaxCodes), absmax: given(nested), absmax_offset: 1 };
    const none = { low: given(new Float32Array(0)), factor: given(new Float32Array(0)) };
    const sizes = { M, N, K, R: 0, low_alpha: 0, accumulate: 0, compute: 0 };
    return {
      op: 'linearNf4Backward',
      args: { dinp: written(M * K), dout: given(dout), ...parts, ...none, ...sizes },
      inputs: { dinp: tf.tensor(random.normal(M * K), [M, K]) },
      forward: (x) => linearForward(tf, x!, tf.tensor(weight.slice(), [N, K]), 1),
      dout: tf.tensor(dout.slice(), [M, N]),
    };
  },

  dropout(tf, random) {
    const [n, p, seed] = [70, 0.4, 99];
    const dout = random.normal(n);
    return {
      op: 'dropoutBackward',
      args: { dinp: written(n), dout: given(dout), n, p, seed, accumulate: 0 },
      inputs: { dinp: tf.tensor1d(random.normal(n)) },
      forward: (x) => dropout(tf, x!, tf.tensor1d(keepMask(n, p, seed), 'bool'), p),
      dout: tf.tensor1d(dout.slice()),
    };
  },

  'cross-entropy'(tf, random) {
    const [M, V, C, scale] = [6, 9, 5, 0.5];
    const [inp, weight] = [random.normal(M * C), random.normal(V * C)];
    const labels = Int32Array.of(3, 8, 0, 8, 1, 5);
    const targets = tf.oneHot(tf.tensor1d(labels.slice(), 'int32'), V, 1, 0, 'float32');
    const outputs = { loss: written(M), dinp: written(M * C), dweight: zeros(V * C) };
    const read = { inp: given(inp), weight: given(weight), weight_type: 0, labels: given(labels) };
    return {
      op: 'crossEntropyForwardBackward',
      args: { ...outputs, ...read, scale, M, V, C, compute: 0 },
      inputs: { dinp: tf.tensor(inp.slice(), [M, C]), dweight: tf.tensor(weight.slice(), [V, C]) },
      forward: (x, w) => {
        const logits = tf.matMul(x!, w!, false, true);
        return tf.sub(tf.logSumExp(logits, -1), tf.sum(tf.mul(targets, logits), -1));
      },
      dout: tf.fill([M], scale),
    };
  },
};

for (const [name, make] of Object.entries(CASES)) {
  test(name, async () => {
    const { tf } = await tensorFlow();
    const device = await tfjsDevice();
    const { op, args, inputs, forward, dout } = make(tf, new Random(name.length));
    const derived = tf.grads(forward)(Object.values(inputs), dout);
    const want = Object.keys(inputs).map((gradient, i) => [gradient, derived[i]!.dataSync() as Float32Array] as const);
    const got = [
      ...native()
        .instructionSets()
        .map((set) => [set, under(set, 1, () => execute(op, args))] as const),
      ['tfjs', await executeOn(device, op, args)] as const,
    ];
    for (const [where, gradients] of got) {
      for (const [gradient, values] of want) {
        assert.is(difference(values, gradients[gradient]!, TOLERANCE), undefined, `${op} on ${where}: ${gradient}`);
      }
    }
  });
}
