// SPDX-License-Identifier: Apache-2.0
// A whole training step (forward, backward, clipping, AdamW) of a model of random weights in NF4 with LoRA on all seven
// linears, beside the same step in PEFT where a Python with torch, transformers and peft is named. The two take turns,
// step by step, so that whatever slows the machine slows both; medians of wall and of CPU time are reported.
//
//     npm run bench -- step [--shape 0.136b|1.1b] [--context 256] [--recompute] [--device cpu|cuda] [--threads N]
//                           [--rounds 5] [--python PATH] [--record]
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  type Batch,
  initializeLora,
  LINEAR_NAMES,
  Llama,
  type LlamaConfig,
  randomStart,
  Trainer,
  type WeightSource,
} from '../engine/index.js';
import { UserError } from '../errors.js';
import { native, STORAGE_TYPE } from '../kernels/index.js';
import { kernelsOf, makeDevice, resolvePlace } from '../tasks/index.js';
import { describeMachine, machineLine, record } from './machine.js';
import { formatTable, median } from './measure.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const RANK = 16;

const COMMON = { vocabularySize: 32000, rmsNormEps: 1e-5, ropeTheta: 10000, tiedHead: false, maxPositions: 4096 };
const SHAPES: Record<string, LlamaConfig> = {
  '0.136b': {
    ...COMMON,
    width: 1024,
    feedForwardWidth: 2816,
    layers: 8,
    queryHeads: 16,
    keyValueHeads: 16,
    headWidth: 64,
  },
  '1.1b': {
    ...COMMON,
    width: 2048,
    feedForwardWidth: 5632,
    layers: 22,
    queryHeads: 32,
    keyValueHeads: 4,
    headWidth: 64,
  },
};

interface Step {
  /** Milliseconds. */
  wall: number;
  cpu: number;
  loss: number;
  peakBytes: number;
}

interface Stepper {
  name: string;
  step(): Promise<Step>;
  end(): void;
}

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      shape: { type: 'string', default: '0.136b' },
      context: { type: 'string', default: '256' },
      recompute: { type: 'boolean', default: false },
      device: { type: 'string', default: 'cpu' },
      threads: { type: 'string' },
      rounds: { type: 'string', default: '5' },
      python: { type: 'string' },
      record: { type: 'boolean', default: false },
    },
  });
  const config = SHAPES[values.shape];
  if (!config) {
    throw new UserError({ expected: `--shape ${Object.keys(SHAPES).join(' or ')}`, found: values.shape, usage: true });
  }
  const [context, rounds] = [Number(values.context), Number(values.rounds)];
  if (values.threads) native().setThreads(Number(values.threads));
  const settings = { context, recompute: values.recompute, device: values.device as 'cpu' | 'cuda' };
  const machine = describeMachine();
  console.log(machineLine(machine));
  const ours = await tacotuneStepper(config, settings);
  const steppers = [ours];
  if (values.python) steppers.push(await peftStepper(values.python, config, settings));

  const samples = new Map(steppers.map(({ name }) => [name, [] as Step[]]));
  for (let round = -1; round < rounds; round++) {
    for (const { name, step } of steppers) {
      const measured = await step();
      if (round >= 0) samples.get(name)!.push(measured);
    }
  }
  for (const { end } of steppers) end();

  const threads = native().threads();
  const parameters = trainedOver(config);
  const rows = [...samples].map(([name, steps]) => {
    const [wall, cpu] = [median(steps.map((step) => step.wall)), median(steps.map((step) => step.cpu))];
    const perToken = (values.recompute ? 6 : 4) * parameters;
    return {
      name,
      wallMs: wall,
      bestMs: Math.min(...steps.map((step) => step.wall)),
      cpuMs: cpu,
      tokensPerSecond: (context / wall) * 1e3,
      tokensPerCpuSecond: ((context * threads) / cpu) * 1e3,
      gflops: (perToken * context) / wall / 1e6,
      peakBytes: Math.max(...steps.map((step) => step.peakBytes)),
      loss: steps.at(-1)!.loss,
    };
  });
  console.log(
    `${values.shape}, T ${context}, LoRA r ${RANK} on all linears, ${values.recompute ? 'layers recomputed' : 'nothing recomputed'}, ${rounds} rounds in turn`,
  );
  console.log(
    formatTable([
      ['', 'ms a step', 'best', 'CPU ms', 'tokens/s', '… per CPU-second × threads', 'GFLOP/s', 'peak GiB'],
      ...rows.map((row) => [
        row.name,
        row.wallMs.toFixed(0),
        row.bestMs.toFixed(0),
        row.cpuMs.toFixed(0),
        row.tokensPerSecond.toFixed(1),
        row.tokensPerCpuSecond.toFixed(1),
        row.gflops.toFixed(0),
        (row.peakBytes / 2 ** 30).toFixed(2),
      ]),
    ]),
  );
  const [mine, peer] = rows;
  if (peer) {
    const ratio = (key: 'wallMs' | 'cpuMs') => (peer[key] / mine![key]).toFixed(2);
    console.log(`${peer.name}: ${ratio('wallMs')} times our time by the clock, ${ratio('cpuMs')} by CPU time`);
  }
  if (values.record) {
    console.log(
      `recorded in ${record('step', { machine, shape: values.shape, ...settings, rank: RANK, rounds, rows })}`,
    );
  }
}

