// SPDX-License-Identifier: Apache-2.0
// Read this first. Training is: for each stage of the curriculum, take micro-batches, sum their gradients, clip, update,
// measure; until the stage's rule says that it is over. The trainer takes token batches from anyone and gives events to
// anyone; it reads and writes no file. Same seed, same batches: same bits, on any number of threads, stopped and resumed or not.
import { UserError } from '../../errors.js';
import type { F32 } from '../device/index.js';
import {
  type ActivationPolicy,
  type Batch,
  countTargets,
  countTokens,
  LINEAR_NAMES,
  type Llama,
  type SeedOf,
} from '../model/index.js';
import { seedOf } from '../random.js';
import { reasonToEnd, type StageEnd, type StageProgress } from './curriculum.js';
import { Optimizer, type OptimizerSettings } from './optimizer.js';
import { type Schedule, scheduleFactor } from './schedule.js';

export interface TrainingSettings {
  optimizer: OptimizerSettings;
  schedule: Schedule;
  /** Micro-batches whose gradients make one step. */
  accumulation: number;
  /** Gradients longer than this are scaled down to it; 0 is no limit. */
  maxGradientNorm: number;
  /** A step's loss is the sum over its targets divided by their number; `micro-batches` averages the micro-batches' means instead. */
  lossNormalization: 'tokens' | 'micro-batches';
  policy: ActivationPolicy;
  seed: number;
  /** Steps with a loss or gradient that is not finite are skipped; after so many in a run it stops. */
  maxSkippedSteps: number;
  /** Steps between evaluations on the held-out batches; 0 is never. A stage's end is evaluated always. */
  evaluateEvery: number;
}

/** A batch that may say where its source stands after it. */
export type PlacedBatch = Batch & { readonly cursor?: unknown };

export interface Stage {
  name: string;
  learningRateFactor: number;
  end: StageEnd;
  batches: AsyncIterable<PlacedBatch>;
  /** Fresh iteration over held-out batches, where there are any. */
  heldOut?: (() => AsyncIterable<Batch>) | undefined;
}

export interface StepEvent {
  type: 'step';
  /** From 1, over the whole run. */
  step: number;
  stage: string;
  /** Mean over the targets; null where the step was skipped. */
  loss: number | null;
  /** Before clipping; null where the step was skipped. */
  gradNorm: number | null;
  learningRate: number;
  /** Tokens of the step without padding, and those that were targets. */
  tokens: number;
  targetTokens: number;
  stepMs: number;
  tokensPerSecond: number;
  /** Where a value that is not finite arose: the step changed nothing. */
  skipped?: string;
}

export type TrainingEvent =
  | StepEvent
  | { type: 'stage-start'; stage: string; index: number }
  | { type: 'evaluation'; stage: string; step: number; heldOutLoss: number; targetTokens: number }
  | { type: 'stage-end'; stage: string; index: number; step: number; reason: string }
  | { type: 'end'; step: number; reason: 'finished' | 'aborted' };

/** Where a run stands between two steps: plain data that, with the parameters and the optimizer's states, is the whole run. */
export interface TrainingState {
  /** Steps done. */
  step: number;
  /** Index of the running stage, and what it has seen. */
  stage: number;
  progress: StageProgress;
  /** Updates made, which skipped steps are not. */
  updates: number;
  skipped: number;
  /** The step that the held-out loss was last measured after; -1 before the first time. */
  evaluatedAt: number;
  /** The place in the stage's batches, as the batch that was taken last gave it; null at a stage's start. */
  cursor: unknown;
}

export interface RunOptions {
  /** Ends the run after the running step. */
  signal?: AbortSignal | undefined;
  /** Goes on from here. Parameters and optimizer states are put in place by the caller, and the stages' batches begin at the cursor. */
  state?: TrainingState | undefined;
}

/**
 * A run through the stages, as a sequence of events. Between two events the run stands still: `state` is then exact, and with
 * the parameters and `optimizer.tensors` enough to go on later as if it had never stopped.
 */
export class TrainingRun implements AsyncIterable<TrainingEvent> {
  readonly #trainer: Trainer;
  readonly #state: TrainingState;

