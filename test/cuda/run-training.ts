// SPDX-License-Identifier: Apache-2.0
// Child of training.test.ts: follows a training run of the goldens on the GPU that the driver drives, and prints its steps
// as JSON. Arguments: the run, f32 or bf16, and how many steps.
import { CudaDevice, TrainingRun } from '../../engine/index.js';
import { BATCHES, goldenBatches, settingsOf, stageOf, startOf, trainingFacts } from '../support/golden-training.js';

const [name, compute, steps] = process.argv.slice(2) as [string, 'f32' | 'bf16', string];
const run = trainingFacts().runs[name]!;
const device = new CudaDevice({ compute, poison: true });
const llama = startOf(run, { device });
let done = 0;
for await (const event of new TrainingRun(llama, [stageOf(goldenBatches(BATCHES[name]!))], settingsOf(run))) {
  if (event.type !== 'step') continue;
  console.log(JSON.stringify({ loss: event.loss, gradNorm: event.gradNorm, learningRate: event.learningRate }));
  if (++done === Number(steps)) break;
}
