// SPDX-License-Identifier: Apache-2.0
// Plans against what runs then do: peak memory, steps, work; and plans of models that are not there.
import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import * as assert from 'uvu/assert';
import type { LlamaConfig } from '../../engine/index.js';
import { loadRecipe } from '../../recipes/index.js';
import { importData, plan, train } from '../../tasks/index.js';
import { tacotune, withRun } from '../cli/support.js';
import { projectRoot, skip, suite } from '../support/harness.js';
import { TINY, withFolder, writeSmallModel, writeTokens } from '../support/small-model.js';

const test = suite('tasks/plan', 300_000);

/** Large enough that activations, not Node itself, decide the peak: 80 to 170 MB by policy. */
const MEDIUM: LlamaConfig = {
  ...TINY,
  width: 384,
  feedForwardWidth: 1024,
  layers: 4,
  queryHeads: 6,
  keyValueHeads: 6,
  headWidth: 64,
  maxPositions: 512,
};

/** Trains in a process of its own, and prints what was planned and what its peak was. */
const MEASURE = `
import { readFileSync } from 'node:fs';
import { train } from ${JSON.stringify(pathToFileURL(join(projectRoot, 'dist', 'index.js')).href)};
const [recipe, output] = process.argv.slice(-2);
let planned = 0;
for await (const event of train(JSON.parse(recipe), { output })) {
  if (event.type === 'start') planned = event.plan.peakBytes + event.memory.runtimeBytes + event.memory.dataBytes;
}
// Not resourceUsage(): a child's maxRSS begins at what its parent had when it forked, and the suite is large.
const peakKiB = Number(/VmHWM:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
console.log(JSON.stringify({ planned, measured: 1024 * peakKiB }));
`;

test('planned and measured peak differ by at most 10 %', async () => {
  if (process.platform !== 'linux') skip('the peak of a process is read from /proc');
  await withFolder(async (folder) => {
    const model = await writeSmallModel(join(folder, 'model'), MEDIUM, { dtype: 'bf16' });
    const tokens = writeTokens(join(folder, 'tokens.jsonl'), 16, 256);
    const recipe = {
      model,
      batch: { context: 256, rows: 6 },
      stages: [{ name: 'only', steps: 2, data: [{ tokens }] }],
    };
    const sample = (language: string) => join(projectRoot, 'samples', 'mits', `${language}.json`);
    const imported = join(folder, 'rows');
    await importData({ sources: ['Nepali', 'Persian'].map(sample), output: imported });
    // More rows than are read without a thread.
    const read = (rows: string[], english?: string) => ({
      activations: 'keep-inputs',
      data: { template: 'plain', heldOutShare: 0.02 },
      stages: [{ name: 'only', steps: 4, data: rows.map((path) => ({ rows: path, ...(english && { english }) })) }],
    });
    const variants: object[] = [
      { activations: 'keep-all' },
      { activations: 'keep-midpoints' },
      { activations: 'keep-inputs', quantize: 'none', optimizer: { kind: 'adamw-8bit' } },
      { adapter: { type: 'full' } },
      read([imported]),
      read(['Nepali', 'Persian'].map(sample), sample('English')),
    ];
    for (const variant of variants) {
      const args = [
        '--input-type=module',
        '--eval',
        MEASURE,
        JSON.stringify({ ...recipe, ...variant }),
        join(folder, 'run'),
      ];
      const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: projectRoot });
      const { planned, measured } = JSON.parse(stdout) as { planned: number; measured: number };
      rmSync(join(folder, 'run'), { recursive: true });
      const difference = measured / planned - 1;
      const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
      console.log(
        `    ${JSON.stringify(variant).slice(0, 90)}: planned ${mib(planned)}, measured ${mib(measured)}, ${(100 * difference).toFixed(1)} %`,
      );
      assert.ok(
        Math.abs(difference) <= 0.1,
        `${JSON.stringify(variant)}: planned ${mib(planned)}, measured ${mib(measured)}`,
      );
    }
  });
});

