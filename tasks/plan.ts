// SPDX-License-Identifier: Apache-2.0
// What a run will need, before it starts: memory by purpose, work and time. The engine runs the very step on a device that
// only counts; here stand the recipe's side of it (which model, which stages) and this machine's (how fast). Of a model its
// config is read, or its published shape where it is known by name; weights are never read.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { hasWeights, isLinearWeight, openModel, readLlamaConfig } from '../checkpoints/index.js';
import {
  type ActivationPolicy,
  type Compute,
  CpuDevice,
  MATRIX_OPS,
  type MemoryKind,
  type RunPlan,
} from '../engine/index.js';
import { native } from '../kernels/index.js';
import { KNOWN_MODELS, parseRecipe, type Recipe, type RecipeStage } from '../recipes/index.js';
import { type Ceilings, type MatrixRates, measureCeilings, measureRates } from './calibrate.js';
import { openRunData } from './data.js';
import { openTokenizer, resolveCompute } from './open-model.js';
import { type MemoryBudget, type ModelShape, planOf } from './run-settings.js';

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
  compute: { type: Compute; reason: string; instructionSet: string; threads: number };
  activations: ActivationPolicy;
  /** Bytes at the moment of the highest need; `runtime` is Node itself with the addon and our code. */
  memory: Partial<Record<MemoryKind | 'runtime', number>>;
  peakBytes: number;
  budgetBytes: number;
  fits: boolean;
  /** Changes to the recipe (`key=value`) with which it would fit; empty where none helps. */
  remedy?: string[];
  /** At most: a step whose rows are full. */
  step: { tokens: number; flopsPerToken: number; flops: number; bytes: number };
  stages: StagePlan[];
  /** On this machine; `seconds` is of all stages, where their steps are known. */
  time?: { stepSeconds: number; tokensPerSecond: number; seconds?: number };
}

export interface PlanOptions {
  /** Measure this machine, which takes about a second, for the time. Default true. */
  calibrate?: boolean;
}

/**
 * Plans a run.
 * @param recipe a recipe, complete or with defaults left out
 * @throws UserError when the recipe is faulty, or its model or data cannot be read
 */
export async function plan(recipe: Recipe | object, { calibrate = true }: PlanOptions = {}): Promise<Plan> {
  const checked = parseRecipe(recipe);
  if (checked.threads > 0) native().setThreads(checked.threads);
  const shape = modelShape(checked.model);
  const { compute, reason } = resolveCompute(checked.compute);
  const { plan: run, memory, fits } = await planOf(checked, shape, compute);
  const stages = await stagePlans(checked, shape, run.tokensPerStep);
  const [flops, bytes] = (['flops', 'bytes'] as const).map((key) =>
    [...run.ops.values()].reduce((sum, op) => sum + op[key], 0),
  ) as [number, number];
  return {
    model: { name: checked.model, parameters: run.parameters.all, trainable: run.parameters.trainable },
    compute: { type: compute, reason, instructionSet: native().instructionSet(), threads: native().threads() },
    activations: run.policy,
    memory: { ...run.memory, runtime: memory.runtimeBytes },
    peakBytes: run.peakBytes + memory.runtimeBytes,
    budgetBytes: memory.budgetBytes,
    fits,
    ...(!fits && { remedy: await remedyFor(checked, shape, compute, memory) }),
    step: { tokens: run.tokensPerStep, flopsPerToken: flops / run.tokensPerStep, flops, bytes },
    stages,
    ...(calibrate && { time: expectedTime(checked, shape, compute, run, stages) }),
  };
}

/** The shape of a model directory's model, or of a published model by its name. */
function modelShape(model: string): ModelShape {
  if (isKnown(model)) return { config: KNOWN_MODELS[model as keyof typeof KNOWN_MODELS], storedAs: 'bf16' };
  if (!hasWeights(model)) return { config: readLlamaConfig(model), storedAs: statedTypes(model) };
  const files = openModel(model); // reads headers alone
  const types = new Map(files.tensorNames.map((name) => [name, files.storedAs(name)]));
  files.close();
  return { config: files.config, storedAs: (name) => types.get(name)! };
}

const isKnown = (model: string): boolean => Object.hasOwn(KNOWN_MODELS, model) && !existsSync(model);

const STATED_TYPES: Record<string, 'f32' | 'bf16' | 'f16'> = { float32: 'f32', float16: 'f16', bfloat16: 'bf16' };

/** How a config says that its weights are stored, where they are not there: 16 bits if it says nothing. */
function statedTypes(directory: string): ModelShape['storedAs'] {
  const fields = JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8')) as Record<string, unknown>;
  const dense = STATED_TYPES[String(fields['dtype'] ?? fields['torch_dtype'])] ?? 'bf16';
  return fields['quantization_config'] ? (name) => (isLinearWeight(name) ? 'nf4' : dense) : dense;
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
async function remedyFor(recipe: Recipe, shape: ModelShape, compute: Compute, memory: MemoryBudget): Promise<string[]> {
  const changes = new Map<string, string | number>(); // by key: a smaller context replaces a larger one
  let changed = recipe;
  for (const { key, value, helps } of SAVINGS) {
    if (!helps(changed)) continue;
    changes.set(key, value);
    changed = withChange(changed, key, value);
    if ((await planOf(changed, shape, compute, { memory })).fits) return [...changes].map((change) => change.join('='));
  }
  return [];
}

function withChange(recipe: Recipe, key: string, value: string | number): Recipe {
  const [section, name] = key.split('.') as [keyof Recipe, string?];
  const changed = name === undefined ? value : { ...(recipe[section] as object), [name]: value };
  return parseRecipe({ ...recipe, [section]: changed });
}

function expectedTime(
  { quantize, batch }: Recipe,
  { config }: ModelShape,
  compute: Compute,
  run: RunPlan,
  stages: readonly StagePlan[],
): Plan['time'] {
  const device = new CpuDevice({ compute });
  const rates = measureRates(device, { config, quantization: quantize, B: batch.rows, T: batch.context });
  const stepSeconds = secondsOfStep(run, rates, measureCeilings(device));
  const steps = stages.reduce((sum, stage) => sum + (stage.steps ?? Number.NaN), 0);
  return {
    stepSeconds,
    tokensPerSecond: run.tokensPerStep / stepSeconds,
    ...(Number.isFinite(steps) && { seconds: steps * stepSeconds }),
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
