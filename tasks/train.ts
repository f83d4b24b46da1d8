// SPDX-License-Identifier: Apache-2.0
// A training run from a recipe to an adapter on disk: opens and checks everything, plans the memory, trains through the
// stages, logs and saves. Nothing in the output folder changes before the first step is about to run.
import { join } from 'node:path';
import { type Compute, type MemoryKind, type RunPlan, type TrainingEvent, TrainingRun } from '../engine/index.js';
import { UserError } from '../errors.js';
import { loadRecipe, parseRecipe, type Recipe } from '../recipes/index.js';
import { openRunData } from './data.js';
import { writeModelCard } from './model-card.js';
import { modelShape } from './model-shape.js';
import { type NoticeEvent, Notices } from './notices.js';
import { type OpenedModel, openForTraining } from './open-model.js';
import {
  cublasLtOf,
  type DeviceName,
  gib,
  kernelsOf,
  makeDevice,
  memoryExplained,
  type Place,
  resolvePlace,
} from './place.js';
import { findResumePoint, type ResumePoint, RUN_FILES, RunFolder, restoreOptimizer } from './run-folder.js';
import {
  adapterSettings,
  heldBytes,
  type MemoryBudget,
  type ModelShape,
  memoryBudget,
  type PlannedRun,
  planOf,
  trainingSettings,
} from './run-settings.js';

export interface TrainOptions {
  /** Folder for adapter, log, recipe and checkpoints. */
  output: string;
  /** Adapter directory to start from. */
  initAdapter?: string | undefined;
  /** Ends the run after the running step, with everything saved. */
  signal?: AbortSignal | undefined;
}

export interface ResumeOptions {
  /** A checkpoint by its name (`step-00000100`); default: the newest. */
  checkpoint?: string | undefined;
  signal?: AbortSignal | undefined;
}

/** What the run will be, known before its first step. */
export interface StartEvent {
  type: 'start';
  output: string;
  device: DeviceName;
  /** Why this device. */
  deviceReason: string;
  compute: Compute;
  /** Why this compute type. */
  computeReason: string;
  /** What the kernels are: instruction set and threads, or the GPU. */
  kernels: string;
  plan: RunPlan;
  memory: MemoryBudget;
  totalSteps: number;
  stages: { name: string; steps: number; examples: number; heldOutExamples: number }[];
  /** Steps that a resumed run had done already; 0 for a new one. */
  resumedAt: number;
}

export type RunEvent =
  | StartEvent
  | TrainingEvent
  /** Files written so far hold the adapter as of this step. */
  | { type: 'saved'; step: number; files: string[] }
  | NoticeEvent;

/**
 * Trains as the recipe says.
 * @param recipe a recipe, complete or with defaults left out
 * @throws UserError when anything the recipe names is missing or does not fit; the output folder is then untouched
 */
export async function* train(recipe: Recipe | object, options: TrainOptions): AsyncGenerator<RunEvent> {
  yield* run(parseRecipe(recipe), options);
}

/**
 * Goes on with a run that was stopped or killed, to the bytes that it would have had.
 * @param output the run's folder
 * @throws UserError when it has no checkpoint, or a damaged one
 */
export async function* resume(output: string, options: ResumeOptions = {}): AsyncGenerator<RunEvent> {
  const point = findResumePoint(output, options.checkpoint);
  const { recipe } = loadRecipe(join(output, RUN_FILES.recipe));
  yield* run(recipe, { output, signal: options.signal }, point);
}

async function* run(recipe: Recipe, options: TrainOptions, point?: ResumePoint): AsyncGenerator<RunEvent> {
  const place = placeOf(recipe, point);
  // A checkpoint of a whole model is a model directory of its own.
  const path = point && recipe.adapter.type === 'full' ? point.folder : recipe.model;
  const shape = modelShape(path);
  const memory = await memoryBudget(recipe, shape, place);
  const planned = await planThatFits(recipe, shape, place, memory);
  try {
    yield* runPlanned(recipe, options, point, { path, place, planned });
  } catch (error) {
    throw memoryExplained(error, planned.plan.memory);
  }
}

