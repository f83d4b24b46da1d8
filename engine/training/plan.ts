// SPDX-License-Identifier: Apache-2.0
// What a run will need, before it starts: the real model and the real step on the plan device. Chooses what to keep for the
// backward pass: as much as fits the memory it is given.
import {
  type Compute,
  type MemoryKind,
  type OpName,
  type OpTotal,
  planDevice,
  type ScratchRule,
} from '../device/index.js';
import {
  ACTIVATION_POLICIES,
  type ActivationPolicy,
  type Batch,
  Llama,
  type LlamaConfig,
  type LoraSettings,
  type Quantization,
  type StoredType,
  shapesOnly,
  type WeightName,
  weightShapes,
} from '../model/index.js';
import { Trainer, type TrainingSettings } from './trainer.js';

export interface PlanRequest {
  config: LlamaConfig;
  /** Type of the weights in the files: that of embedding, head and unquantised layers in memory. */
  storedAs: StoredType | ((name: WeightName) => StoredType);
  quantization: Quantization;
  adapter: LoraSettings | 'full';
  compute: Compute;
  /** Shape of a micro-batch. */
  B: number;
  T: number;
  settings: TrainingSettings;
  scratchOf?: ScratchRule | undefined;
  /** Optimizer states lie elsewhere than the memory that is planned. */
  pagedOptimizer?: boolean | undefined;
}

export interface RunPlan {
  policy: ActivationPolicy;
  /** Bytes by kind at the moment of the highest need, and their sum. */
  memory: Partial<Record<MemoryKind, number>>;
  peakBytes: number;
  /** Tokens of a step and the work of one step, by op. */
  tokensPerStep: number;
  ops: ReadonlyMap<OpName, OpTotal>;
  parameters: { all: number; trainable: number };
}

/** Plans with the policy of the settings. */
export async function planRun(request: PlanRequest): Promise<RunPlan> {
  const { config, settings, B, T } = request;
  const device = planDevice(request.compute, request.scratchOf);
  const llama = new Llama(device, config, shapesOnly(config, request.storedAs), {
    quantization: request.quantization,
    adapter: request.adapter,
  });
  const trainer = new Trainer(llama, settings);
  device.resetWork();
  const batch = fullBatch(B, T);
  await trainer.step(
    Array.from({ length: settings.accumulation }, () => batch),
    { name: 'plan', learningRateFactor: 1 },
    0,
  );
  const trainable = llama.parameters!.size;
  const frozen = weightShapes(config).reduce(
    (sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1),
    0,
  );
  const memory: RunPlan['memory'] = Object.fromEntries(device.memory.peakByKind);
  const paged = request.pagedOptimizer ? (memory.optimizer ?? 0) : 0; // lives from the first step to the last
  if (request.pagedOptimizer) delete memory.optimizer;
  return {
    policy: settings.policy,
    memory,
    peakBytes: device.memory.peak - paged,
    tokensPerStep: B * T * settings.accumulation,
    ops: device.ops,
    parameters: { all: request.adapter === 'full' ? trainable : frozen + trainable, trainable },
  };
}

/** Plans with the policy that keeps most within `budgetBytes`, or with the one that keeps least where none fits. */
export async function planWithin(request: PlanRequest, budgetBytes: number): Promise<{ plan: RunPlan; fits: boolean }> {
  let plan: RunPlan | undefined;
  for (const policy of ACTIVATION_POLICIES) {
    plan = await planRun({ ...request, settings: { ...request.settings, policy } });
    if (plan.peakBytes <= budgetBytes) return { plan, fits: true };
  }
  return { plan: plan!, fits: false };
}

/** Rows without padding in which every token but the first is a target: the most a batch of this shape can cost. */
function fullBatch(B: number, T: number): Batch {
  const M = B * T;
  return {
    B,
    T,
    ids: new Int32Array(M),
    labels: new Int32Array(M),
    positions: Int32Array.from({ length: M }, (_, m) => m % T),
    segments: new Int32Array(M).fill(1),
  };
}
