// SPDX-License-Identifier: Apache-2.0
// What a run will need, before it starts: memory by purpose, work and time. The engine runs the very step on a device that
// only counts; here stand the recipe's side of it (which model, which stages) and this machine's (how fast). Of a model its
// config is read, or its published shape where it is known by name; weights are never read.
import { existsSync } from 'node:fs';
import { type ActivationPolicy, type Compute, MATRIX_OPS, type MemoryKind, type RunPlan } from '../engine/index.js';
import { native } from '../kernels/index.js';
import { parseRecipe, type Recipe, type RecipeStage } from '../recipes/index.js';
import { type Ceilings, type MatrixRates, measureCeilings, measureRates } from './calibrate.js';
import { openRunData } from './data.js';
import { type CardName, type CardTime, CONTEXT_BYTES, cardOf, timeOnCard } from './gpu-cards.js';
import { isKnown, modelShape } from './model-shape.js';
import { openTokenizer } from './open-model.js';
import { kernelsOf, makeDevice, type Place, resolvePlace } from './place.js';
import {
  heldBytes,
  type MemoryBudget,
  type ModelShape,
  memoryBudget,
  type PlannedRun,
  planOf,
} from './run-settings.js';

export interface StagePlan {
  name: string;
  /** What ends it, in words. */
  end: string;
  /** Where the recipe or the data tell. */
  steps?: number;
  examples?: number;
}

export interface Plan {
  model: { name: string; parameters: number; trainable: number };
  compute: { type: Compute; reason: string; device: string; kernels: string };
  activations: ActivationPolicy;
  /** Bytes at the moment of the highest need; `data` is what feeding the run takes, `runtime` Node itself with the addon and our code. */
  memory: Partial<Record<MemoryKind | 'data' | 'runtime', number>>;
  /** On a GPU whose memory the optimizer's states would not fit: the driver moves them between host and GPU, and they do not count. */
  pagedOptimizer: boolean;
  peakBytes: number;
  budgetBytes: number;
  fits: boolean;
  /** Changes to the recipe (`key=value`) with which it would fit; empty where none helps. */
  remedy?: string[];
  /** At most: a step whose rows are full. */
  step: { tokens: number; flopsPerToken: number; flops: number; bytes: number };
  stages: StagePlan[];
  /** On this machine, or on the card that was named; `seconds` is of all stages, where their steps are known. */
  time?: { stepSeconds: number; tokensPerSecond: number; seconds?: number };
  /** Every op on the card that was named. */
  card?: CardTime;
}

export interface PlanOptions {
  /** Measure this machine, which takes about a second, for the time. Default true. */
  calibrate?: boolean;
  /** Plan for this card, which need not be here. */
  gpu?: CardName | undefined;
}

/**
 * Plans a run.
 * @param recipe a recipe, complete or with defaults left out
 * @throws UserError when the recipe is faulty, or its model or data cannot be read
 */
export async function plan(recipe: Recipe | object, { calibrate = true, gpu }: PlanOptions = {}): Promise<Plan> {
  const checked = parseRecipe(recipe);
  if (checked.threads > 0) native().setThreads(checked.threads);
  const shape = modelShape(checked.model);
  const { place, memory } = gpu ? onCard(checked, gpu) : await here(checked, shape);
  const planned = await planOf(checked, shape, place, { memory });
  const { plan: run, fits, pagedOptimizer } = planned;
  const stages = await stagePlans(checked, shape, run.tokensPerStep);
  const [flops, bytes] = (['flops', 'bytes'] as const).map((key) =>
    [...run.ops.values()].reduce((sum, op) => sum + op[key], 0),
  ) as [number, number];
  return {
    model: { name: checked.model, parameters: run.parameters.all, trainable: run.parameters.trainable },
    compute: { type: place.compute, reason: place.computeReason, device: place.device, kernels: kernelsOf(place) },
    activations: run.policy,
    memory: { ...run.memory, ...(memory.dataBytes > 0 && { data: memory.dataBytes }), runtime: memory.runtimeBytes },
    pagedOptimizer,
    peakBytes: run.peakBytes + heldBytes(memory),
    budgetBytes: memory.budgetBytes,
    fits,
    ...(!fits && { remedy: await remedyFor(checked, shape, place, memory) }),
    step: { tokens: run.tokensPerStep, flopsPerToken: flops / run.tokensPerStep, flops, bytes },
    stages,
    ...(await timeOf(checked, shape, place, planned, stages, { calibrate, gpu })),
  };
}

/** The stages with their steps: as counted on the data where it is there, else as far as the recipe tells. */
async function stagePlans(recipe: Recipe, { config }: ModelShape, tokensPerStep: number): Promise<StagePlan[]> {
  const described = recipe.stages.map((stage) => ({ name: stage.name, end: endOf(stage) }));
  if (isKnown(recipe.model) || !hasData(recipe)) {
    return described.map((stage, i) => ({ ...stage, ...stepsOf(recipe.stages[i]!, tokensPerStep) }));
  }
  const tokenizer = () => openTokenizer(recipe.tokenizer ?? recipe.model, config.vocabularySize);
  const data = await openRunData(recipe, { ...config, tokenizer });
  await data.close();
  return described.map((stage, i) => ({ ...stage, steps: data.stages[i]!.steps, examples: data.stages[i]!.examples }));
}

function hasData(recipe: Recipe): boolean {
  const sources = recipe.stages.flatMap(({ data }) => data);
  const paths = sources.flatMap(({ rows, english, tokens, text }) => [rows, english, tokens, text]);
  return paths.every((path) => path === undefined || existsSync(path));
}