test('steps and tokens are those of the run', async () => {
  await withRun(async (folder) => {
    const { recipe } = loadRecipe(join(folder, 'recipe.yaml'));
    const stages = [
      { ...recipe.stages[0]!, name: 'epochs', steps: undefined, epochs: 2 },
      { ...recipe.stages[0]!, name: 'tokens', steps: undefined, tokens: 200 },
      { ...recipe.stages[0]!, name: 'steps', steps: 3 },
    ];
    const several = { ...recipe, batch: { ...recipe.batch, accumulation: 2 }, stages };
    const planned = await plan(several, { calibrate: false });
    assert.is(planned.step.tokens, 2 * 2 * 32);
    assert.is(planned.time, undefined);
    assert.equal(
      planned.stages.map(({ end, examples }) => ({ end, examples })),
      [
        { end: '2 epochs', examples: 12 },
        { end: '200 tokens', examples: 12 },
        { end: '3 steps', examples: 12 },
      ],
    );
    const steps = new Map<string, number>();
    for await (const event of train(several, { output: join(folder, 'out') })) {
      if (event.type === 'step') steps.set(event.stage, (steps.get(event.stage) ?? 0) + 1);
    }
    for (const stage of planned.stages) assert.is(stage.steps, steps.get(stage.name), stage.name);
  });
});

test('a model known by name needs no files', async () => {
  const { code, stdout, stderr } = await tacotune(['plan', 'guanaco-33b', '--memoryGiB', '64', '--no-time', '--json']);
  assert.is(code, 0, stderr);
  const planned = JSON.parse(stdout);
  assert.ok(Math.abs(planned.model.parameters / 32.53e9 - 1) < 0.01, `${planned.model.parameters} parameters`);
  // 32.2 G weights of linear layers at 4.127 bits (NF4, double-quantised), embedding and head at 16 bits.
  const weights = (32.1e9 * 4.127) / 8 + 2 * 32000 * 6656 * 2;
  assert.ok(
    Math.abs(planned.memory.weights / weights - 1) < 0.01,
    `${planned.memory.weights} bytes of weights, ${weights} by hand`,
  );
  // 2 FLOPs a weight forward and 2 backward; frozen weights need no gradient of their own. Recomputing adds at most 2.
  const perToken = planned.step.flopsPerToken / (planned.model.parameters * 2);
  assert.ok(perToken > 2 && perToken < 3.3, `${perToken} passes`);
  assert.is(planned.fits, true);
  assert.is(planned.budgetBytes, 64 * 2 ** 30);
  assert.equal(
    planned.stages.map((stage: { steps?: number }) => stage.steps),
    [1875],
  );
});

test('what does not fit says what would', async () => {
  await withRun(async (folder) => {
    const { recipe } = loadRecipe(join(folder, 'recipe.yaml'));
    const wide = { ...recipe, model: 'llama-7b', batch: { ...recipe.batch, context: 2048, rows: 4 }, memoryGiB: 6 };
    const { fits, remedy, peakBytes, budgetBytes, activations } = await plan(wide, { calibrate: false });
    assert.is(fits, false);
    assert.is(activations, 'keep-inputs');
    assert.ok(peakBytes > budgetBytes);
    assert.is(remedy![0], 'batch.rows=1');
    const changes = Object.fromEntries(remedy!.map((change) => change.split('=')));
    const batch = {
      ...wide.batch,
      rows: 1,
      ...(changes['batch.context'] && { context: Number(changes['batch.context']) }),
    };
    const optimizer = { ...wide.optimizer, ...(changes['optimizer.kind'] && { kind: changes['optimizer.kind'] }) };
    const adapter = { ...wide.adapter, ...(changes['adapter.rank'] && { rank: Number(changes['adapter.rank']) }) };
    assert.is((await plan({ ...wide, batch, optimizer, adapter }, { calibrate: false })).fits, true, remedy!.join(' '));
    assert.equal((await plan({ ...wide, memoryGiB: 1 }, { calibrate: false })).remedy, []);
  });
});

test('the budget decides what is kept', async () => {
  const recipe = { model: 'tinyllama-1.1b', stages: [{ name: 'a', steps: 1, data: [{ tokens: 'x.jsonl' }] }] };
  const policies = new Map<string, number>();
  for (const memoryGiB of [1.6, 2.2, 3, 12]) {
    const { activations, peakBytes, fits } = await plan({ ...recipe, memoryGiB }, { calibrate: false });
    if (fits) assert.ok(peakBytes <= memoryGiB * 2 ** 30);
    policies.set(activations, peakBytes);
  }
  assert.is([...policies.keys()].at(-1), 'keep-all');
  assert.ok(policies.size >= 2, [...policies.keys()].join());
});

test('time comes from this machine', async () => {
  await withRun(async (folder) => {
    const { recipe } = loadRecipe(join(folder, 'recipe.yaml'));
    const { time, step } = await plan(recipe);
    assert.ok(time!.stepSeconds > 0 && Number.isFinite(time!.stepSeconds));
    assert.ok(Math.abs(time!.tokensPerSecond * time!.stepSeconds - step.tokens) < 1e-6 * step.tokens);
    assert.ok(Math.abs(time!.seconds! - 4 * time!.stepSeconds) < 1e-9);
  });
});
