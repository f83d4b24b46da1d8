// SPDX-License-Identifier: Apache-2.0
// Products through cuBLASLt, on a stand-in with its symbols: that it is called as it should be, that it must agree with our
// kernels before it is used, and that its absence changes nothing. Whether the library itself takes these calls only a GPU
// can say: `tacotune doctor` does there what is done here.
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { buildEmulator, emulatedDriver, type OpResult, onEmulatedGpu, runOps } from '../support/emulator.js';
import { projectRoot, suite } from '../support/harness.js';
import { inFolder, writeTinyModel, writeTokens } from '../support/tiny.js';

const test = suite('cuda: cuBLASLt', 300_000);

/** The stand-in is in the emulated driver's file. */
const standIn = () => ({ TACOTUNE_CUBLASLT: emulatedDriver()['TACOTUNE_CUDA_DRIVER']! });

const PRODUCTS = ['linearForward', 'linearBackward', 'linearWeightBackward', 'linearNf4Forward', 'linearNf4Backward'];

/** Every op that multiplies, with products of any size sent to the library. */
const runProducts = (environment: Record<string, string>): Promise<OpResult[]> =>
  runOps({ ...emulatedDriver(), ...environment }, '--cublaslt', 'linear', 'crossEntropy');

test('the stand-in refuses what is wrong, and says what', () => {
  buildEmulator('--misuse');
  const { status, stdout, stderr } = spawnSync(join(projectRoot, 'build', 'emulator', 'misuse-blas'), {
    encoding: 'utf8',
  });
  assert.is(status, 0, stderr);
  const [right, ...wrong] = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { name: string; status: number; sentence: string });
  assert.equal(right, { name: 'nothing', status: 0, sentence: 'success' });
  assert.ok(wrong.length >= 15, `only ${wrong.length} mistakes`);
  for (const { name, status, sentence } of wrong)
    assert.ok(status !== 0 && sentence.length > 20, `${name}: ${sentence}`);
  const sentences = wrong.map(({ sentence }) => sentence);
  for (const said of [
    /depth/,
    /overlaps itself/,
    /type 2/,
    /workspace/,
    /multiple of 16/,
    /another product/,
    /4 bytes, got 8/,
  ])
    assert.ok(
      sentences.some((sentence) => said.test(sentence)),
      String(said),
    );
});

test('products of every pattern and storage type agree with the reference', async () => {
  const results = await runProducts({ ...standIn(), TACOTUNE_EMULATOR_STREAMS: 'early' });
  for (const { op, cases, elsewhere, troubles } of results) {
    assert.equal(troubles, [], op);
    assert.is(elsewhere > 0, PRODUCTS.includes(op), `${op}: ${elsewhere} of ${cases} cases`);
  }
});

test('a library that differs from our kernels, or is not there, computes nothing', async () => {
  for (const environment of [
    { ...standIn(), TACOTUNE_EMULATOR_BLAS: 'wrong' },
    { TACOTUNE_CUBLASLT: 'no-such-library.so' },
    { TACOTUNE_CUBLASLT: 'off' },
  ])
    for (const { op, elsewhere, troubles } of await runProducts(environment)) {
      assert.equal(troubles, [], op);
      assert.is(elsewhere, 0, op);
    }
});

test('doctor says whether it was found, and whether it agrees', () => {
  const doctor = (environment: Record<string, string>) => {
    const { status, stdout, stderr } = onEmulatedGpu(
      'cli/main.js',
      ['doctor', '--json', '--ops', 'swiglu'],
      environment,
    );
    const { gpu, healthy } = JSON.parse(stdout) as {
      gpu: { cublasLt: { library: string; version: number; products: number; trouble?: string } };
      healthy: boolean;
    };
    assert.is(status, healthy ? 0 : 1, stderr);
    return { ...gpu.cublasLt, healthy };
  };
  const found = doctor(standIn());
  assert.ok(found.healthy && found.trouble === undefined && found.products > 0);
  assert.is(found.version, 130000);
  const missing = doctor({ TACOTUNE_CUBLASLT: 'no-such-library.so' });
  assert.ok(missing.healthy);
  assert.match(missing.trouble!, /no cuBLASLt: no-such-library/);
  const wrong = doctor({ ...standIn(), TACOTUNE_EMULATOR_BLAS: 'wrong' });
  assert.not(wrong.healthy);
  assert.match(wrong.trouble!, /is not used: its product of .* differs from ours/);
});

test('a run that asks for it says which library it has, goes on without one, and keeps its bytes', async () => {
  await inFolder(async (folder) => {
    await writeTinyModel(join(folder, 'model'));
    writeTokens(join(folder, 'tokens.jsonl'), 20);
    const recipe = join(folder, 'recipe.yaml');
    writeFileSync(
      recipe,
      `model: model
device: cuda
cublasLt: true
adapter: { rank: 2 }
batch: { context: 32, rows: 1 }
stages: [{ name: only, steps: 2, data: [{ tokens: tokens.jsonl }] }]
`,
    );
    const train = (name: string, environment: Record<string, string>) => {
      const output = join(folder, name);
      const { status, stderr } = onEmulatedGpu('cli/main.js', ['train', recipe, '--output', output], environment);
      assert.is(status, 0, stderr);
      return { stderr, adapter: readFileSync(join(output, 'adapter_model.safetensors')) };
    };
    const there = train('there', standIn());
    assert.match(there.stderr, /cuBLASLt 13\.0\.0 for large products/);
    const missing = train('missing', { TACOTUNE_CUBLASLT: 'no-such-library.so' });
    assert.match(missing.stderr, /no cuBLASLt: no-such-library/);
    assert.match(missing.stderr, /own kernels/);
    assert.equal(there.adapter, missing.adapter); // its products are too small to go there
  });
});
