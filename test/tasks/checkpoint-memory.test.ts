// SPDX-License-Identifier: Apache-2.0
// What writing a checkpoint, and going on from one, takes besides what is trained: little, however large the states.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import * as assert from 'uvu/assert';
import { projectRoot, skip, suite } from '../support/harness.js';
import { TINY, withFolder, writeSmallModel } from '../support/small-model.js';

const test = suite('tasks/checkpoint-memory', 300_000);

/** Trains the whole of an adapter of 18 million parameters: 72 MB, and 144 MB of states. */
const WIDE = { ...TINY, width: 512, feedForwardWidth: 1024, layers: 4, queryHeads: 8, keyValueHeads: 8, headWidth: 64 };
const RANK = 512;

/** In a process of its own: saves a checkpoint and restores it; prints how far each raised the peak above what was held. */
const MEASURE = `
import { readFileSync, writeFileSync } from 'node:fs';
const [model, output] = process.argv.slice(-2);
const load = (path) => import(new URL(path, ${JSON.stringify(pathToFileURL(join(projectRoot, 'dist', '/')).href)}));
const { CpuDevice, TrainingRun } = await load('engine/index.js');
const { parseRecipe } = await load('recipes/index.js');
const { openForTraining } = await load('tasks/open-model.js');
const { adapterSettings, trainingSettings } = await load('tasks/run-settings.js');
const { findResumePoint, restoreOptimizer, RunFolder } = await load('tasks/run-folder.js');
const recipe = parseRecipe({
  model,
  adapter: { rank: ${RANK}, dropout: 0, targets: ['q', 'k', 'v', 'o', 'gate', 'up', 'down'] },
  stages: [{ name: 'a', steps: 1, data: [{ tokens: 'x' }] }],
});
const device = new CpuDevice({ compute: 'f32' });
const opened = openForTraining({ model, device, quantize: 'none', adapterSettings: adapterSettings(recipe), seed: 1 });
const stage = { name: 'a', learningRateFactor: 1, end: { steps: 1 }, batches: (async function* () {})() };
const run = new TrainingRun(opened.llama, [stage], trainingSettings(recipe, 1), {});
const folder = RunFolder.take(output);
const piece = new Float32Array(1 << 16).fill(0.5);
const filled = [...run.optimizer.tensors().map(({ tensor }) => tensor), ...opened.llama.parameters.list.map(({ value }) => value)];
for (const tensor of filled) {
  for (let at = 0; at < tensor.size; at += piece.length)
    device.upload(device.view(tensor, at, [Math.min(piece.length, tensor.size - at)]), piece.subarray(0, tensor.size - at));
}
const status = (key) => Number(new RegExp(key + ':\\\\s+(\\\\d+)').exec(readFileSync('/proc/self/status', 'utf8'))[1]);
async function raised(work) {
  device.trim();
  gc();
  await new Promise((resolve) => setTimeout(resolve, 200)); // what was collected is given back beside the program
  const before = status('VmRSS');
  writeFileSync('/proc/self/clear_refs', '5'); // the peak begins anew
  await work();
  return (status('VmHWM') - before) / 1024;
}
const saving = await raised(() => folder.saveState(run, opened, recipe));
const restoring = await raised(async () => restoreOptimizer(opened, run.optimizer, findResumePoint(output)));
folder.release();
console.log(JSON.stringify({ saving, restoring, held: status('VmRSS') / 1024 }));
`;

test('a checkpoint of 216 MB is written and read in pieces', async () => {
  if (process.platform !== 'linux') skip('the peak of a process is read from /proc');
  await withFolder(async (folder) => {
    const model = await writeSmallModel(join(folder, 'model'), WIDE, { dtype: 'bf16' });
    const args = ['--expose-gc', '--input-type=module', '--eval', MEASURE, model, join(folder, 'run')];
    const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: projectRoot });
    const { saving, restoring, held } = JSON.parse(stdout) as { saving: number; restoring: number; held: number };
    console.log(
      `    ${held.toFixed(0)} MiB held, ${saving.toFixed(0)} more to save, ${restoring.toFixed(0)} more to restore`,
    );
    assert.ok(held > 250, `${held} MiB held`);
    // What is held of pieces that are done with is the garbage collector's to say: 37 and 8 MiB measured.
    assert.ok(saving < 64 && restoring < 32, `${saving} MiB to save, ${restoring} MiB to restore`);
  });
});
