// SPDX-License-Identifier: Apache-2.0
// The tfjs device for real: the golden trajectories on TensorFlow's own kernels, then a training step beside the cpu device's,
// the devices in turn, since the machine does other work too.
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import {
  type Batch,
  CpuDevice,
  type Device,
  type FoundTensorFlow,
  findTensorFlow,
  initializeLora,
  LINEAR_NAMES,
  Llama,
  type LlamaConfig,
  openTfjsDevice,
  type Quantization,
  randomStart,
} from '../engine/index.js';
import { registerTfjsOps } from '../kernels/index.js';
import { Random } from '../test/ops/random.js';
import { BATCHES, followGoldenRun } from '../test/support/golden-training.js';
import { describeMachine, machineLine, record, root } from './machine.js';
import { formatTable, median } from './measure.js';
import { layOut } from './tfjs-layout.js';

const MODEL: LlamaConfig = {
  vocabularySize: 4096,
  width: 512,
  feedForwardWidth: 1408,
  layers: 4,
  queryHeads: 8,
  keyValueHeads: 2,
  headWidth: 64,
  rmsNormEps: 1e-5,
  ropeTheta: 10_000,
  tiedHead: false,
  maxPositions: 512,
};
const [B, T] = [1, 128];

/** `--wheel FILE`, `--folder PATH` (default build/tfjs-node), `--rounds N`, `--record`. */
export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      wheel: { type: 'string' },
      folder: { type: 'string' },
      rounds: { type: 'string' },
      record: { type: 'boolean' },
    },
  });
  const folders = [layOut(resolve(values.folder ?? join(root, 'build', 'tfjs-node')), values.wheel)];
  const open = (customOps = true) => openTfjsDevice({ compute: 'f32', customOps }, folders);
  await open(); // TensorFlow is in the process from here on
  const machine = describeMachine();
  const tensorFlow = tensorFlowOf(findTensorFlow(folders));
  console.log(`${machineLine(machine)}, ${tensorFlow}`);

  const goldens = [];
  for (const name of Object.keys(BATCHES)) {
    const { steps, loss, gradNorm } = await followGoldenRun(name, {
      where: 'tfjs-node',
      device: await open(),
    });
    goldens.push({ name, steps, loss, gradNorm });
    console.log(
      `${name}: ${steps} steps within the reference; loss off ${loss.toExponential(1)}, norm off ${gradNorm.toExponential(1)}`,
    );
  }

  const steps = [];
  for (const quantization of ['none', 'nf4'] as const) {
    steps.push(...(await measureSteps(open, quantization, Number(values.rounds ?? 10))));
  }
  const milliseconds = (value: number) => value.toFixed(1);
  console.log(
    formatTable([
      ['forward and backward', 'weights', 'median ms', 'best ms', 'cpu ms'],
      ...steps.map((step) => [step.device, step.quantization, ...[step.median, step.best, step.cpu].map(milliseconds)]),
    ]),
  );
  if (values.record) console.log(`recorded: ${record('tfjs', { ...machine, tensorFlow, goldens, steps })}`);
}

function tensorFlowOf({ packageName, directory }: FoundTensorFlow): string {
  const loaded = createRequire(join(directory, 'here.js'))(directory) as {
    backend(): { binding: { TF_Version: string } };
  };
  return `${packageName} on TensorFlow ${loaded.backend().binding.TF_Version}`;
}

type Open = (customOps?: boolean) => Promise<Device>;

/** A micro-batch of a QLoRA step, forward and backward, on each device in turn. */
async function measureSteps(open: Open, quantization: Quantization, rounds: number) {
  const devices: [name: string, device: Device][] = [
    ['cpu', new CpuDevice({ compute: 'f32' })],
    ['tfjs', await open()],
  ];
  if (quantization === 'nf4' && registerTfjsOps().built) devices.push(['tfjs, without our op', await open(false)]);
  const subjects = devices.map(([name, device]) => ({
    device: name,
    step: prepareStep(device, quantization),
    wall: [] as number[],
    cpu: [] as number[],
  }));
  for (let round = -2; round < rounds; round++) {
    for (const { step, wall, cpu } of subjects) {
      const before = process.cpuUsage();
      const start = performance.now();
      await step();
      const { user, system } = process.cpuUsage(before);
      if (round < 0) continue;
      wall.push(performance.now() - start);
      cpu.push((user + system) / 1000);
    }
  }
  return subjects.map(({ device, wall, cpu }) => ({
    device,
    quantization,
    median: median(wall),
    best: Math.min(...wall),
    cpu: median(cpu),
  }));
}

function prepareStep(device: Device, quantization: Quantization): () => Promise<void> {
  const adapter = { rank: 16, alpha: 32, dropout: 0, rslora: false, targets: LINEAR_NAMES };
  const llama = new Llama(device, MODEL, randomStart(MODEL, 1), { quantization, adapter });
  initializeLora(llama.parameters!, 1);
  const random = new Random(1);
  const batch: Batch = {
    B,
    T,
    ids: random.integers(B * T, 0, MODEL.vocabularySize),
    labels: random.integers(B * T, 0, MODEL.vocabularySize),
    positions: Int32Array.from({ length: B * T }, (_, m) => m % T),
    segments: new Int32Array(B * T).fill(1),
  };
  const lossSum = device.allocate('activations', [1]);
  return async () => {
    device.fill(lossSum, 0);
    llama.parameters!.zeroGradients();
    await llama.lossAndGradients(batch, lossSum, { scale: 1 / (B * T), policy: 'keep-all', seedOf: () => undefined });
    await device.download(lossSum);
    await device.download(llama.parameters!.list[0]!.gradient);
  };
}
