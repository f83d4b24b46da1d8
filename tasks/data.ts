// SPDX-License-Identifier: Apache-2.0
// From a recipe's stages to batches: opens every source before anything trains, splits off what is held out, and says how
// many steps each stage will have.
import { readFileSync } from 'node:fs';
import {
  batches,
  type Cursor,
  type ExampleSource,
  type Fed,
  type HeldOutBy,
  openSource,
  prefetch,
  type SourcePlan,
  splitHeldOut,
  type WeightedSource,
  withReplay,
} from '../datasets/index.js';
import type { PlacedBatch, Stage, TrainingState } from '../engine/index.js';
import { UserError } from '../errors.js';
import type { Recipe, RecipeSource, RecipeStage } from '../recipes/index.js';
import type { Tokenizer } from '../tokenizer/index.js';
import { ROWS_WORTH_A_THREAD } from './data-memory.js';
import { cachedExamples } from './example-cache.js';

export interface StageData {
  stage: Stage;
  /** Steps that the stage will have, if its rule does not end it sooner. */
  steps: number;
  examples: number;
  heldOutExamples: number;
}

export interface RunData {
  stages: StageData[];
  totalSteps: number;
  close(): Promise<void>;
}

interface Vocabulary {
  vocabularySize: number;
  maxPositions: number;
  /** Only called where there is text. */
  tokenizer: () => Tokenizer;
}

interface StageSources {
  plans: SourcePlan[];
  sources: WeightedSource[];
}

export interface OpenDataOptions {
  /** Of a run that goes on: its stage begins at its cursor. */
  state?: Pick<TrainingState, 'stage' | 'cursor'> | undefined;
  /** Told what is worth knowing of how the data is come by; also later, while it is read. */
  notice?: (text: string) => void;
}

export interface OpenDataOptions {
  /** Of a run that goes on: its stage begins at its cursor. */
  state?: Pick<TrainingState, 'stage' | 'cursor'> | undefined;
  /** Told what is worth knowing of how the data is come by; also later, while it is read. */
  notice?: (text: string) => void;
}

/**
 * Opens the data of all stages.
 * @throws UserError before any memory is spent on training
 */
