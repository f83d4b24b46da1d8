// SPDX-License-Identifier: Apache-2.0
// The training runs of the goldens: settings, batches, the model they start from. Devices are judged by following them.
import * as assert from 'uvu/assert';
import type { Batch, Device, Llama, Stage, TrainingSettings } from '../../engine/index.js';
import { ADAPTERS, type AdapterCase, type GoldenModel, goldenLlama, loadGoldenAdapter } from './golden-model.js';
import { goldenJson, readGolden } from './goldens.js';

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
