// SPDX-License-Identifier: Apache-2.0
// Where the time of a training step goes: runs steps of a recipe on the profile device and adds up its calls by op and by
// place in the model, beside what this machine can do at most. FLOPs and bytes are computed from shapes and element sizes,
// as plans compute them. Steps that warm up are not counted. Nothing is saved: the adapter that the steps train is dropped.
import { type Batch, MATRIX_OPS, type OpCall, profileDevice, Trainer } from '../engine/index.js';
import { UserError } from '../errors.js';
import { parseRecipe, type Recipe } from '../recipes/index.js';
import { type Ceilings, measureCeilings } from './calibrate.js';
import { openRunData } from './data.js';
import { modelShape } from './model-shape.js';
import { openForTraining } from './open-model.js';
import { kernelsOf, makeDevice, resolvePlace } from './place.js';
import { adapterSettings, memoryBudget, planOf } from './run-settings.js';

export interface ProfileOptions {
  /** Steps that are measured. */
  steps?: number | undefined;
  /** Steps before them that are not. */
  warmUpSteps?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** Calls added up, per step. */
export interface ProfileRow {
  /** An op, or a place in the model. */
  name: string;
  calls: number;
  ms: number;
  /** Of the step's time. */
  share: number;
  flops: number;
  bytes: number;
  flopsPerSecond: number;
  bytesPerSecond: number;
  /** What bounds it, and the share of that ceiling which it reaches. */
  boundBy: 'arithmetic' | 'memory';
  ofCeiling: number;
}

export interface Profile {
  steps: number;
  tokensPerStep: number;
  stepMs: number;
  compute: string;
  /** What the kernels are: instruction set and threads, or the GPU. */
  kernels: string;
  activations: string;
  ceilings: Ceilings;
  /** By op, longest first. */
  ops: ProfileRow[];
  /** By place in the model ("layer 3 forward"), in the order of the step. */
  places: ProfileRow[];
  /** Time outside of ops: batches to the device, JavaScript between calls, the event loop between layers. */
  rest: { ms: number; share: number };
}

/** One measured step and its calls, on the profile device's clock. */
export interface StepRecord {
  startMs: number;
  durationMs: number;
  calls: OpCall[];
}

export const DEFAULT_STEPS = 5;
const WARM_UP_STEPS = 2;

/** Profiles steps of a recipe's first stage. @throws UserError as training the recipe would */
export async function profile(
  given: Recipe | object,
  { steps = DEFAULT_STEPS, warmUpSteps = WARM_UP_STEPS, signal }: ProfileOptions = {},
): Promise<{ profile: Profile; records: StepRecord[] }> {
  const recipe = parseRecipe(given);
  const place = resolvePlace(recipe);
  const { compute } = place;
  const shape = modelShape(recipe.model);
  const memory = await memoryBudget(recipe, shape, place);
  const device = profileDevice(await makeDevice(place, { threads: recipe.threads }));
  const { model: path, tokenizer, quantize, seed } = recipe;
  const model = openForTraining({
    model: path,
    tokenizer,
    quantize,
    seed,
    device,
    adapterSettings: adapterSettings(recipe),
  });
  try {
    const data = await openRunData(recipe, { ...model.files.config, tokenizer: () => model.tokenizer });
    try {
      const ceilings = measureCeilings(device);
      const { settings } = await planOf(recipe, shape, place, { totalSteps: data.totalSteps, memory });
      const trainer = new Trainer(model.llama, settings);
      const { stage } = data.stages[0]!;
      const records: StepRecord[] = [];
      let tokens = 0;
      for await (const { step, microBatches } of stepsOf(stage.batches, settings.accumulation)) {
        if (step === warmUpSteps + steps || signal?.aborted) break;
        device.reset();
        const startMs = performance.now();
        const event = await trainer.step(microBatches, stage, step);
        const durationMs = performance.now() - startMs;
        if (step < warmUpSteps) continue;
        records.push({ startMs, durationMs, calls: [...device.calls] });
        tokens += event.tokens;
      }
      trainer.dispose();
      if (records.length === 0) {
        throw new UserError({
          expected: `data for more than ${warmUpSteps} steps, which warm up`,
          found: `${data.totalSteps}`,
          where: `stage '${stage.name}'`,
        });
      }
      const facts = {
        tokensPerStep: tokens / records.length,
        compute,
        kernels: kernelsOf(place),
        activations: settings.policy,
      };
      return { profile: summarized(records, ceilings, facts), records };
    } finally {
      await data.close();
    }
  } finally {
    model.close();
  }
}

async function* stepsOf(batches: AsyncIterable<Batch>, accumulation: number) {
  let microBatches: Batch[] = [];
  let step = 0;
  for await (const batch of batches) {
    microBatches.push(batch);
    if (microBatches.length < accumulation) continue;
    yield { step: step++, microBatches };
    microBatches = [];
  }
}

/** Adds up the calls of the steps. */
function summarized(
  records: readonly StepRecord[],
  ceilings: Ceilings,
  facts: Pick<Profile, 'tokensPerStep' | 'compute' | 'kernels' | 'activations'>,
): Profile {
  const steps = records.length;
  const stepMs = records.reduce((sum, { durationMs }) => sum + durationMs, 0) / steps;
  const calls = records.flatMap((record) => record.calls);
  const rows = (nameOf: (call: OpCall) => string) => rowsBy(calls, nameOf, { steps, stepMs, ceilings });
  const ops = rows(({ op }) => op).sort((a, b) => b.ms - a.ms);
  const inOps = ops.reduce((sum, { ms }) => sum + ms, 0);
  const rest = { ms: stepMs - inOps, share: 1 - inOps / stepMs };
  return { steps, stepMs, ...facts, ceilings, ops, places: rows(({ scope }) => scope || 'preparation'), rest };
}

/** Calls grouped by a name, in the order in which the names first occur. */
function rowsBy(
  calls: readonly OpCall[],
  nameOf: (call: OpCall) => string,
  { steps, stepMs, ceilings }: Pick<Profile, 'steps' | 'stepMs' | 'ceilings'>,
): ProfileRow[] {
  return [...groupedBy(calls, nameOf)].map(([name, group]) => {
    const sum = (key: 'durationMs' | 'flops' | 'bytes', part = group) =>
      part.reduce((total, call) => total + call[key], 0) / steps;
    const [ms, flops, bytes] = [sum('durationMs'), sum('flops'), sum('bytes')];
    // A place holds ops of both kinds: the kind that takes more of its time is its own.
    const products = group.filter(({ op }) => MATRIX_OPS.has(op));
    const boundBy = sum('durationMs', products) > ms / 2 ? 'arithmetic' : 'memory';
    const flopsPerSecond = (1000 * flops) / ms;
    const bytesPerSecond = (1000 * bytes) / ms;
    const ofCeiling = boundBy === 'arithmetic' ? flopsPerSecond / ceilings.flops : bytesPerSecond / ceilings.bandwidth;
    const share = ms / stepMs;
    return {
      name,
      calls: group.length / steps,
      ms,
      share,
      flops,
      bytes,
      flopsPerSecond,
      bytesPerSecond,
      boundBy,
      ofCeiling,
    };
  });
}

function groupedBy(calls: readonly OpCall[], nameOf: (call: OpCall) => string): Map<string, OpCall[]> {
  const groups = new Map<string, OpCall[]>();
  for (const call of calls) {
    const name = nameOf(call);
    const group = groups.get(name);
    if (group) group.push(call);
    else groups.set(name, [call]);
  }
  return groups;
}

/** An event of Chrome's trace format: a complete one with microseconds, or one that names a track. */
export type TraceEvent =
  | { ph: 'X'; name: string; cat: string; ts: number; dur: number; pid: number; tid: number; args: object }
  | { ph: 'M'; name: 'process_name' | 'thread_name'; pid: number; tid: number; args: { name: string } };

/** Steps as Chrome's and Perfetto's viewers open them: steps hold places, places hold ops. */
export function traceOf(records: readonly StepRecord[]): { traceEvents: TraceEvent[]; displayTimeUnit: 'ms' } {
  const [pid, tid] = [1, 1];
  const origin = records[0]?.startMs ?? 0;
  const complete = (name: string, cat: string, startMs: number, durationMs: number, args: object): TraceEvent => ({
    ph: 'X',
    name,
    cat,
    ts: 1000 * (startMs - origin),
    dur: 1000 * durationMs,
    pid,
    tid,
    args,
  });
  const events: TraceEvent[] = [
    { ph: 'M', name: 'process_name', pid, tid, args: { name: 'tacotune' } },
    { ph: 'M', name: 'thread_name', pid, tid, args: { name: 'training step' } },
  ];
  for (const [index, { startMs, durationMs, calls }] of records.entries()) {
    events.push(complete(`step ${index + 1}`, 'step', startMs, durationMs, {}));
    for (const run of runsOf(calls)) {
      const [first, last] = [run[0]!, run.at(-1)!];
      const end = last.startMs + last.durationMs;
      if (first.scope) events.push(complete(first.scope, 'place', first.startMs, end - first.startMs, {}));
      for (const { op, startMs: at, durationMs: took, flops, bytes } of run) {
        events.push(complete(op, 'op', at, took, { flops, bytes }));
      }
    }
  }
  return { traceEvents: events, displayTimeUnit: 'ms' };
}

/** Consecutive calls at one place. */
function runsOf(calls: readonly OpCall[]): OpCall[][] {
  const runs: OpCall[][] = [];
  for (const call of calls) {
    const run = runs.at(-1);
    if (run && run[0]!.scope === call.scope) run.push(call);
    else runs.push([call]);
  }
  return runs;
}