export async function openRunData(
  recipe: Recipe,
  vocabulary: Vocabulary,
  { state, notice = () => {} }: OpenDataOptions = {},
): Promise<RunData> {
  if (recipe.batch.context > vocabulary.maxPositions) {
    throw new UserError({
      expected: `a context of at most ${vocabulary.maxPositions} tokens, which the model was made for`,
      found: `${recipe.batch.context}`,
      where: 'batch.context',
      remedy: `set batch.context=${vocabulary.maxPositions} or lower`,
    });
  }
  const open: ExampleSource[] = [];
  const earlier: StageSources = { plans: [], sources: [] };
  const close = async (): Promise<void> => {
    await Promise.all(open.map((source) => source.close()));
  };
  try {
    const stages: StageData[] = [];
    for (const [index, stage] of recipe.stages.entries())
      stages.push(await openStage({ recipe, vocabulary, open, earlier, notice, state }, stage, index));
    return { stages, totalSteps: stages.reduce((sum, { steps }) => sum + steps, 0), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** What the stages of a run share while they are opened. */
interface Opening extends Required<Pick<OpenDataOptions, 'notice'>> {
  recipe: Recipe;
  vocabulary: Vocabulary;
  /** To be closed with the run. */
  open: ExampleSource[];
  /** What stages before have: for those that replay some of it. */
  earlier: StageSources;
  state: OpenDataOptions['state'];
}

async function openStage(opening: Opening, stage: RecipeStage, index: number): Promise<StageData> {
  const { recipe, earlier, notice, state } = opening;
  const cursor = index === state?.stage ? state.cursor : null;
  const { plans, sources }: StageSources = { plans: [], sources: [] };
  for (const description of stage.data) {
    const { plan, source } = await openExamples(planOf(recipe, description, opening.vocabulary), opening);
    plans.push(plan);
    sources.push({ source, ...(description.weight === undefined ? {} : { weight: description.weight }) });
  }
  const heldOutBy = heldOutOf(recipe);
  const split = (of: WeightedSource[]) => (heldOutBy ? splitHeldOut(of, heldOutBy) : { train: of, heldOut: [] });
  const { train: own, heldOut } = split(sources);
  const replayed =
    stage.replay > 0 && earlier.plans.length > 0 ? { share: stage.replay, sources: [...earlier.plans] } : undefined;
  const training = replayed ? withReplay(own, split([...earlier.sources]).train, replayed.share) : own;
  earlier.plans.push(...plans);
  earlier.sources.push(...sources);
  const count = (sources: WeightedSource[]) => sources.reduce((sum, { source }) => sum + source.count, 0);
  const { batch, data, seed } = recipe;
  const options = {
    B: batch.rows,
    T: batch.context,
    tooLong: data.tooLong,
    shuffle: data.shuffle,
    pack: batch.pack,
    padMultiple: 16, // few shapes of batches: memory is reused by size
  };
  const endless =
    stage.steps !== undefined ||
    stage.tokens !== undefined ||
    stage.heldOutLoss !== undefined ||
    stage.plateau !== undefined;
  const epochs = stage.epochs ?? (endless ? undefined : 1);
  const order = { ...options, seed: seed + index, ...(epochs === undefined ? {} : { epochs }) };
  const feed = (from?: Cursor) => batches(training, order, from);
  /** The same batches, made beside training where making them takes long enough to be worth a thread. */
  const feedBeside = (from?: Cursor) =>
    count(training) < ROWS_WORTH_A_THREAD
      ? feed(from)
      : prefetch(
          {
            sources: plans,
            ...(replayed && { replay: replayed }),
            ...(heldOutBy && { heldOut: heldOutBy }),
            options: order,
          },
          from,
          notice,
        );
  await checkExamples(batches(training, { ...options, seed, epochs: 1 }), data.tooLong === 'error');
  return {
    stage: {
      name: stage.name,
      learningRateFactor: stage.learningRateFactor,
      end: { steps: stage.steps, tokens: stage.tokens, heldOutLoss: stage.heldOutLoss, plateau: stage.plateau },
      batches: batchesOf(feedBeside((cursor as Cursor | null) ?? undefined)),
      heldOut:
        heldOut.length === 0
          ? undefined
          : () => batchesOf(batches(heldOut, { ...options, shuffle: false, seed, epochs: 1 }), data.evaluateBatches),
    },
    steps: await countSteps(stage, recipe, epochs, feed),
    examples: count(own),
    heldOutExamples: count(heldOut),
  };
}

/** Meets now what would stop the run in its midst: no usable example, or where that is an error, one that is too long. */
async function checkExamples(feed: AsyncGenerator<Fed>, all: boolean): Promise<void> {
  for await (const _ of feed) if (!all) break;
}

/** Steps of a stage: said by the recipe, or counted by going through the data once. */
async function countSteps(
  stage: RecipeStage,
  recipe: Recipe,
  epochs: number | undefined,
  feed: () => AsyncGenerator<Fed>,
): Promise<number> {
  const { accumulation } = recipe.batch;
  const limit = Math.min(
    stage.steps ?? Number.POSITIVE_INFINITY,
    stage.tokens === undefined ? Number.POSITIVE_INFINITY : Number.MAX_SAFE_INTEGER,
  );
  if (epochs === undefined && stage.steps !== undefined) return stage.steps;
  if (epochs === undefined && stage.tokens === undefined) {
    throw new UserError({
      expected: `stage '${stage.name}' to have a limit besides the held-out loss`,
      found: 'none',
      remedy: 'give it steps, tokens or epochs as well',
    });
  }
  let micro = 0;
  let tokens = 0;
  for await (const fed of feed()) {
    micro++;
    tokens += fed.tokens;
    if (micro % accumulation !== 0) continue;
    if (micro / accumulation >= limit || (stage.tokens !== undefined && tokens >= stage.tokens)) break;
  }
  return Math.ceil(micro / accumulation);
}

function heldOutOf({ data, seed }: Recipe): HeldOutBy | undefined {
  if (data.heldOutIds !== undefined) return { ids: readIds(data.heldOutIds) };
  return data.heldOutShare > 0 ? { share: data.heldOutShare, seed } : undefined;
}

function readIds(path: string): string[] {
  let ids: unknown;
  try {
    ids = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new UserError({ expected: 'a JSON array of row ids', found: (cause as Error).message, where: path, cause });
  }
  if (!Array.isArray(ids) || ids.length === 0)
    throw new UserError({ expected: 'a JSON array of row ids', found: typeof ids, where: path });
  return ids.map(String);
}

/** A recipe's source as a feed has it. */
function planOf(
  { data, model, tokenizer = model }: Recipe,
  source: RecipeSource,
  { vocabularySize }: Vocabulary,
): SourcePlan {
  const { weight, rows, english, language, columns, tokens, text, task } = source;
  const share = weight === undefined ? {} : { weight };
  if (tokens !== undefined) return { tokens, vocabularySize, ...share };
  if (text !== undefined) return { text, tokenizer, ...share };
  const { template, format, loss, countPrompt } = data;
  return {
    rows: rows!,
    ...(english !== undefined && { english }),
    ...(language !== undefined && { language }),
    ...(columns !== undefined && { columns }),
    tokenizer,
    example: { task, template, format, loss, countPrompt },
    ...share,
  };
}

/** Opens a source, from its kept examples where it has some, and says where those are. */
async function openExamples(plan: SourcePlan, { vocabulary, open, notice }: Opening) {
  const made = await openSource(plan, vocabulary.tokenizer);
  open.push(made);
  if (!('rows' in plan)) return { plan, source: made };
  const { source, stored } = await cachedExamples(plan.rows, made, { notice });
  if (stored === undefined) return { plan, source };
  open.push(source);
  return { plan: { ...plan, stored }, source };
}

async function* batchesOf(feed: AsyncIterable<Fed>, limit = Number.POSITIVE_INFINITY): AsyncGenerator<PlacedBatch> {
  let count = 0;
  for await (const { batch, cursor } of feed) {
    if (count++ >= limit) return;
    yield { ...batch, cursor };
  }
}
