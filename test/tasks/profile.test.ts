// SPDX-License-Identifier: Apache-2.0
// Profiles add up: the ops' times to the step, calls and work to what the plan counts, the trace to the same times. Timing
// bounds are those that are promised, or wider where other work on the machine could break them.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import {
  CpuDevice,
  type Device,
  initializeLora,
  LINEAR_NAMES,
  Llama,
  OP_NAMES,
  type OpCall,
  type ProfileDevice,
  planDevice,
  profileDevice,
  randomStart,
  singleRow,
  Trainer,
} from '../../engine/index.js';
import { native } from '../../kernels/index.js';
import { parseRecipe, recipeToYaml } from '../../recipes/index.js';
import { plan, profile, type StepRecord, type TraceEvent, traceOf } from '../../tasks/index.js';
import { trainingSettings } from '../../tasks/run-settings.js';
import { tacotune } from '../cli/support.js';
import { suite } from '../support/harness.js';
import { TINY, withFolder, writeSmallModel, writeTokens } from '../support/small-model.js';

const test = suite('tasks/profile', 300_000);

/** Wide enough that the time of a step lies in its products, as in any model worth profiling. */
const MEDIUM = {
  ...TINY,
  width: 256,
  feedForwardWidth: 704,
  queryHeads: 8,
  keyValueHeads: 8,
  headWidth: 32,
  maxPositions: 512,
};

/** On one thread: the more threads, the less of a small step's time lies in its ops. */
async function withRecipe(
  body: (recipe: ReturnType<typeof parseRecipe>, folder: string) => Promise<void>,
): Promise<void> {
  const before = native().threads();
  await withFolder(async (folder) => {
    const model = await writeSmallModel(join(folder, 'model'), MEDIUM);
    const tokens = writeTokens(join(folder, 'tokens.jsonl'), 24, 256);
    const recipe = {
      model,
      threads: 1,
      adapter: { dropout: 0 },
      batch: { context: 256, rows: 4 },
      stages: [{ name: 'only', steps: 8, data: [{ tokens }] }],
    };
    await body(parseRecipe(recipe), folder);
  }).finally(() => native().setThreads(before));
}

test("ops add up to the step, and their work to the plan's", async () => {
  await withRecipe(async (recipe) => {
    const { profile: p, records } = await profile(recipe, { steps: 6 });
    const planned = await plan(recipe, { calibrate: false });
    assert.is(p.steps, 6);
    assert.is(p.tokensPerStep, 1024);
    assert.is(p.activations, planned.activations);
    const total = (key: 'ms' | 'share' | 'flops' | 'bytes' | 'calls', rows = p.ops) =>
      rows.reduce((sum, row) => sum + row[key], 0);
    for (const key of ['ms', 'flops', 'bytes', 'calls'] as const) {
      assert.ok(Math.abs(total(key, p.places) / total(key) - 1) < 1e-9, `${key} by place`);
    }
    const undisturbed = shareInOps(records);
    assert.ok(undisturbed >= 0.97, `ops are ${(100 * undisturbed).toFixed(1)} % of an undisturbed step`);
    assert.ok(Math.abs(total('ms') + p.rest.ms - p.stepMs) < 1e-6);
    assert.ok(
      Math.abs(total('flops') / planned.step.flops - 1) < 1e-3,
      `FLOPs: ${total('flops')} here, ${planned.step.flops} planned`,
    );
    assert.ok(
      Math.abs(total('bytes') / planned.step.bytes - 1) < 0.01,
      `bytes: ${total('bytes')} here, ${planned.step.bytes} planned`,
    );
    assert.equal(
      p.ops.map(({ ms }) => ms),
      p.ops.map(({ ms }) => ms).sort((a, b) => b - a),
    );
    assert.equal(
      p.places.slice(0, 3).map(({ name }) => name),
      ['preparation', 'layer 0 forward', 'layer 1 forward'],
    );
    for (const row of p.ops) {
      const [rate, ceiling] =
        row.boundBy === 'arithmetic'
          ? [row.flopsPerSecond, p.ceilings.flops]
          : [row.bytesPerSecond, p.ceilings.bandwidth];
      assert.ok(Math.abs(row.ofCeiling - rate / ceiling) < 1e-12, row.name);
      assert.ok(Math.abs(row.flopsPerSecond * row.ms - 1000 * row.flops) <= 1e-6 * row.flops, row.name);
    }
    assert.is(records.length, 6);
  });
});

/**
 * The share of ops in a step that nothing disturbs. Other processes take their time between ops as within them; every step
 * has the same calls, so of each call and of each gap the shortest of all steps is taken.
 */
function shareInOps(records: readonly StepRecord[]): number {
  let [inOps, between] = [0, 0];
  for (const [i] of records[0]!.calls.entries()) {
    inOps += Math.min(...records.map(({ calls }) => calls[i]!.durationMs));
    between += Math.min(...records.map(({ startMs, calls }) => calls[i]!.startMs - endOf(calls[i - 1], startMs)));
  }
  between += Math.min(
    ...records.map(({ startMs, durationMs, calls }) => startMs + durationMs - endOf(calls.at(-1), 0)),
  );
  return inOps / (inOps + between);
}

const endOf = (call: OpCall | undefined, otherwise: number) => (call ? call.startMs + call.durationMs : otherwise);

