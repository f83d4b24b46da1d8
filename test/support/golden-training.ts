// SPDX-License-Identifier: Apache-2.0
// The training runs of the goldens: settings, batches, the model they start from. Devices are judged by following them.
import * as assert from 'uvu/assert';
import {
  type Batch,
  type Device,
  type Llama,
  type Stage,
  TrainingRun,
  type TrainingSettings,
} from '../../engine/index.js';
import {
  ADAPTERS,
  type AdapterCase,
  type GoldenModel,
  goldenLlama,
  loadGoldenAdapter,
  peftNameOf,
} from './golden-model.js';
import { f32, goldenJson, readGolden, relativeL2 } from './goldens.js';

export interface GoldenRun {
  settings: {
    model: GoldenModel;
    nf4: boolean;
    case: AdapterCase;
    zero_b: boolean;
    token_mean: boolean;
    snapshots: number[];
    steps: number;
    accum: number;
    seq: number;
    lr: number;
    betas: [number, number];
    eps: number;
    weight_decay: number;
    clip: number;
    warmup: number;
    start: string;
  };
  steps: { lr: number; loss: number; grad_norm: number }[];
  tol_loss_abs: number;
  tol_grad_norm_rel: number;
  tol_adapter_abs: Record<string, number> | number;
  tol_adapter_rel_l2: Record<string, number> | number;
}
export const trainingFacts = () =>
  goldenJson<{
    runs: Record<string, GoldenRun>;
    packing: Record<string, Record<string, number> & { adapter: string }>;
  }>('train', 'train.json');

export const BATCHES: Record<string, string> = { mha_f32: 'mha_f32', mha_f32_tokenmean: 'mha_f32', gqa_nf4: 'gqa_nf4' };

export async function* goldenBatches(folder: string): AsyncGenerator<Batch> {
  const tensors = readGolden('train', folder, 'batches.safetensors');
  const [n, B, T] = tensors.get('input_ids')!.shape as [number, number, number];
  const slice = (name: string, i: number) =>
    Int32Array.from(tensors.get(name)!.data.subarray(i * B * T, (i + 1) * B * T));
  for (let i = 0; i < n; i++) {
    yield {
      B,
      T,
      ids: slice('input_ids', i),
      labels: slice('labels', i),
      positions: Int32Array.from({ length: B * T }, (_, m) => m % T),
      segments: slice('attention_mask', i),
    };
  }
}

export function settingsOf({ settings: s }: GoldenRun): TrainingSettings {
  return {
    optimizer: {
      kind: 'adamw',
      learningRate: s.lr,
      beta1: s.betas[0],
      beta2: s.betas[1],
      eps: s.eps,
      weightDecay: s.weight_decay,
    },
    schedule: { kind: 'cosine', warmupSteps: s.warmup, totalSteps: s.steps },
    accumulation: s.accum,
    maxGradientNorm: s.clip,
    lossNormalization: s.token_mean ? 'tokens' : 'micro-batches',
    policy: 'keep-all',
    seed: 0,
    maxSkippedSteps: 0,
    evaluateEvery: 0,
  };
}

/** The model at the start of a run. */
export function startOf(run: GoldenRun, where: { compute?: 'f32' | 'bf16'; device?: Device } = {}): Llama {
  const { model, nf4, case: adapter, start, zero_b } = run.settings;
  const llama = goldenLlama(model, { ...where, quantization: nf4 ? 'nf4' : 'none', adapter: ADAPTERS[adapter] });
  loadGoldenAdapter(llama, readGolden('forward', model, adapter, 'adapter', 'adapter_model.safetensors'), zero_b);
  assert.match(start, adapter);
  return llama;
}

export const stageOf = (batches: AsyncIterable<Batch>): Stage => ({
  name: 'only',
  learningRateFactor: 1,
  end: {},
  batches,
});

/** Trains a golden run, or its first steps, and holds every step, and the adapters on its way, to the reference. Returns the largest distances. */
export async function followGoldenRun(
  name: string,
  { where, device, steps }: { where: string; device?: Device | undefined; steps?: number },
): Promise<{ steps: number; loss: number; gradNorm: number }> {
  const run = trainingFacts().runs[name]!;
  const off = { loss: 0, gradNorm: 0 };
  const llama = startOf(run, device && { device });
  let step = 0;
  for await (const event of new TrainingRun(llama, [stageOf(goldenBatches(BATCHES[name]!))], settingsOf(run))) {
    if (event.type !== 'step') continue;
    const want = run.steps[step++]!;
    assert.ok(
      Math.abs(event.learningRate - want.lr) <= 1e-12,
      `${where}: step ${step}: rate ${event.learningRate} for ${want.lr}`,
    );
    assert.ok(
      Math.abs(event.loss! - want.loss) <= run.tol_loss_abs,
      `${where}: step ${step}: loss ${event.loss} for ${want.loss}`,
    );
    assert.ok(
      Math.abs(event.gradNorm! / want.grad_norm - 1) <= run.tol_grad_norm_rel,
      `${where}: step ${step}: norm ${event.gradNorm} for ${want.grad_norm}`,
    );
    off.loss = Math.max(off.loss, Math.abs(event.loss! - want.loss));
    off.gradNorm = Math.max(off.gradNorm, Math.abs(event.gradNorm! / want.grad_norm - 1));
    if (run.settings.snapshots.includes(step)) await compareAdapter(llama, run, name, step, where);
    if (step === steps) break;
  }
  assert.is(step, steps ?? run.settings.steps);
  llama.dispose();
  return { steps: step, ...off };
}

async function compareAdapter(llama: Llama, run: GoldenRun, name: string, step: number, where: string): Promise<void> {
  const golden = readGolden('train', name, `adapter_step${step}.safetensors`);
  const at = (tolerance: Record<string, number> | number) =>
    typeof tolerance === 'number' ? tolerance : tolerance[String(step)]!;
  for (const { name: parameter, value } of llama.parameters!.list) {
    const got = await llama.device.download(value);
    const want = f32(golden, peftNameOf(parameter));
    const worst = got.reduce((most, x, i) => Math.max(most, Math.abs(x - want[i]!)), 0);
    assert.ok(worst <= at(run.tol_adapter_abs), `${where}: after step ${step} ${parameter} is off by ${worst}`);
    assert.ok(
      relativeL2(got, want) <= at(run.tol_adapter_rel_l2),
      `${where}: after step ${step} ${parameter} is off by ${relativeL2(got, want)} (2-norm)`,
    );
  }
}
