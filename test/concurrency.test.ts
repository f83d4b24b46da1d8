// SPDX-License-Identifier: Apache-2.0
// Several JavaScript threads share one addon, its thread pool and its scratch memory: their calls must not mix.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import * as assert from 'uvu/assert';
import { projectRoot, suite } from './support/harness.js';

const test = suite('concurrency');

// out = inp·weightᵀ over whole numbers, so that every result is exact whatever the order of its sum.
const WORKER = `
import { workerData, parentPort } from 'node:worker_threads';
const { kernels, M, N, K, rounds } = workerData;
const { native } = await import(kernels);
const addon = native();
const inp = Float32Array.from({ length: M * K }, (_, i) => (i * 7 + M) % 5 - 2);
const weight = Float32Array.from({ length: N * K }, (_, i) => (i * 3 + N) % 7 - 3);
const none = new Float32Array(0);
const want = new Float32Array(M * N);
for (let m = 0; m < M; m++)
  for (let n = 0; n < N; n++)
    for (let k = 0; k < K; k++) want[m * N + n] += inp[m * K + k] * weight[n * K + k];
let wrong = 0;
for (let round = 0; round < rounds; round++) {
  const out = new Float32Array(M * N);
  addon.linearForward(out, inp, weight, 0, none, none, M, N, K, 0, 1, 0, 0, round % 2);
  for (let i = 0; i < out.length; i++) if (out[i] !== want[i]) wrong++;
  if (round === rounds / 2) addon.releaseScratch();
}
parentPort.postMessage(wrong);
`;

function run(shape: { M: number; N: number; K: number; rounds: number }): Promise<number> {
  const kernels = pathToFileURL(join(projectRoot, 'dist', 'kernels', 'index.js')).href;
  const source = new URL(`data:text/javascript,${encodeURIComponent(WORKER)}`);
  const worker = new Worker(source, { workerData: { kernels, ...shape } });
  return new Promise((resolve, reject) => {
    worker.on('message', resolve);
    worker.on('error', reject);
  });
}

test('ops called from several JavaScript threads at once give what each asked for', async () => {
  const wrong = await Promise.all([
    run({ M: 33, N: 200, K: 600, rounds: 200 }),
    run({ M: 150, N: 20, K: 90, rounds: 400 }),
    run({ M: 2, N: 128, K: 1024, rounds: 400 }),
  ]);
  assert.equal(wrong, [0, 0, 0]);
});