test('the command prints the table, JSON, and a trace in the trace-event format', async () => {
  await withRecipe(async (recipe, folder) => {
    const file = join(folder, 'recipe.yaml');
    writeFileSync(file, recipeToYaml(recipe));
    const trace = join(folder, 'trace.json');
    const [text, json] = await Promise.all([
      tacotune(['profile', file, '--steps', '2', '--by-layer']),
      tacotune(['profile', file, '--steps', '2', '--json', '--trace', trace]),
    ]);
    assert.is(text.code, 0, text.stderr);
    assert.match(text.stdout, /^op +calls +ms +of step +GFLOP +MB +GFLOP\/s +GB\/s +of ceiling$/m);
    assert.match(text.stdout, /^linearForward +\d/m);
    assert.match(text.stdout, /^layer 1 backward +\d/m);
    assert.match(text.stdout, /^outside of ops +\S+ +\d/m);
    assert.is(JSON.parse(json.stdout).steps, 2);
    checkTrace(JSON.parse(readFileSync(trace, 'utf8')), 2);
  });
});

/** Against the format's document: complete events with microseconds that nest, and metadata that names process and thread. */
function checkTrace(trace: ReturnType<typeof traceOf>, steps: number): void {
  assert.is(trace.displayTimeUnit, 'ms');
  const complete = trace.traceEvents.filter((event): event is Extract<TraceEvent, { ph: 'X' }> => event.ph === 'X');
  const named = trace.traceEvents.filter((event) => event.ph === 'M');
  assert.equal(named.map(({ name }) => name).sort(), ['process_name', 'thread_name']);
  assert.is(complete.length + named.length, trace.traceEvents.length);
  assert.is(complete.filter(({ cat }) => cat === 'step').length, steps);
  assert.is(Math.min(...complete.map(({ ts }) => ts)), 0);
  const open: { end: number; cat: string }[] = [];
  for (const event of complete) {
    for (const key of ['ts', 'dur', 'pid', 'tid'] as const)
      assert.ok(Number.isFinite(event[key]) && event[key] >= 0, key);
    const end = event.ts + event.dur;
    while (open.length > 0 && open.at(-1)!.end <= event.ts + 1e-3) open.pop();
    const parent = open.at(-1);
    assert.ok(!parent || end <= parent.end + 1e-3, `${event.name} ends after the ${parent?.cat} that holds it`);
    assert.is(event.cat === 'step', parent === undefined, `${event.name} lies ${parent ? 'in' : 'outside of'} a step`);
    open.push({ end, cat: event.cat });
  }
}

test('the trace has every call', async () => {
  const call = (op: OpCall['op'], scope: string, startMs: number): OpCall => ({
    op,
    scope,
    startMs,
    durationMs: 1,
    flops: 2,
    bytes: 3,
  });
  const calls = [
    call('fill', '', 10),
    call('copy', 'layer 0 forward', 12),
    call('add', 'layer 0 forward', 13.5),
    call('add', 'layer 1 forward', 15),
  ];
  const trace = traceOf([{ startMs: 10, durationMs: 8, calls }]);
  checkTrace(trace, 1);
  const shown = trace.traceEvents.flatMap((event) =>
    event.ph === 'X' ? [[event.cat, event.name, event.ts, event.dur]] : [],
  );
  assert.equal(shown, [
    ['step', 'step 1', 0, 8000],
    ['op', 'fill', 0, 1000],
    ['place', 'layer 0 forward', 2000, 2500],
    ['op', 'copy', 2000, 1000],
    ['op', 'add', 3500, 1000],
    ['place', 'layer 1 forward', 5000, 1000],
    ['op', 'add', 5000, 1000],
  ]);
});

test('profiling costs little', async () => {
  // What the wrapper adds to a step is measured where ops do nothing, since other work on the machine disturbs steps that
  // compute by more than the wrapper takes.
  const adapter = { rank: 16, alpha: 32, dropout: 0, rslora: false, targets: LINEAR_NAMES };
  const recipe = parseRecipe({ model: 'x', stages: [{ name: 'a', data: [{ tokens: 'x' }] }] });
  const batch = singleRow(Array.from({ length: 512 }, (_, t) => 3 + (t % 1000)));
  const fastestStep = async (device: Device, steps: number): Promise<number> => {
    const llama = new Llama(device, MEDIUM, randomStart(MEDIUM, 1), { quantization: 'nf4', adapter });
    initializeLora(llama.parameters!, 1);
    const trainer = new Trainer(llama, trainingSettings(recipe, 1));
    let fastest = Number.POSITIVE_INFINITY;
    for (let step = 0; step < steps; step++) {
      const { stepMs } = await trainer.step([batch], { name: 'a', learningRateFactor: 1 }, step);
      fastest = Math.min(fastest, stepMs);
      if ('reset' in device) (device as ProfileDevice).reset();
    }
    return fastest;
  };
  const idle = { ...planDevice('f32'), ...Object.fromEntries(OP_NAMES.map((op) => [op, () => {}])) };
  const added = (await fastestStep(profileDevice(idle), 60)) - (await fastestStep(idle, 60));
  const real = await fastestStep(new CpuDevice({ compute: 'f32' }), 6);
  console.log(
    `    profiling adds ${added.toFixed(2)} ms to a step of ${real.toFixed(1)} ms: ${((100 * added) / real).toFixed(2)} %`,
  );
  assert.ok(added / real < 0.02, `${((100 * added) / real).toFixed(1)} % overhead`);
});
