// SPDX-License-Identifier: Apache-2.0
// Training against the goldens: 20 steps of loss, norm, rate and the adapters they lead to, and packed rows against separate ones.
import * as assert from 'uvu/assert';
import { type Batch, countTargets, type StepEvent, scheduleFactor, TrainingRun } from '../../engine/index.js';
import { ADAPTERS, goldenLlama, loadGoldenAdapter, peftNameOf } from '../support/golden-model.js';
import {
  BATCHES,
  followGoldenRun,
  goldenBatches,
  settingsOf,
  stageOf,
  startOf,
  trainingFacts,
} from '../support/golden-training.js';
import { f32, readGolden, relativeToMax, values } from '../support/goldens.js';
import { onEachInstructionSet, suite } from '../support/harness.js';

const test = suite('train');

for (const name of Object.keys(BATCHES)) {
  test(`${name}: the trajectory of 20 steps and the adapters on its way`, () =>
    onEachInstructionSet(async (set) => {
      await followGoldenRun(name, { where: set });
    }));
}

test('bf16 compute follows the trajectory within 1 % of the loss', async () => {
  const run = trainingFacts().runs['gqa_nf4']!;
  await onEachInstructionSet(async (set) => {
    const llama = startOf(run, { compute: 'bf16' });
    let step = 0;
    for await (const event of new TrainingRun(llama, [stageOf(goldenBatches('gqa_nf4'))], settingsOf(run))) {
      if (event.type !== 'step') continue;
      const want = run.steps[step++]!.loss;
      assert.ok(Math.abs(event.loss! / want - 1) < 0.01, `${set}: step ${step}: loss ${event.loss} for ${want}`);
    }
    llama.dispose();
  });
});

for (const model of ['mha', 'llama3rope'] as const) {
  test(`${model}: packed rows give the loss and gradients of separate rows`, async () => {
    const fact = trainingFacts().packing[model]!;
    const golden = readGolden('train', `packing_${model}.safetensors`);
    const get = (name: string) => Int32Array.from(values(golden, name));
    const ids = get('input_ids');
    const batch: Batch = {
      B: 1,
      T: ids.length,
      ids,
      labels: get('labels'),
      positions: get('position_ids'),
      segments: get('segment_ids'),
    };
    await onEachInstructionSet(async (set) => {
      const llama = goldenLlama(model, { adapter: ADAPTERS.r8_all });
      loadGoldenAdapter(llama, readGolden('forward', model, 'r8_all', 'adapter', 'adapter_model.safetensors'));
      const { device } = llama;
      const lossSum = device.allocate('activations', [1]);
      device.fill(lossSum, 0);
      llama.parameters!.zeroGradients();
      const targets = countTargets(batch);
      await llama.lossAndGradients(batch, lossSum, {
        scale: 1 / targets,
        policy: 'keep-midpoints',
        seedOf: () => undefined,
      });
      const loss = (await device.download(lossSum))[0]! / targets;
      assert.ok(
        Math.abs(loss - fact['packed_loss_f64']!) <= fact['tol_loss_abs']!,
        `${set}: loss ${loss} for ${fact['packed_loss_f64']}`,
      );
      let compared = 0;
      for (const { name, gradient } of llama.parameters!.list) {
        if (!golden.has(`grad.${peftNameOf(name)}`)) continue;
        compared++;
        const off = relativeToMax(await device.download(gradient), f32(golden, `grad.${peftNameOf(name)}`));
        assert.ok(off <= fact['tol_grad_rel_to_tensor_max']!, `${set}: d${name} off by ${off}`);
      }
      assert.ok(compared > 0, 'no gradient was compared');
      llama.dispose();
    });
  });
}

test('schedules rise, stay and fall as transformers has them', () => {
  const at = (kind: 'constant' | 'linear' | 'cosine', step: number) =>
    scheduleFactor({ kind, warmupSteps: 4, totalSteps: 12 }, step);
  assert.equal(
    [0, 1, 2, 3, 4].map((step) => at('linear', step)),
    [0, 0.25, 0.5, 0.75, 1],
  );
  assert.is(at('linear', 8), 0.5);
  assert.is(at('linear', 12), 0);
  assert.is(at('constant', 11), 1);
  assert.ok(Math.abs(at('cosine', 8) - 0.5) < 1e-12);
  assert.is(at('cosine', 40), 0);
});

test('a loss that is not finite skips the step, says where it arose, and ends the run at the limit', async () => {
  const run = trainingFacts().runs['mha_f32']!;
  const llama = startOf(run);
  const poisoned = llama.parameters!.get('layers.1.q.B');
  llama.device.upload(poisoned.value, new Float32Array(poisoned.value.size).fill(Number.NaN));
  const events: StepEvent[] = [];
  let message = '';
  try {
    for await (const event of new TrainingRun(llama, [stageOf(goldenBatches('mha_f32'))], {
      ...settingsOf(run),
      maxSkippedSteps: 2,
    })) {
      if (event.type === 'step') events.push(event);
    }
  } catch (error) {
    message = (error as Error).message;
  }
  assert.is(events.length, 2);
  for (const event of events) {
    assert.is(event.loss, null);
    assert.match(event.skipped!, 'the output of layer 1');
  }
  assert.match(message, 'at most 2 steps');
  const untouched = await llama.device.download(llama.parameters!.get('layers.0.q.A').value);
  assert.ok(untouched.every(Number.isFinite), 'a skipped step changed the adapter');
  llama.dispose();
});