function endOf({ steps, tokens, epochs, heldOutLoss, plateau }: RecipeStage): string {
  const ends = [
    steps !== undefined && `${steps} steps`,
    tokens !== undefined && `${tokens} tokens`,
    epochs !== undefined && (epochs === 1 ? '1 epoch' : `${epochs} epochs`),
    heldOutLoss !== undefined && `held-out loss below ${heldOutLoss}`,
    plateau !== undefined && 'a plateau of the held-out loss',
  ].filter(Boolean);
  return ends.join(' or ') || '1 epoch';
}

function stepsOf({ steps, tokens }: RecipeStage, tokensPerStep: number): { steps?: number } {
  const byTokens = tokens === undefined ? Number.POSITIVE_INFINITY : Math.ceil(tokens / tokensPerStep);
  const least = Math.min(steps ?? Number.POSITIVE_INFINITY, byTokens);
  return Number.isFinite(least) ? { steps: least } : {};
}

interface Saving {
  key: string;
  value: string | number;
  helps(recipe: Recipe): boolean;
}

/** Changes that save memory, in the order of what they cost: nothing, a little precision, some of each example, some of the adapter. */
const SAVINGS: readonly Saving[] = [
  { key: 'activations', value: 'auto', helps: ({ activations }) => activations !== 'auto' },
  { key: 'batch.rows', value: 1, helps: ({ batch }) => batch.rows > 1 },
  { key: 'quantize', value: 'nf4', helps: ({ quantize, adapter }) => quantize === 'none' && adapter.type === 'lora' },
  { key: 'optimizer.kind', value: 'adamw-8bit', helps: ({ optimizer }) => optimizer.kind !== 'adamw-8bit' },
  ...[2048, 1024, 512, 256, 128].map((value) => ({
    key: 'batch.context',
    value,
    helps: ({ batch }: Recipe) => batch.context > value,
  })),
  ...[16, 8, 4].map((value) => ({
    key: 'adapter.rank',
    value,
    helps: ({ adapter }: Recipe) => adapter.rank > value && adapter.type === 'lora',
  })),
];

/** The first changes, each on top of those before, with which a run fits; none where nothing helps. */
async function remedyFor(recipe: Recipe, shape: ModelShape, place: Place, memory: MemoryBudget): Promise<string[]> {
  const changes = new Map<string, string | number>(); // by key: a smaller context replaces a larger one
  let changed = recipe;
  for (const { key, value, helps } of SAVINGS) {
    if (!helps(changed)) continue;
    changes.set(key, value);
    changed = withChange(changed, key, value);
    if ((await planOf(changed, shape, place, { memory })).fits) return [...changes].map((change) => change.join('='));
  }
  return [];
}

function withChange(recipe: Recipe, key: string, value: string | number): Recipe {
  const [section, name] = key.split('.') as [keyof Recipe, string?];
  const changed = name === undefined ? value : { ...(recipe[section] as object), [name]: value };
  return parseRecipe({ ...recipe, [section]: changed });
}

/** Seconds of a step: from the card's peaks where one was named, else from what this machine is measured to do. */
async function timeOf(
  recipe: Recipe,
  { config }: ModelShape,
  place: Place,
  { plan: run }: PlannedRun,
  stages: readonly StagePlan[],
  { calibrate, gpu }: PlanOptions,
): Promise<Pick<Plan, 'time' | 'card'>> {
  if (!gpu && !calibrate) return {};
  const card = gpu && timeOnCard(run, cardOf(gpu), place.compute);
  const stepSeconds = card ? card.stepSeconds : await measuredSeconds(recipe, config, place, run);
  const steps = stages.reduce((sum, stage) => sum + (stage.steps ?? Number.NaN), 0);
  const time = {
    stepSeconds,
    tokensPerSecond: run.tokensPerStep / stepSeconds,
    ...(Number.isFinite(steps) && { seconds: steps * stepSeconds }),
  };
  return card ? { time, card } : { time };
}

async function measuredSeconds(
  { quantize, batch }: Recipe,
  config: ModelShape['config'],
  place: Place,
  run: RunPlan,
): Promise<number> {
  const device = await makeDevice(place);
  const rates = measureRates(device, { config, quantization: quantize, B: batch.rows, T: batch.context });
  return secondsOfStep(run, rates, measureCeilings(device));
}

/** This machine's device and what it can give. */
async function here(recipe: Recipe, shape: ModelShape): Promise<{ place: Place; memory: MemoryBudget }> {
  const place = resolvePlace(recipe);
  return { place, memory: await memoryBudget(recipe, shape, place) };
}

/** A card that need not be here, with nothing else on it. */
function onCard({ compute, memoryGiB }: Recipe, gpu: CardName): { place: Place; memory: MemoryBudget } {
  const { name, memoryBytes } = cardOf(gpu);
  const budgetBytes = Math.min(memoryBytes, memoryGiB === undefined ? memoryBytes : memoryGiB * 2 ** 30);
  return {
    place: {
      device: 'cuda',
      deviceReason: `${name}, planned without one`,
      compute: compute === 'auto' ? 'bf16' : compute,
      computeReason: compute === 'auto' ? 'tensor cores multiply bf16' : 'asked for',
    },
    memory: { budgetBytes, runtimeBytes: CONTEXT_BYTES, dataBytes: 0 },
  };
}

/** Products by their rates, everything else by the bytes that it moves. */
function secondsOfStep(run: RunPlan, rates: MatrixRates, { flops: fastest, bandwidth }: Ceilings): number {
  let seconds = 0;
  for (const [op, { flops, bytes }] of run.ops) {
    seconds += MATRIX_OPS.has(op) ? flops / (rates.get(op) ?? fastest) : bytes / bandwidth;
  }
  return seconds;
}
