// SPDX-License-Identifier: Apache-2.0
// The optimizer kernels against the reference results, on every instruction set: AdamW over five steps with plain and
// extreme gradients, block-wise 8-bit AdamW, and the norm and scale of gradient clipping.
// Run: npm test -- optimizer
import * as assert from 'uvu/assert';
import { native } from '../kernels/index.js';
import { under } from './ops/execute.js';
import { f32, goldenJson, readGolden } from './support/goldens.js';
import { suite } from './support/harness.js';

const test = suite('optimizer');
const sets = native().instructionSets();

interface AdamwSettings {
  lr: number;
  betas: [number, number];
  eps: number;
  weight_decay: number;
}
interface OptimizerGoldens {
  steps: number;
  adamw32: Record<string, { settings: AdamwSettings; tol_p_rel_to_max_p_lr: number }>;
  adamw8bit: { settings: AdamwSettings; elements: number; blocksize: number };
  clip: Record<string, { max_norm: number; norm_f32: number | string; norm_f64?: number; scale?: number }>;
}

const goldens = () => goldenJson<OptimizerGoldens>('optimizer', 'optimizer.json');
const list = ({ lr, betas, eps, weight_decay }: AdamwSettings, step: number) =>
  [lr, betas[0], betas[1], eps, weight_decay, step, 1] as const;

test('AdamW with 32-bit states', () => {
  const tensors = readGolden('optimizer', 'adamw32.safetensors');
  const { steps, adamw32 } = goldens();
  for (const [name, { settings, tol_p_rel_to_max_p_lr: tolerance }] of Object.entries(adamw32)) {
    const gradients = f32(tensors, `${name.split('.')[0]}.grads`);
    const want = tensors.get(`${name}.p_f64`)!.data;
    for (const set of sets) {
      const param = f32(tensors, `${name.split('.')[0]}.p0`).slice();
      const n = param.length;
      const [m, v] = [new Float32Array(n), new Float32Array(n)];
      for (let step = 1; step <= steps; step++) {
        const gradient = gradients.slice((step - 1) * n, step * n);
        under(set, 1, (kernels) => kernels.adamw(param, gradient, m, v, n, ...list(settings, step)));
        for (let i = 0; i < n; i++) {
          const target = want[(step - 1) * n + i]!;
          const error = Math.abs(param[i]! - target) / Math.max(Math.abs(target), settings.lr);
          assert.ok(
            error <= tolerance,
            `${name} on ${set}, step ${step}, ${i}: got ${param[i]}, want ${target}, error ${error}`,
          );
        }
      }
    }
  }
});

test('AdamW with 8-bit states', () => {
  const tensors = readGolden('optimizer', 'adamw8bit.safetensors');
  const { steps, adamw8bit } = goldens();
  const { settings, elements: n, blocksize } = adamw8bit;
  const blocks = Math.ceil(n / blocksize);
  const gradients = f32(tensors, 'grads');
  for (const set of sets) {
    const param = f32(tensors, 'p0').slice();
    const [m, v] = [new Uint8Array(n).fill(127), new Uint8Array(n)]; // the codes of 0
    const [mAbsmax, vAbsmax] = [new Float32Array(blocks), new Float32Array(blocks)];
    for (let step = 1; step <= steps; step++) {
      const gradient = gradients.slice((step - 1) * n, step * n);
      under(set, 2, (kernels) =>
        kernels.adamw8bit(param, gradient, m, v, mAbsmax, vAbsmax, n, ...list(settings, step)),
      );
      if (step !== 1 && step !== 5) continue;
      const where = `${set}, step ${step}`;
      const wantParam = f32(tensors, `gpu_order.p_step${step}`);
      const off = param.reduce((count, p, i) => count + (Math.abs(p - wantParam[i]!) > 1e-6 ? 1 : 0), 0);
      assert.ok(off <= (step === 1 ? 0 : 0.002 * n), `${where}: ${off} parameters are off`);
      for (const [absmax, codes, letter] of [
        [mAbsmax, m, 'm'],
        [vAbsmax, v, 'v'],
      ] as const) {
        const wantAbsmax = f32(tensors, `gpu_order.a${letter}_step${step}`);
        const wantCodes = tensors.get(`gpu_order.${letter}8_step${step}`)!.data;
        for (const [i, a] of absmax.entries())
          assert.ok(
            Math.abs(a - wantAbsmax[i]!) <= 1e-5 * wantAbsmax[i]!,
            `${where}: absmax of ${letter}, block ${i}: ${a}`,
          );
        let different = 0;
        codes.forEach((code, i) => {
          if (absmax[Math.floor(i / blocksize)] === 0) return; // 0 whatever the code
          const distance = Math.abs(code - wantCodes[i]!);
          assert.ok(distance <= 1, `${where}: code ${i} of ${letter} is ${code}, want ${wantCodes[i]}`);
          different += distance;
        });
        assert.ok(different <= 0.002 * n, `${where}: ${different} codes of ${letter} are off by one`);
      }
    }
  }
});

test('the norm and the scale of gradient clipping', () => {
  const tensors = readGolden('optimizer', 'clip.safetensors');
  for (const [name, { max_norm: maxNorm, norm_f64: norm, scale }] of Object.entries(goldens().clip)) {
    if (norm === undefined) continue; // infinite and NaN norms: ops/numerics
    for (const set of sets) {
      const gradients: Float32Array[] = [];
      for (let i = 0; tensors.has(`${name}.${i}.grad`); i++) gradients.push(f32(tensors, `${name}.${i}.grad`));
      const squares = gradients.map((gradient) => {
        const out = new Float32Array(1);
        under(set, 1, (kernels) => kernels.sumOfSquares(out, gradient, gradient.length));
        return out[0]!;
      });
      const got = Math.sqrt(squares.reduce((sum, square) => sum + square, 0));
      assert.ok(Math.abs(got - norm) <= 1e-7 * norm, `${name} on ${set}: norm ${got}, want ${norm}`);
      const gradScale = Math.min(1, maxNorm / (got + 1e-6));
      assert.ok(Math.abs(gradScale - scale!) <= 2e-7 * scale!, `${name} on ${set}: scale ${gradScale}, want ${scale}`);
      gradients.forEach((gradient, i) => {
        // With beta1 = 0 the first moment is the gradient as the kernel scaled it.
        const n = gradient.length;
        const m = new Float32Array(n);
        under(set, 1, (kernels) =>
          kernels.adamw(new Float32Array(n), gradient, m, new Float32Array(n), n, 1, 0, 0.9, 1e-8, 0, 1, gradScale),
        );
        const clipped = f32(tensors, `${name}.${i}.clipped`);
        for (const [j, g] of m.entries())
          assert.ok(
            Math.abs(g - clipped[j]!) <= 3e-7 * Math.abs(clipped[j]!),
            `${name} on ${set}: ${g}, want ${clipped[j]}`,
          );
      });
    }
  }
});