async function* runPlanned(
  recipe: Recipe,
  { output, initAdapter, signal }: TrainOptions,
  point: ResumePoint | undefined,
  { path, place, planned }: { path: string; place: Place; planned: PlannedRun },
): AsyncGenerator<RunEvent> {
  const { plan, memory, pagedOptimizer } = planned;
  const { compute, computeReason } = place;
  const settings = adapterSettings(recipe);
  const { threads, cublasLt } = recipe;
  const device = await makeDevice(place, { threads, pagedOptimizer, cublasLt });
  const model = openForTraining({
    model: path,
    tokenizer: recipe.tokenizer ?? recipe.model,
    adapter: settings === 'full' ? undefined : (point?.folder ?? initAdapter),
    quantize: recipe.quantize,
    device,
    adapterSettings: settings,
    seed: recipe.seed,
  });
  try {
    const { config } = model.files;
    const notices = new Notices();
    let warned = false;
    const warn = () => {
      const { trouble } = cublasLtOf(device);
      if (trouble === undefined || warned) return;
      warned = true;
      notices.tell(`${trouble}\nLarge products are computed by tacotune's own kernels.`);
    };
    warn();
    const vocabulary = { ...config, tokenizer: () => model.tokenizer };
    const opening = openRunData(recipe, vocabulary, { state: point?.training, notice: notices.tell });
    try {
      yield* notices.until(opening);
      const data = await opening;
      const settings = { ...trainingSettings(recipe, data.totalSteps), policy: plan.policy };
      yield {
        type: 'start',
        output,
        device: place.device,
        deviceReason: place.deviceReason,
        compute,
        computeReason,
        kernels: kernelsOf(place, device),
        plan,
        memory,
        totalSteps: data.totalSteps,
        stages: data.stages.map(({ stage, steps, examples, heldOutExamples }) => ({
          name: stage.name,
          steps,
          examples,
          heldOutExamples,
        })),
        resumedAt: point?.training.step ?? 0,
      };
      const folder = RunFolder.take(output);
      try {
        if (point) folder.resume(point);
        else {
          const moved = folder.begin(recipe);
          if (moved !== undefined) notices.tell(`The files of an earlier run in ${output} are now in ${moved}.`);
        }
        yield* notices.take();
        const stages = data.stages.map(({ stage }) => stage);
        const training = new TrainingRun(model.llama, stages, settings, { signal, state: point?.training });
        if (point) restoreOptimizer(model, training.optimizer, point);
        else await folder.saveState(training, model, recipe); // so that there is always one to go on from
        for await (const event of recorded(training, folder, model, recipe, output)) {
          warn();
          yield* notices.take();
          yield event;
        }
        yield* notices.take();
      } finally {
        folder.release();
      }
    } finally {
      await opening.then(
        (data) => data.close(),
        () => {}, // thrown where it was awaited
      );
    }
  } finally {
    model.close();
  }
}

/** The events of a run, logged, with checkpoints and results saved on the way. */
async function* recorded(
  training: TrainingRun,
  folder: RunFolder,
  model: OpenedModel,
  recipe: Recipe,
  output: string,
): AsyncGenerator<RunEvent> {
  const { every } = recipe.checkpoints;
  const saved = { state: training.state.step, result: -1, files: [] as string[] };
  for await (const event of training) {
    folder.log(event);
    yield event;
    const ends = event.type === 'stage-end' || event.type === 'end';
    const due = event.type === 'step' && every > 0 && event.step % every === 0;
    const { step } = training.state;
    if (ends && saved.result !== step) {
      saved.files = await folder.saveResult(model, recipe);
      saved.result = step;
      if (event.type === 'stage-end') yield { type: 'saved', step, files: saved.files };
    }
    if (event.type === 'end') yield { type: 'saved', step, files: [...saved.files, await writeModelCard(output)] };
    // After the result: a run that ended and lost its last checkpoint ends again, a lost result would never be written.
    if (due || event.type === 'stage-end' || (ends && saved.state !== step)) {
      await folder.saveState(training, model, recipe);
      saved.state = step;
    }
  }
}

/** A resumed run computes as it began: its bytes depend on it. */
function placeOf(recipe: Recipe, point: ResumePoint | undefined): Place {
  if (!point) return resolvePlace(recipe);
  const { compute, device } = point;
  return { ...resolvePlace({ device, compute }), computeReason: 'as when the run began' };
}

/** The run's plan. @throws UserError when it does not fit the memory and the recipe leaves the choice to us */
async function planThatFits(
  recipe: Recipe,
  shape: ModelShape,
  place: Place,
  memory: MemoryBudget,
): Promise<PlannedRun> {
  const planned = await planOf(recipe, shape, place, { memory });
  if (planned.fits || recipe.activations !== 'auto') return planned;
  const { plan } = planned;
  throw new UserError({
    expected: `a run that fits in ${gib(memory.budgetBytes)}`,
    found: `one that needs ${gib(plan.peakBytes + heldBytes(memory))}: ${describeMemory(plan.memory)}`,
    remedy: "'tacotune plan' says what would fit; or raise memoryGiB",
  });
}

function describeMemory(memory: Partial<Record<MemoryKind, number>>): string {
  return Object.entries(memory)
    .map(([kind, bytes]) => `${kind} ${gib(bytes)}`)
    .join(', ');
}
