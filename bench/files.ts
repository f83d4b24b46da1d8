// SPDX-License-Identifier: Apache-2.0
// What converting files costs: the adapter of a 33B model from torch's .bin, and a model of 1.3 GB copied, cast, quantised and
// merged, beside `cp` with a sync on the same disk. Each run is a process of the real command line; the runs take turns, since
// disks and neighbours change. Best and median of the clock, the processor's time, and the most memory of the process.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type LlamaConfig, writeAdapter, writeModel } from '../checkpoints/index.js';
import { LINEAR_NAMES, linearShape, normals, randomStart } from '../engine/index.js';
import { archive, call, code, storage, tensor, text } from '../test/checkpoints/torch-bytes.js';
import { describeMachine, machineLine, record } from './machine.js';
import { formatTable } from './measure.js';

const MAIN = join(dirname(fileURLToPath(import.meta.url)), '..', 'cli', 'main.js');

const MODEL: LlamaConfig = {
  ...{ vocabularySize: 32_000, width: 2048, feedForwardWidth: 5632, layers: 12, queryHeads: 32, keyValueHeads: 4 },
  ...{
    headWidth: 64,
    rmsNormEps: 1e-5,
    ropeTheta: 10_000,
    ropeScaling: undefined,
    tiedHead: false,
    maxPositions: 2048,
  },
  ...{ bosTokenId: 1, eosTokenIds: [2] },
};

interface Sample {
  seconds: number;
  cpuSeconds: number;
  peakMiB: number;
}