  constructor(
    llama: Llama,
    readonly stages: readonly Stage[],
    readonly settings: TrainingSettings,
    readonly options: RunOptions = {},
  ) {
    this.#trainer = new Trainer(llama, settings);
    this.#state = structuredClone(
      options.state ?? {
        step: 0,
        stage: 0,
        progress: freshProgress(),
        updates: 0,
        skipped: 0,
        evaluatedAt: -1,
        cursor: null,
      },
    );
    this.#trainer.optimizer.updates = this.#state.updates;
    this.#trainer.skipped = this.#state.skipped;
  }

  get optimizer(): Optimizer {
    return this.#trainer.optimizer;
  }

  get state(): TrainingState {
    return structuredClone({ ...this.#state, updates: this.optimizer.updates, skipped: this.#trainer.skipped });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TrainingEvent> {
    const state = this.#state;
    try {
      while (state.stage < this.stages.length) {
        const { name } = this.stages[state.stage]!;
        const reason = yield* this.#runStage(this.stages[state.stage]!);
        if (reason === undefined) {
          yield { type: 'end', step: state.step, reason: 'aborted' };
          return;
        }
        const index = state.stage;
        Object.assign(state, { stage: index + 1, progress: freshProgress(), cursor: null });
        yield { type: 'stage-end', stage: name, index, step: state.step, reason };
      }
      yield { type: 'end', step: state.step, reason: 'finished' };
    } finally {
      this.#trainer.dispose();
    }
  }

  /** Runs a stage to its end and returns the reason for it, or undefined when the run was aborted. */
  async *#runStage(stage: Stage): AsyncGenerator<TrainingEvent, string | undefined> {
    const { settings, options } = this;
    const state = this.#state;
    const { progress } = state;
    if (progress.steps === 0) yield { type: 'stage-start', stage: stage.name, index: state.stage };
    const batches = stage.batches[Symbol.asyncIterator]();
    try {
      for (;;) {
        if (this.#evaluationDue(stage)) yield await this.#evaluate(stage);
        let reason = progress.steps > 0 ? reasonToEnd(stage.end, progress) : undefined;
        if (reason === undefined && options.signal?.aborted) return undefined;
        const microBatches = reason === undefined ? await take(batches, settings.accumulation) : [];
        if (microBatches.length === 0) {
          reason ??= 'the data is at its end';
          if (stage.heldOut && state.evaluatedAt !== state.step) yield await this.#evaluate(stage);
          return reason;
        }
        const event = await this.#trainer.step(microBatches, stage, state.step);
        state.step++;
        state.cursor = microBatches.at(-1)!.cursor ?? null;
        progress.steps++;
        progress.tokens += event.tokens;
        yield event;
      }
    } finally {
      await batches.return?.();
    }
  }

  /** At the loop's head, so that a run resumed between a step and its evaluation measures first. */
  #evaluationDue({ heldOut }: Stage): boolean {
    const { evaluateEvery } = this.settings;
    const { step, evaluatedAt, progress } = this.#state;
    return (
      heldOut !== undefined &&
      evaluateEvery > 0 &&
      progress.steps > 0 &&
      step % evaluateEvery === 0 &&
      evaluatedAt !== step
    );
  }

  async #evaluate(stage: Stage): Promise<TrainingEvent> {
    const { loss, targets } = await meanLoss(this.#trainer.llama, stage.heldOut!());
    this.#state.progress.heldOutLosses.push(loss);
    this.#state.evaluatedAt = this.#state.step;
    return { type: 'evaluation', stage: stage.name, step: this.#state.step, heldOutLoss: loss, targetTokens: targets };
  }
}

const freshProgress = (): StageProgress => ({ steps: 0, tokens: 0, heldOutLosses: [] });

async function take(batches: AsyncIterator<PlacedBatch>, count: number): Promise<PlacedBatch[]> {
  const taken: PlacedBatch[] = [];
  while (taken.length < count) {
    const { value, done } = await batches.next();
    if (done) break;
    taken.push(value);
  }
  return taken;
}

/** The mean loss over all targets of some batches, without training on them. NaN when there is no target. */
export async function meanLoss(
  llama: Llama,
  batches: AsyncIterable<Batch>,
): Promise<{ loss: number; targets: number }> {
  let sum = 0;
  let targets = 0;
  for await (const batch of batches) {
    const losses = await llama.tokenLosses(batch);
    sum += losses.reduce((total, loss) => total + loss, 0);
    targets += countTargets(batch);
  }
  return { loss: sum / targets, targets };
}

/** One run's optimizer and the arithmetic of a step. The planner runs the same step on a device that only counts. */
export class Trainer {
  readonly optimizer: Optimizer;
  readonly #lossSum: F32; // (accumulation)
  /** Steps skipped so far in the run. */
  skipped = 0;
  #shape = '';

  constructor(
    readonly llama: Llama,
    readonly settings: TrainingSettings,
  ) {
    if (!llama.parameters) throw new Error('nothing trains: the model was loaded without an adapter');
    this.optimizer = new Optimizer(llama.parameters, settings.optimizer);
    this.#lossSum = llama.device.allocate('activations', [settings.accumulation]);
  }

  /** @param step from 0 */
  async step(
    microBatches: readonly Batch[],
    stage: Pick<Stage, 'name' | 'learningRateFactor'>,
    step: number,
  ): Promise<StepEvent> {
    const start = performance.now();
    const { llama, settings } = this;
    const targets = microBatches.map(countTargets);
    const targetTokens = targets.reduce((sum, count) => sum + count, 0);
    const tokens = microBatches.reduce((sum, batch) => sum + countTokens(batch), 0);
    if (targetTokens === 0) {
      throw new UserError({
        expected: 'at least one target token in a step',
        found: `${tokens} tokens, all of them prompt or padding`,
        where: `stage '${stage.name}', step ${step + 1}`,
        remedy: 'check the labels with the loss mask in mind; a context too short cuts answers off',
      });
    }
    // A micro-batch's weight in the step's loss, per target.
    const scales = targets.map((count) =>
      settings.lossNormalization === 'tokens' ? 1 / targetTokens : count && 1 / (count * microBatches.length),
    );

    this.#trimOnNewShape(microBatches);
    llama.parameters!.zeroGradients();
    llama.device.fill(this.#lossSum, 0);
    for (const [i, batch] of microBatches.entries()) {
      const slot = llama.device.view(this.#lossSum, i, [1]);
      await llama.lossAndGradients(batch, slot, {
        scale: scales[i]!,
        policy: settings.policy,
        seedOf: this.#dropoutSeeds(step, i),
      });
    }

    llama.device.scope('optimizer');
    const sums = await llama.device.download(this.#lossSum);
    const loss = microBatches.reduce((total, _, i) => total + sums[i]! * scales[i]!, 0);
    const gradNorm = await this.optimizer.gradientNorm();
    const learningRate =
      settings.optimizer.learningRate * scheduleFactor(settings.schedule, step) * stage.learningRateFactor;
    const finite = Number.isFinite(loss) && Number.isFinite(gradNorm);
    if (finite) this.optimizer.update(learningRate, clipScale(settings.maxGradientNorm, gradNorm));
    llama.device.scope('');
    const skipped = finite ? {} : { skipped: await this.#skip(microBatches, stage.name, step) };

    const stepMs = performance.now() - start;
    return {
      type: 'step',
      step: step + 1,
      stage: stage.name,
      loss: finite ? loss : null,
      gradNorm: finite ? gradNorm : null,
      learningRate,
      tokens,
      targetTokens,
      stepMs,
      tokensPerSecond: (1000 * tokens) / stepMs,
      ...skipped,
    };
  }

  dispose(): void {
    this.optimizer.dispose();
    this.llama.device.free(this.#lossSum);
  }

  /** Memory is reused by size, so the sizes of an earlier shape of batch would only lie there. */
  #trimOnNewShape(microBatches: readonly Batch[]): void {
    const shape = microBatches.map(({ B, T }) => `${B}x${T}`).join();
    if (this.#shape !== '' && this.#shape !== shape) this.llama.device.trim();
    this.#shape = shape;
  }

  #dropoutSeeds(step: number, microBatch: number): SeedOf {
    const { adapter } = this.llama;
    if (adapter === 'full' || !adapter?.dropout) return () => undefined;
    return (layer, linear) => seedOf(this.settings.seed, step, microBatch, layer, LINEAR_NAMES.indexOf(linear));
  }

  /** Counts a skipped step, finds where it went wrong, and ends the run when there are too many. */
  async #skip(microBatches: readonly Batch[], stage: string, step: number): Promise<string> {
    const place = await this.#locate(microBatches);
    this.skipped++;
    if (this.skipped > this.settings.maxSkippedSteps) {
      throw new UserError({
        expected: `at most ${this.settings.maxSkippedSteps} steps with values that are not finite`,
        found: `${this.skipped}, the last in ${place}`,
        where: `stage '${stage}', step ${step + 1}`,
        remedy: 'lower the learning rate or maxGradientNorm, or look at the data of that step',
      });
    }
    return place;
  }

  /** The first place of the passes that holds a value which is not finite. */
  async #locate(microBatches: readonly Batch[]): Promise<string> {
    const { llama } = this;
    for (const [i, batch] of microBatches.entries()) {
      let place: string | undefined;
      const losses = await llama.tokenLosses(batch, async (name, tensor) => {
        if (place === undefined && !(await llama.device.download(tensor)).every(Number.isFinite)) place = name;
      });
      if (place === undefined && !losses.every(Number.isFinite)) place = 'the loss';
      if (place !== undefined) return `${place} (micro-batch ${i + 1})`;
    }
    for (const { name, gradient } of llama.parameters!.list) {
      if (!(await llama.device.download(gradient)).every(Number.isFinite)) return `the gradient of ${name}`;
    }
    return 'the sum of the gradients';
  }
}

/** The factor that shortens a gradient of this norm to the limit, as torch has it. */
export function clipScale(maxNorm: number, norm: number): number {
  return maxNorm > 0 ? Math.min(1, maxNorm / (norm + 1e-6)) : 1;
}
