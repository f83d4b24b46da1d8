// SPDX-License-Identifier: Apache-2.0
// Training on the emulated GPU follows the goldens: f32 within their own tolerances, bf16 within 1 % of the loss, as on the CPU.
import * as assert from 'uvu/assert';
import { onEmulatedGpu } from '../support/emulator.js';
import { trainingFacts } from '../support/golden-training.js';
import { suite } from '../support/harness.js';

const test = suite('cuda: training', 600_000);

interface Step {
  loss: number;
  gradNorm: number;
  learningRate: number;
}

function follow(name: string, compute: 'f32' | 'bf16', steps: number): Step[] {
  const { status, stdout, stderr } = onEmulatedGpu('test/cuda/run-training.js', [name, compute, String(steps)]);
  assert.is(status, 0, stderr);
  const done = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Step);
  assert.is(done.length, steps);
  return done;
}

test('f32: the trajectory of the goldens, step by step', () => {
  const run = trainingFacts().runs['mha_f32']!;
  for (const [i, { loss, gradNorm }] of follow('mha_f32', 'f32', run.settings.steps).entries()) {
    const want = run.steps[i]!;
    assert.ok(Math.abs(loss - want.loss) <= run.tol_loss_abs, `step ${i + 1}: loss ${loss} for ${want.loss}`);
    const off = Math.abs(gradNorm / want.grad_norm - 1);
    assert.ok(off <= run.tol_grad_norm_rel, `step ${i + 1}: norm ${gradNorm} for ${want.grad_norm}`);
  }
});

test('bf16 over 4-bit weights: within 1 % of the loss', () => {
  const run = trainingFacts().runs['gqa_nf4']!;
  for (const [i, { loss }] of follow('gqa_nf4', 'bf16', run.settings.steps).entries()) {
    const want = run.steps[i]!.loss;
    assert.ok(Math.abs(loss / want - 1) < 0.01, `step ${i + 1}: loss ${loss} for ${want}`);
  }
});