/** `--runs N`, `--folder PATH` (on the disk to measure), `--record`. */
export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { runs: { type: 'string' }, folder: { type: 'string' }, record: { type: 'boolean' } },
  });
  const root = mkdtempSync(join(values.folder ?? tmpdir(), 'tacotune-files-'));
  try {
    const rows = await measure(root, Number(values.runs ?? 5));
    const machine = describeMachine();
    console.log(machineLine(machine));
    const heads = ['', 'MB', 'best s', 'median s', 'cpu s', 'of copy, best', 'median', 'peak MiB'];
    const cells = rows.map((row) => [
      row.name,
      row.megabytes.toFixed(0),
      row.bestSeconds.toFixed(2),
      row.medianSeconds.toFixed(2),
      row.cpuSeconds.toFixed(2),
      ...[row.shareOfCopySpeed, row.medianShareOfCopySpeed].map((share) =>
        share === undefined ? '' : `${(100 * share).toFixed(0)} %`,
      ),
      row.peakMiB === 0 ? '' : row.peakMiB.toFixed(0),
    ]);
    console.log(formatTable([heads, ...cells]));
    if (values.record) console.log(`recorded: ${record('files', { ...machine, rows })}`);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

async function measure(root: string, runs: number) {
  const adapter = makeTorchAdapter(join(root, 'adapter'));
  const model = join(root, 'model');
  const source = randomStart(MODEL, 1);
  await writeModel(model, MODEL, (name) => source.weight(name).data as Float32Array, { dtype: 'bf16' });
  const lora = join(root, 'lora');
  makeAdapter(lora);
  const out = join(root, 'out');
  const cases: [name: string, bytes: number, body: () => Sample][] = [
    ['cp + sync, model', sizeOf(model), () => copy(join(model, 'model.safetensors'), out)],
    ['convert, adapter .bin', sizeOf(adapter), () => tacotune(root, ['convert', adapter, out])],
    ['convert, model', sizeOf(model), () => tacotune(root, ['convert', model, out])],
    ['convert, model to f16', sizeOf(model), () => tacotune(root, ['convert', model, out, '--dtype', 'f16'])],
    ['quantize, model', sizeOf(model), () => tacotune(root, ['quantize', model, '--output', out])],
    [
      'merge, model',
      sizeOf(model),
      () => tacotune(root, ['merge', '--model', model, '--adapter', lora, '--output', out]),
    ],
  ];
  const samples = cases.map((): Sample[] => []);
  for (let round = 0; round < runs; round++) {
    for (const [i, [, , body]] of cases.entries()) {
      rmSync(out, { recursive: true, force: true });
      spawnSync('sync'); // what earlier runs left to write is not this one's
      samples[i]!.push(body());
    }
  }
  const best = (list: Sample[]) => Math.min(...list.map(({ seconds }) => seconds));
  const median = (list: Sample[]) => list.map(({ seconds }) => seconds).sort((a, b) => a - b)[list.length >> 1]!;
  return cases.map(([name, bytes], i) => {
    const list = samples[i]!;
    return {
      name,
      megabytes: bytes / 1e6,
      bestSeconds: best(list),
      medianSeconds: median(list),
      cpuSeconds: Math.min(...list.map(({ cpuSeconds }) => cpuSeconds)),
      peakMiB: Math.max(...list.map(({ peakMiB }) => peakMiB)),
      ...(name.startsWith('convert, model') && {
        shareOfCopySpeed: best(samples[0]!) / best(list),
        medianShareOfCopySpeed: median(samples[0]!) / median(list),
      }),
    };
  });
}

const sizeOf = (folder: string): number => {
  for (const name of ['model.safetensors', 'adapter_model.bin']) {
    const size = statSync(join(folder, name), { throwIfNoEntry: false })?.size;
    if (size !== undefined) return size;
  }
  throw new Error(`no weights in ${folder}`);
};

function copy(from: string, to: string): Sample {
  const start = performance.now();
  spawnSync('cp', [from, to]);
  spawnSync('sync', [to]);
  return { seconds: (performance.now() - start) / 1000, cpuSeconds: 0, peakMiB: 0 };
}

/** Runs the command line, which leaves what it used in a file when it ends. */
function tacotune(root: string, args: string[]): Sample {
  const usage = join(root, 'usage.json');
  // The system hands the peak of the process that starts another on to it: /proc has the child's own.
  const hook = `import{readFileSync as r,writeFileSync as w}from'node:fs';process.on('exit',()=>{
    const peak=r('/proc/self/status','utf8').match(/VmHWM:\\s+(\\d+)/);
    w(${JSON.stringify(usage)},JSON.stringify({...process.resourceUsage(),maxRSS:Number(peak?.[1]??0)}))})`;
  const start = performance.now();
  const { status, stderr } = spawnSync(
    process.execPath,
    ['--import', `data:text/javascript,${encodeURIComponent(hook)}`, MAIN, ...args],
    { encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(stderr);
  const seconds = (performance.now() - start) / 1000;
  const used = JSON.parse(readFileSync(usage, 'utf8')) as NodeJS.ResourceUsage;
  return { seconds, cpuSeconds: (used.userCPUTime + used.systemCPUTime) / 1e6, peakMiB: used.maxRSS / 1024 };
}

/** The released adapters' shape: r 32 on q, k, v, o of a 33B model, in f16. */
function makeTorchAdapter(folder: string): string {
  const storages: Record<string, Uint8Array> = {};
  const pairs: Uint8Array[] = [];
  const values = new Uint16Array(normals(1, 32 * 6656, 1).map((value) => value * 1000)); // any bits will do
  const bytes = new Uint8Array(values.buffer);
  for (let layer = 0; layer < 60; layer++) {
    for (const linear of ['q', 'k', 'v', 'o']) {
      for (const [factor, shape] of [
        ['A', [32, 6656]],
        ['B', [6656, 32]],
      ] as const) {
        const key = String(pairs.length / 2);
        storages[key] = bytes;
        const half = storage(key, 'torch.HalfStorage', values.length);
        const name = `base_model.model.model.layers.${layer}.self_attn.${linear}_proj.lora_${factor}.weight`;
        pairs.push(text(name), tensor(half, 0, [...shape], [shape[1], 1]));
      }
    }
  }
  mkdirSync(folder);
  const ordered = code(call('collections.OrderedDict'), '(', ...pairs, 'u');
  writeFileSync(join(folder, 'adapter_model.bin'), archive(ordered, storages));
  const settings = { bias: 'none', enable_lora: null, fan_in_fan_out: false, inference_mode: true, lora_alpha: 64 };
  const more = { lora_dropout: 0.05, merge_weights: false, modules_to_save: null, peft_type: 'LORA', r: 32 };
  const targets = { target_modules: ['q_proj', 'k_proj', 'v_proj', 'o_proj'], task_type: 'CAUSAL_LM' };
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ ...settings, ...more, ...targets }));
  if (Object.keys(storages).length !== 480) throw new Error('the released adapters have 480 tensors');
  return folder;
}

function makeAdapter(folder: string): void {
  const rank = 16;
  const factors = Array.from({ length: MODEL.layers }, (_, layer) =>
    LINEAR_NAMES.flatMap((linear) => {
      const [N, K] = linearShape(MODEL, linear);
      const factor = (rows: number, columns: number) => ({
        shape: [rows, columns] as [number, number],
        data: normals(layer, rows * columns, 0.02),
      });
      return [
        [`layers.${layer}.${linear}.A`, factor(rank, K)],
        [`layers.${layer}.${linear}.B`, factor(N, rank)],
      ] as const;
    }),
  ).flat();
  const settings = { rank, alpha: 32, dropout: 0, rslora: false, targets: [...LINEAR_NAMES] };
  writeAdapter(folder, { ...settings, tensors: new Map(factors) });
}