/** All parameters but the input embedding: what a token's products run over. */
function trainedOver(config: LlamaConfig): number {
  const { width: C, feedForwardWidth: F, layers, keyValueHeads, headWidth, queryHeads, vocabularySize: V } = config;
  const attention = 2 * C * queryHeads * headWidth + 2 * C * keyValueHeads * headWidth;
  return layers * (attention + 3 * C * F) + V * C;
}

interface StepSettings {
  context: number;
  recompute: boolean;
  device: 'cpu' | 'cuda';
}

async function tacotuneStepper(
  config: LlamaConfig,
  { context, recompute, device: name }: StepSettings,
): Promise<Stepper> {
  const place = resolvePlace({ device: name });
  const device = await makeDevice(place);
  const adapter = { rank: RANK, alpha: 2 * RANK, dropout: 0, rslora: false, targets: [...LINEAR_NAMES] };
  const llama = new Llama(device, config, inBf16(randomStart(config, 0)), { quantization: 'nf4', adapter });
  initializeLora(llama.parameters!, 0);
  device.trim();
  const trainer = new Trainer(llama, {
    optimizer: { kind: 'adamw', learningRate: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.01 },
    schedule: { kind: 'constant', warmupSteps: 0, totalSteps: 1e6 },
    accumulation: 1,
    maxGradientNorm: 1,
    lossNormalization: 'tokens',
    policy: recompute ? 'keep-inputs' : 'keep-all',
    seed: 0,
    maxSkippedSteps: 0,
    evaluateEvery: 0,
  });
  const ids = Int32Array.from({ length: context }, (_, t) => (t * 7919) % config.vocabularySize);
  const batch: Batch = {
    B: 1,
    T: context,
    ids,
    labels: ids,
    positions: Int32Array.from(ids, (_, t) => t),
    segments: new Int32Array(context).fill(1),
  };
  let steps = 0;
  return {
    name: `tacotune, NF4, ${place.compute} (${kernelsOf(place)})`,
    async step() {
      const before = process.cpuUsage();
      const start = performance.now();
      const { loss } = await trainer.step([batch], { name: 'bench', learningRateFactor: 1 }, steps++);
      const wall = performance.now() - start;
      const { user, system } = process.cpuUsage(before);
      const peakBytes = process.resourceUsage().maxRSS * 1024;
      return { wall, cpu: (user + system) / 1000, loss: loss ?? Number.NaN, peakBytes };
    },
    end() {
      trainer.dispose();
      llama.dispose();
    },
  };
}

/** Embedding and head in 16 bits, as published models have them; linears are quantised anyway. */
function inBf16(source: WeightSource): WeightSource {
  return {
    weight(name) {
      const values = source.weight(name);
      if (name !== 'embedding' && name !== 'head') return values;
      const bits = new Uint16Array(values.data.length);
      native().fromF32(bits, values.data as Float32Array, STORAGE_TYPE.bf16, bits.length);
      return { dtype: 'bf16', shape: values.shape, data: bits };
    },
  };
}

async function peftStepper(python: string, config: LlamaConfig, settings: StepSettings): Promise<Stepper> {
  const script = join(root, 'bench', 'peers', 'peft_step.py');
  const given = JSON.stringify({ ...config, ...settings, rank: RANK, threads: native().threads() });
  // OpenMP's threads would spin for work that never comes while the other side has its turn, and take a core from it.
  const env = { ...process.env, OMP_WAIT_POLICY: 'PASSIVE' };
  const child = spawn(python, [script, given], { stdio: ['pipe', 'pipe', 'inherit'], env });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    if (done)
      throw new UserError({ expected: 'a Python with torch, transformers and peft', found: 'it ended', where: python });
    return JSON.parse(value as string) as Record<string, unknown>;
  };
  const { base, torch, peft } = await next();
  return {
    name: `PEFT ${peft}, torch ${torch}, base ${base}`,
    async step() {
      child.stdin.write('\n');
      return (await next()) as unknown as Step;
    },
    end: () => child.stdin.end(),
  };
}
