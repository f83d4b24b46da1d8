// SPDX-License-Identifier: Apache-2.0
// A training run from a recipe to an adapter on disk: opens and checks everything, plans the memory, trains through the
// stages, logs a line per step, and saves. Nothing in the output folder changes before the first step is about to run, and an
// earlier run's files there are moved aside, never overwritten.
import { appendFileSync, copyFileSync, existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs';
import { freemem } from 'node:os';
import { join } from 'node:path';
import { ADAPTER_FILES, type Adapter, writeAdapter, writeFileAtomically, writeModel } from '../checkpoints/index.js';
import {
  type Compute,
  type LoraSettings,
  type MemoryKind,
  planRun,
  planWithin,
  type RunPlan,
  type StepEvent,
  type TrainingEvent,
  TrainingRun,
  type TrainingSettings,
} from '../engine/index.js';
import { UserError } from '../errors.js';
import { native } from '../kernels/index.js';
import { parseRecipe, type Recipe, recipeToYaml } from '../recipes/index.js';
import { openRunData } from './data.js';
import { type OpenedModel, openForTraining, resolveCompute } from './open-model.js';

export interface TrainOptions {
  /** Folder for adapter, log and recipe. */
  output: string;
  /** Adapter directory to start from. */
  initAdapter?: string | undefined;
  /** Ends the run after the running step, with the adapter saved. */
  signal?: AbortSignal | undefined;
}

/** What the run will be, known before its first step. */
export interface StartEvent {
  type: 'start';
  output: string;
  compute: Compute;
  /** Why this compute type. */
  computeReason: string;
  instructionSet: string;
  threads: number;
  plan: RunPlan;
  /** Bytes that were available to plan with. */
  budgetBytes: number;
  totalSteps: number;
  stages: { name: string; steps: number; examples: number; heldOutExamples: number }[];
}

export type RunEvent =
  | StartEvent
  | TrainingEvent
  /** Files written so far hold the adapter as of this step. */
  | { type: 'saved'; step: number; files: string[] };

/** Where the files of a run lie. */
export const RUN_FILES = { log: 'log.jsonl', recipe: 'recipe.yaml' } as const;

/**
 * Trains as the recipe says.
 * @param recipe a recipe, complete or with defaults left out
 * @throws UserError when anything the recipe names is missing or does not fit; the output folder is then untouched
 */
export async function* train(recipe: Recipe | object, options: TrainOptions): AsyncGenerator<RunEvent> {
  const checked = parseRecipe(recipe);
  const { output, signal } = options;
  const { compute, reason: computeReason } = resolveCompute(checked.compute);
  const model = openForTraining({
    model: checked.model,
    tokenizer: checked.tokenizer,
    adapter: options.initAdapter,
    quantize: checked.quantize,
    compute,
    threads: checked.threads || undefined,
    adapterSettings: adapterSettings(checked),
    seed: checked.seed,
  });
  try {
    const { config } = model.files;
    const data = await openRunData(checked, { ...config, tokenizer: () => model.tokenizer });
    try {
      const budgetBytes = budgetOf(checked);
      const { plan, settings } = await planOf(checked, model, compute, data.totalSteps, budgetBytes);
      yield {
        type: 'start',
        output,
        compute,
        computeReason,
        instructionSet: native().instructionSet(),
        threads: native().threads(),
        plan,
        budgetBytes,
        totalSteps: data.totalSteps,
        stages: data.stages.map(({ stage, steps, examples, heldOutExamples }) => ({
          name: stage.name,
          steps,
          examples,
          heldOutExamples,
        })),
      };
      openOutput(output);
      writeFileAtomically(join(output, RUN_FILES.recipe), recipeToYaml(checked));
      let savedStep = -1;
      for await (const event of new TrainingRun(
        model.llama,
        data.stages.map(({ stage }) => stage),
        settings,
        { signal },
      )) {
        if (event.type === 'step') appendFileSync(join(output, RUN_FILES.log), `${logLine(event)}\n`);
        yield event;
        if ((event.type === 'stage-end' || event.type === 'end') && event.step !== savedStep) {
          yield { type: 'saved', step: event.step, files: await save(model, checked, output) };
          savedStep = event.step;
        }
      }
    } finally {
      await data.close();
    }
  } finally {
    model.close();
  }
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

/** Bytes that a run may use: what the recipe says, or most of what is free. */
export function budgetOf({ memoryGiB }: Recipe): number {
  return memoryGiB === undefined ? 0.9 * availableBytes() : memoryGiB * 2 ** 30;
}

function availableBytes(): number {
  // Node knows of cgroup limits; 0 means that there is none it can see.
  const limited = process.availableMemory?.() ?? 0;
  return limited > 0 ? Math.min(limited, freemem() + limited) : freemem();
}

async function planOf(
  recipe: Recipe,
  model: OpenedModel,
  compute: Compute,
  totalSteps: number,
  budgetBytes: number,
): Promise<{ plan: RunPlan; settings: TrainingSettings }> {
  const settings = trainingSettings(recipe, totalSteps);
  const request = {
    config: model.files.config,
    storedAs: model.files.weight('embedding').dtype,
    quantization: recipe.quantize,
    adapter: adapterSettings(recipe),
    compute,
    B: recipe.batch.rows,
    T: recipe.batch.context,
    settings,
  };
  if (recipe.activations !== 'auto') return { plan: await planRun(request), settings };
  const { plan, fits } = await planWithin(request, budgetBytes);
  if (!fits) {
    throw new UserError({
      expected: `a run that fits in ${gib(budgetBytes)} GiB`,
      found: `one that needs ${gib(plan.peakBytes)} GiB: ${describeMemory(plan.memory)}`,
      remedy: 'lower batch.context, batch.rows or adapter.rank, use optimizer.kind=adamw-8bit, or raise memoryGiB',
    });
  }
  return { plan, settings: { ...settings, policy: plan.policy } };
}

const gib = (bytes: number): string => (bytes / 2 ** 30).toFixed(2);

function describeMemory(memory: Partial<Record<MemoryKind, number>>): string {
  return Object.entries(memory)
    .map(([kind, bytes]) => `${kind} ${gib(bytes)}`)
    .join(', ');
}

/** Makes the folder ready for a run: files of an earlier run in it move to a folder of their own. */
function openOutput(output: string): void {
  mkdirSync(output, { recursive: true });
  const ours = [...ADAPTER_FILES, ...MODEL_FILES, RUN_FILES.log, RUN_FILES.recipe].filter((file) =>
    existsSync(join(output, file)),
  );
  if (ours.length === 0) return;
  const earlier = readdirSync(output)
    .filter((name) => /^earlier-\d+$/.test(name))
    .map((name) => Number(name.slice(8)));
  const folder = join(output, `earlier-${Math.max(0, ...earlier) + 1}`);
  mkdirSync(folder);
  for (const file of ours) renameSync(join(output, file), join(folder, file));
}

/** Files of a fully trained model, and those that make its folder complete. */
const MODEL_FILES = [
  'config.json',
  'model.safetensors',
  'tokenizer.model',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'generation_config.json',
];

async function save(model: OpenedModel, recipe: Recipe, output: string): Promise<string[]> {
  const { llama, files } = model;
  const { device, parameters } = llama;
  if (llama.adapter === 'full') {
    await writeModel(output, files.config, async (name) => device.download(parameters!.get(name).value), {
      dtype: files.weight('embedding').dtype,
    });
    const beside = MODEL_FILES.slice(2).filter((file) => existsSync(join(files.directory, file)));
    for (const file of beside) copyFileSync(join(files.directory, file), join(output, file));
    return ['config.json', 'model.safetensors', ...beside].map((file) => join(output, file));
  }
  const settings = llama.adapter!;
  const adapter: Adapter = { ...settings, targets: [...settings.targets], baseModel: recipe.model, tensors: new Map() };
  for (const { name, shape, value } of parameters!.list) {
    adapter.tensors.set(name as `layers.${number}.q.A`, {
      shape: shape as [number, number],
      data: await device.download(value),
    });
  }
  await writeAdapter(output, adapter);
  return ADAPTER_FILES.map((file) => join(output, file));
}

/** The log's line of a step: what people plot, in a fixed order. */
function logLine({ type: _, ...fields }: StepEvent): string {
  return JSON.stringify(fields);
}
