// SPDX-License-Identifier: Apache-2.0
// The model's passes against the goldens' float64 results: logits, losses and every LoRA gradient, over f32 and NF4 bases, on
// every instruction set, under every activation policy, with poisoned memory.
import * as assert from 'uvu/assert';
import { ACTIVATION_POLICIES, type ActivationPolicy, countTargets, type Llama } from '../../engine/index.js';
import { native } from '../../kernels/index.js';
import {
  ADAPTERS,
  type AdapterCase,
  forwardFacts,
  GOLDEN_MODELS,
  goldenInputs,
  goldenLlama,
  loadGoldenAdapter,
  peftNameOf,
} from '../support/golden-model.js';
import { f32, readGolden, relativeL2, relativeToMax, values } from '../support/goldens.js';
import { onEachInstructionSet, suite } from '../support/harness.js';

const test = suite('forward');

const BASES = { f32base: 'none', nf4base: 'nf4' } as const;
type Base = keyof typeof BASES;

async function gradients(
  llama: Llama,
  batch: ReturnType<typeof goldenInputs>,
  policy: ActivationPolicy,
): Promise<{ loss: number; grads: Map<string, Float32Array> }> {
  const { device } = llama;
  const lossSum = device.allocate('activations', [1]);
  device.fill(lossSum, 0);
  llama.parameters!.zeroGradients();
  const targets = countTargets(batch);
  await llama.lossAndGradients(batch, lossSum, { scale: 1 / targets, policy, seedOf: () => undefined });
  const grads = new Map<string, Float32Array>();
  for (const { name, gradient } of llama.parameters!.list) grads.set(name, await device.download(gradient));
  return { loss: (await device.download(lossSum))[0]! / targets, grads };
}

for (const model of GOLDEN_MODELS) {
  for (const base of Object.keys(BASES) as Base[]) {
    test(`${model} ${base}: logits and token losses without an adapter`, async () => {
      const facts = forwardFacts()[model]['no_adapter']![base];
      const golden = readGolden('forward', model, 'no_adapter.safetensors');
      const wanted = golden.get(`${base}.logits_right_f64`) ?? golden.get(`${base}.logits_right`)!;
      await onEachInstructionSet(async (set) => {
        const llama = goldenLlama(model, { quantization: BASES[base] });
        const batch = goldenInputs(model, 'right');
        const logits = await llama.logits(batch);
        for (let m = 0; m < logits.length / llama.config.vocabularySize; m++) {
          if (batch.segments[m] === 0)
            logits.fill(0, m * llama.config.vocabularySize, (m + 1) * llama.config.vocabularySize); // the goldens zero pads
        }
        assert.ok(
          relativeToMax(logits, wanted.data) <= facts['tol_logits_rel_to_max']!,
          `${set}: logits off by ${relativeToMax(logits, wanted.data)}`,
        );
        const losses = await llama.tokenLosses(batch);
        const wantedLosses = values(golden, `${base}.token_loss_right_f64`);
        let worst = 0;
        for (let b = 0; b < 2; b++)
          for (let t = 0; t < 32; t++)
            worst = Math.max(worst, Math.abs(losses[b * 33 + t]! - wantedLosses[b * 32 + t]!));
        assert.ok(worst <= facts['tol_token_loss_abs']!, `${set}: a token loss is off by ${worst}`);
        const mean = losses.reduce((sum, loss) => sum + loss, 0) / countTargets(batch);
        const left = await llama.tokenLosses(goldenInputs(model, 'left'));
        assert.ok(
          Math.abs(left.reduce((sum, loss) => sum + loss, 0) / countTargets(batch) - mean) < 1e-5,
          `${set}: padding on the left changes the loss`,
        );
        llama.dispose();
      });
    });

    for (const adapter of Object.keys(ADAPTERS) as AdapterCase[]) {
      test(`${model} ${base} ${adapter}: logits, loss and every gradient`, async () => {
        const facts = forwardFacts()[model][adapter]![base];
        const golden = readGolden('forward', model, adapter, `${base}.safetensors`);
        const weights = readGolden('forward', model, adapter, 'adapter', 'adapter_model.safetensors');
        await onEachInstructionSet(async (set) => {
          const llama = goldenLlama(model, { quantization: BASES[base], adapter: ADAPTERS[adapter] });
          loadGoldenAdapter(llama, weights);
          const batch = goldenInputs(model, 'right');
          const { loss, grads } = await gradients(llama, batch, 'keep-all');
          assert.ok(
            Math.abs(loss - facts['mean_loss_f64']!) <= facts['tol_mean_loss_abs']!,
            `${set}: loss ${loss} for ${facts['mean_loss_f64']}`,
          );
          let compared = 0;
          for (const [name, grad] of grads) {
            const norm = Math.sqrt(grad.reduce((sum, g) => sum + g * g, 0));
            const wantedNorm = (facts['grad_norm_per_tensor_f64'] as unknown as Record<string, number>)[
              peftNameOf(name)
            ]!;
            assert.ok(
              Math.abs(norm - wantedNorm) <= 2e-5 * wantedNorm,
              `${set}: |d${name}| = ${norm} for ${wantedNorm}`,
            );
            if (!golden.has(`grad.${peftNameOf(name)}`)) continue;
            compared++;
            const wanted = f32(golden, `grad.${peftNameOf(name)}`);
            assert.ok(
              relativeToMax(grad, wanted) <= facts['tol_grad_rel_to_tensor_max']!,
              `${set}: d${name} off by ${relativeToMax(grad, wanted)} of its maximum`,
            );
            assert.ok(
              relativeL2(grad, wanted) <= facts['tol_grad_rel_l2']!,
              `${set}: d${name} off by ${relativeL2(grad, wanted)}`,
            );
          }
          assert.ok(
            compared > 0 || ![...golden.keys()].some((key) => key.startsWith('grad.')),
            'no gradient was compared',
          );
          for (const policy of ACTIVATION_POLICIES) {
            const again = await gradients(llama, batch, policy);
            assert.is(again.loss, loss);
            for (const [name, grad] of again.grads)
              assert.equal(grad, grads.get(name), `${set}: ${policy} changes d${name}`);
          }
          llama.dispose();
        });
      });
    }
  }
}

