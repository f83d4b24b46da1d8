// SPDX-License-Identifier: Apache-2.0
// A recipe as the engine takes it: settings, and what to keep for the backward pass so that the run fits the memory there is.
// Training, planning and profiling all go through here, so a plan is of the very run that follows.
import {
  cpuScratch,
  cudaScratch,
  type LlamaConfig,
  type LoraSettings,
  type PlanRequest,
  planRun,
  planWithin,
  type RunPlan,
  type ScratchRule,
  type StoredType,
  type TrainingSettings,
  tfjsScratch,
  type WeightName,
} from '../engine/index.js';
import { native, openGpu } from '../kernels/index.js';
import type { Recipe } from '../recipes/index.js';
import { dataMemory } from './data-memory.js';
import type { DeviceName, Place } from './place.js';

/** What a plan must know of a model: no weights. */
export interface ModelShape {
  config: LlamaConfig;
  /** Type of the weights in its files. */
  storedAs: PlanRequest['storedAs'];
}

export function adapterSettings({ adapter }: Recipe): LoraSettings | 'full' {
  if (adapter.type === 'full') return 'full';
  const { rank, alpha, dropout, rslora, targets } = adapter;
  return { rank, alpha, dropout, rslora, targets };
}

/** The engine's settings of a recipe. */
export function trainingSettings(recipe: Recipe, totalSteps: number): TrainingSettings {
  const { optimizer, batch } = recipe;
  const { kind, learningRate, beta1, beta2, eps, weightDecay } = optimizer;
  return {
    optimizer: { kind, learningRate, beta1, beta2, eps, weightDecay },
    schedule: { kind: optimizer.schedule, warmupSteps: optimizer.warmupSteps, totalSteps },
    accumulation: batch.accumulation,
    maxGradientNorm: optimizer.maxGradientNorm,
    lossNormalization: batch.lossNormalization,
    policy: recipe.activations === 'auto' ? 'keep-all' : recipe.activations,
    seed: recipe.seed,
    maxSkippedSteps: optimizer.maxSkippedSteps,
    evaluateEvery: recipe.data.evaluateEvery,
  };
}

export interface PlannedRun {
  plan: RunPlan;
  /** With the policy that was chosen. */
  settings: TrainingSettings;
  memory: MemoryBudget;
  /** The optimizer's states do not count: the driver moves them between host and GPU. */
  pagedOptimizer: boolean;
  /** With all that is held besides, it stays within the budget. */
  fits: boolean;
}

/** Plans the run of a recipe: the policy that it names, or the one that keeps most within the budget. */
export async function planOf(
  recipe: Recipe,
  { config, storedAs }: ModelShape,
  { device, compute }: Pick<Place, 'device' | 'compute'>,
  { totalSteps = 1, memory }: { totalSteps?: number; memory: MemoryBudget },
): Promise<PlannedRun> {
  const settings = trainingSettings(recipe, totalSteps);
  // TensorFlow.js holds 16-bit weights as f32.
  const held = (type: StoredType) => (device === 'tfjs' && (type === 'bf16' || type === 'f16') ? 'f32' : type);
  const request = {
    config,
    storedAs: typeof storedAs === 'function' ? (name: WeightName) => held(storedAs(name)) : held(storedAs),
    quantization: recipe.quantize,
    adapter: adapterSettings(recipe),
    compute,
    B: recipe.batch.rows,
    T: recipe.batch.context,
    settings,
    scratchOf: scratchOf(device, recipe),
  };
  const budget = memory.budgetBytes - heldBytes(memory);
  const within = async (pagedOptimizer: boolean): Promise<PlannedRun> => {
    const wanted = { ...request, pagedOptimizer };
    if (recipe.activations !== 'auto') {
      const plan = await planRun(wanted);
      return { plan, settings, memory, pagedOptimizer, fits: plan.peakBytes <= budget };
    }
    const { plan, fits } = await planWithin(wanted, budget);
    return { plan, settings: { ...settings, policy: plan.policy }, memory, pagedOptimizer, fits };
  };
  const { paged } = recipe.optimizer;
  const planned = await within(device === 'cuda' && paged === 'on');
  return planned.fits || device !== 'cuda' || paged !== 'auto' ? planned : within(true);
}

function scratchOf(device: DeviceName, { cublasLt }: Recipe): ScratchRule {
  if (device === 'cuda') return cudaScratch(cublasLt);
  return device === 'tfjs' ? tfjsScratch() : cpuScratch(native().threads());
}

export interface MemoryBudget {
  /** Bytes that the run may have in all: of the process on the CPU, of the card on a GPU. */
  budgetBytes: number;
  /** Bytes of it that are taken before the model: Node itself, the addon, our code; or the driver's context. */
  runtimeBytes: number;
  /** Bytes that feeding the run takes; none of a card's. */
  dataBytes: number;
}

/** All that is held besides what the engine plans. */
export const heldBytes = ({ runtimeBytes, dataBytes }: MemoryBudget): number => runtimeBytes + dataBytes;

/** Of the memory that the system (or the container) can still give: the rest is left to others. */
const USABLE_SHARE = 0.9;

/** What JavaScript's heap and compiled code grow by in a run: 2 to 20 MiB measured, more where text is cut into tokens. */
const HEAP_GROWTH = 8 * 2 ** 20;

/** What TensorFlow takes before any tensor, 360 MiB measured; it is loaded after the budget is made. */
const TENSORFLOW = 360 * 2 ** 20;

/** What a recipe allows, or most of what is free; and what this process holds besides the run. Ask before the model is opened. */
export async function memoryBudget(
  recipe: Recipe,
  { config }: ModelShape,
  { device }: Pick<Place, 'device'>,
): Promise<MemoryBudget> {
  const { memoryGiB } = recipe;
  if (device === 'cuda') {
    const { freeBytes, totalBytes } = openGpu().memory();
    const available = memoryGiB === undefined ? totalBytes : Math.min(totalBytes, memoryGiB * 2 ** 30);
    return { budgetBytes: available, runtimeBytes: totalBytes - freeBytes, dataBytes: 0 };
  }
  const runtimeBytes = process.memoryUsage.rss() + HEAP_GROWTH + (device === 'tfjs' ? TENSORFLOW : 0);
  const budgetBytes =
    memoryGiB === undefined ? runtimeBytes + USABLE_SHARE * process.availableMemory() : memoryGiB * 2 ** 30;
  return { budgetBytes, runtimeBytes, dataBytes: await dataMemory(recipe, config.vocabularySize) };
}
