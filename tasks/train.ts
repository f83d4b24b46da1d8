// SPDX-License-Identifier: Apache-2.0
// A training run from a recipe to an adapter on disk: opens and checks everything, plans the memory, trains through the
// stages, logs a line per step, and saves. Nothing in the output folder changes before the first step is about to run, and an
// earlier run's files there are moved aside, never overwritten.
import { appendFileSync, copyFileSync, existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { ADAPTER_FILES, type Adapter, writeAdapter, writeFileAtomically, writeModel } from '../checkpoints/index.js';
import {
  type Compute,
  type MemoryKind,
  type RunPlan,
  type StepEvent,
  type TrainingEvent,
  TrainingRun,
} from '../engine/index.js';
import { UserError } from '../errors.js';
import { native } from '../kernels/index.js';
import { parseRecipe, type Recipe, recipeToYaml } from '../recipes/index.js';
import { openRunData } from './data.js';
import { type OpenedModel, openForTraining, resolveCompute } from './open-model.js';
import { adapterSettings, type MemoryBudget, memoryBudget, type PlannedRun, planOf } from './run-settings.js';

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
  memory: MemoryBudget;
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
  const memory = memoryBudget(checked);
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
      const { plan, settings } = await planThatFits(checked, model, compute, data.totalSteps, memory);
      yield {
        type: 'start',
        output,
        compute,
        computeReason,
        instructionSet: native().instructionSet(),
        threads: native().threads(),
        plan,
        memory,
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

/** The run's plan. @throws UserError when it does not fit the memory and the recipe leaves the choice to us */
async function planThatFits(
  recipe: Recipe,
  model: OpenedModel,
  compute: Compute,
  totalSteps: number,
  memory: MemoryBudget,
): Promise<PlannedRun> {
  const shape = { config: model.files.config, storedAs: model.files.weight('embedding').dtype };
  const planned = await planOf(recipe, shape, compute, { totalSteps, memory });
  if (planned.fits || recipe.activations !== 'auto') return planned;
  const { plan } = planned;
  throw new UserError({
    expected: `a run that fits in ${gib(memory.budgetBytes)} GiB`,
    found: `one that needs ${gib(plan.peakBytes + memory.runtimeBytes)} GiB: ${describeMemory(plan.memory)}`,
    remedy: "'tacotune plan' says what would fit; or raise memoryGiB",
  });
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