test('bf16 compute stays within 1 % on losses, and within what rounding costs on gradients', async () => {
  for (const model of GOLDEN_MODELS) {
    const facts = forwardFacts()[model]['r8_all']!.f32base;
    const weights = readGolden('forward', model, 'r8_all', 'adapter', 'adapter_model.safetensors');
    const golden = readGolden('forward', model, 'r8_all', 'f32base.safetensors');
    await onEachInstructionSet(async (set) => {
      const llama = goldenLlama(model, { compute: 'bf16', adapter: ADAPTERS.r8_all });
      loadGoldenAdapter(llama, weights);
      const { loss, grads } = await gradients(llama, goldenInputs(model, 'right'), 'keep-all');
      assert.ok(
        Math.abs(loss / facts['mean_loss_f64']! - 1) < 0.01,
        `${set}: ${model} loss ${loss} for ${facts['mean_loss_f64']}`,
      );
      for (const [name, grad] of grads) {
        if (!golden.has(`grad.${peftNameOf(name)}`)) continue;
        const off = relativeL2(grad, f32(golden, `grad.${peftNameOf(name)}`));
        assert.ok(off < 0.05, `${set}: ${model} d${name} off by ${off}`);
      }
      llama.dispose();
    });
  }
});

test('the same bits on any number of threads', async () => {
  const weights = readGolden('forward', 'gqa', 'r8_all', 'adapter', 'adapter_model.safetensors');
  const runs: Map<string, Float32Array>[] = [];
  const before = native().threads();
  for (const threads of [1, 2, 3]) {
    native().setThreads(threads);
    const llama = goldenLlama('gqa', { quantization: 'nf4', adapter: ADAPTERS.r8_all });
    loadGoldenAdapter(llama, weights);
    runs.push((await gradients(llama, goldenInputs('gqa', 'right'), 'keep-all')).grads);
    llama.dispose();
  }
  native().setThreads(before);
  for (const run of runs.slice(1)) assert.equal(run, runs[0]);
});
