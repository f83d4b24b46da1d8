// SPDX-License-Identifier: Apache-2.0
// Our 4-bit ops within TensorFlow: bits of the reference, wrong calls, and that no second copy of the addon can end the
// process. Runs where both are there: npm run bench -- tfjs --wheel FILE, npm run build:tfjs, and then
// Run: TACOTUNE_TFJS=build/tfjs-node npm test -- tfjs/custom-ops
import { copyFileSync, existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import * as assert from 'uvu/assert';
import type { LoadedTensorFlow } from '../../engine/device/tfjs/load.js';
import type { Nf4Values } from '../../engine/index.js';
import { native, TFJS_OPS } from '../../kernels/index.js';
import { under } from '../ops/execute.js';
import { Random } from '../ops/random.js';
import { projectRoot, skip, suite } from '../support/harness.js';
import { inFolder } from '../support/tiny.js';
import { tensorFlow, tfjsDevice } from './device.js';

const test = suite('tfjs: custom ops');
const ADDON = join(projectRoot, 'build', 'tfjs', 'tacotune_tfjs.node');

async function nativeBackend(): Promise<LoadedTensorFlow> {
  const loaded = await tensorFlow();
  if (loaded.backend !== 'tensorflow') skip('no TensorFlow: TACOTUNE_TFJS names a folder with tfjs-node');
  if (!existsSync(ADDON)) skip("not built: 'npm run build:tfjs'");
  return loaded;
}

function makeWeight(N: number, K: number, random: Random): Nf4Values {
  const blocks = Math.ceil((N * K) / 64);
  return {
    shape: [N, K],
    doubleQuantized: true,
    codes: random.bytes(Math.ceil((N * K) / 2)),
    absmaxCodes: random.bytes(blocks),
    absmax: random.uniform(Math.ceil(blocks / 256), 0.5, 1),
    absmaxOffset: 1.25,
  };
}

test('decoding gives the bits of the reference, however blocks lie across rows', async () => {
  await nativeBackend();
  const device = await tfjsDevice();
  for (const [N, K] of [
    [1, 1],
    [3, 21],
    [5, 64],
    [33, 65],
    [300, 100],
  ] as const) {
    const weight = makeWeight(N, K, new Random(N));
    const want = new Float32Array(N * K);
    under('reference', 1, () => {
      native().nf4Dequantize(want, weight.codes, weight.absmaxCodes, weight.absmax, weight.absmaxOffset, N * K);
    });
    const identity = device.allocate('activations', [N, N]);
    const eye = new Float32Array(N * N);
    for (let n = 0; n < N; n++) eye[n * N + n] = 1;
    device.upload(identity, eye);
    const dense = device.allocate('activations', [N, K]);
    device.linearBackward(dense, identity, device.adoptNf4(weight));
    assert.equal(await device.download(dense), want, `N=${N} K=${K}`);
  }
});

test('a wrong call is a JavaScript exception', async () => {
  const { tf } = await nativeBackend();
  await tfjsDevice();
  const backend = tf.backend() as unknown as {
    binding: { TF_ATTR_INT: number };
    executeSingleOutput(name: string, attributes: unknown[], inputs: unknown[]): unknown;
  };
  const attributes = ['N', 'K'].map((name) => ({ name, type: backend.binding.TF_ATTR_INT, value: 64 }));
  const inputs = [
    tf.tensor1d(new Uint8Array(32), 'bool'),
    tf.tensor1d(new Uint8Array(0), 'bool'),
    tf.zeros([64]),
    tf.scalar(0),
  ];
  assert.throws(() => backend.executeSingleOutput(TFJS_OPS.decode, attributes, inputs), /32 bytes, expected 2048/);
});

test('another copy of the addon and another thread find the ops there', async () => {
  await nativeBackend();
  await tfjsDevice();
  await inFolder(async (folder) => {
    const copy = join(folder, 'copy.node');
    copyFileSync(ADDON, copy);
    const registerTwice = (path: string) =>
      `const a = require(${JSON.stringify(path)}); a.registerOps(); a.registerOps();`;
    createRequire(import.meta.url)(copy).registerOps();
    for (const path of [copy, ADDON]) {
      const code = await new Promise((resolve) => new Worker(registerTwice(path), { eval: true }).on('exit', resolve));
      assert.is(code, 0);
    }
  });
});
