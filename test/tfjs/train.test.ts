// SPDX-License-Identifier: Apache-2.0
// The engine on TensorFlow.js: the golden trajectories, generation beside the cpu device, and that a hundred steps with all
// that a step may use leave no tensor behind.
// Run: npm test -- tfjs/train
import * as assert from 'uvu/assert';
import {
  type Batch,
  CpuDevice,
  type Device,
  GREEDY,
  generateTokens,
  initializeLora,
  LINEAR_NAMES,
  Llama,
  type LlamaConfig,
  randomStart,
  TrainingRun,
} from '../../engine/index.js';
import { Random } from '../ops/random.js';
import { followGoldenRun, stageOf } from '../support/golden-training.js';
import { suite } from '../support/harness.js';
import { tensorFlow, tfjsDevice } from './device.js';

const test = suite('tfjs: train');

test('the golden trajectory of 20 steps', async () => {
  await followGoldenRun('mha_f32', { where: 'tfjs', device: await tfjsDevice() });
});

test('the first steps of the golden trajectory over NF4', async () => {
  await followGoldenRun('gqa_nf4', { where: 'tfjs', device: await tfjsDevice(), steps: 2 });
});

const TINY: LlamaConfig = {
  vocabularySize: 40,
  width: 16,
  feedForwardWidth: 24,
  layers: 2,
  queryHeads: 4,
  keyValueHeads: 2,
  headWidth: 4,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  tiedHead: true,
  maxPositions: 64,
};

const lora = { rank: 4, alpha: 8, dropout: 0.1, rslora: false, targets: LINEAR_NAMES };

function tinyLlama(device: Device, kind: 'lora' | 'full'): Llama {
  const adapter = kind === 'lora' ? lora : 'full';
  const llama = new Llama(device, TINY, randomStart(TINY, 1), { quantization: 'nf4', adapter });
  if (kind === 'lora') initializeLora(llama.parameters!, 1);
  return llama;
}

async function* batches(count: number): AsyncGenerator<Batch> {
  const random = new Random(1);
  const [B, T] = [2, 8];
  for (let i = 0; i < count; i++) {
    yield {
      B,
      T,
      ids: random.integers(B * T, 0, TINY.vocabularySize),
      labels: random.integers(B * T, 0, TINY.vocabularySize).map((label, m) => (m % 3 ? label : -100)),
      positions: Int32Array.from({ length: B * T }, (_, m) => m % T),
      segments: new Int32Array(B * T).fill(1),
    };
  }
}

/** Trains for some steps; returns the losses and calls back after each. */
async function train(llama: Llama, steps: number, after = (_step: number) => {}): Promise<number[]> {
  const losses: number[] = [];
  const run = new TrainingRun(llama, [stageOf(batches(2 * steps))], {
    optimizer: {
      kind: llama.parameters!.list.length > 40 ? 'adamw' : 'adamw-8bit',
      learningRate: 1e-2,
      beta1: 0.9,
      beta2: 0.999,
      eps: 1e-8,
      weightDecay: 0.01,
    },
    schedule: { kind: 'constant', warmupSteps: 0, totalSteps: steps },
    accumulation: 2,
    maxGradientNorm: 1,
    lossNormalization: 'tokens',
    policy: 'keep-midpoints',
    seed: 3,
    maxSkippedSteps: 0,
    evaluateEvery: 0,
  });
  for await (const event of run) {
    if (event.type !== 'step') continue;
    losses.push(event.loss!);
    after(losses.length);
  }
  return losses;
}

test('a hundred steps leave no tensor behind, and the model none when it is disposed of', async () => {
  const { tf } = await tensorFlow();
  const device = await tfjsDevice();
  const before = tf.memory().numTensors;
  const llama = tinyLlama(device, 'lora');
  const counts: number[] = [];
  const losses = await train(llama, 100, () => counts.push(tf.memory().numTensors));
  assert.is(losses.length, 100);
  assert.is(counts[99], counts[1], `tensors after step 2 and after step 100`);
  llama.dispose();
  assert.is(tf.memory().numTensors, before, 'tensors before the model and after it');
});

for (const kind of ['lora', 'full'] as const) {
  test(`${kind}: dropout, accumulation and the optimizer give the losses of the cpu device`, async () => {
    const got = await train(tinyLlama(await tfjsDevice(), kind), 6);
    const want = await train(tinyLlama(new CpuDevice({ compute: 'f32' }), kind), 6);
    for (const [i, loss] of want.entries())
      assert.ok(Math.abs(got[i]! - loss) < 2e-5, `step ${i + 1}: ${got[i]}, ${loss}`);
  });
}

test('generation with a key-value cache chooses the tokens of the cpu device', async () => {
  const generated = async (device: Device) => {
    const llama = new Llama(device, TINY, randomStart(TINY, 7), { quantization: 'nf4' });
    const ids: number[] = [];
    const settings = { ...GREEDY, maxNewTokens: 20, stopIds: [], seed: 0 };
    for await (const id of generateTokens(llama, [1, 5, 9, 30], settings)) ids.push(id);
    llama.dispose();
    return ids;
  };
  assert.equal(await generated(await tfjsDevice()), await generated(new CpuDevice({ compute: 'f32' })));
});
