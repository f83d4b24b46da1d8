// SPDX-License-Identifier: Apache-2.0
// The cuda device as users meet it, through the real command line on the emulated GPU: what is said where there is no driver,
// an old one, no kernels or too little memory; training, resuming and generating; and what a bad index becomes.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { onEmulatedGpu } from '../support/emulator.js';
import { suite } from '../support/harness.js';
import { inFolder, tacotune, writeTinyModel, writeTokens } from '../support/tiny.js';

const test = suite('cuda: device', 300_000);

const onGpu = (args: string[], environment?: Record<string, string>) => onEmulatedGpu('cli/main.js', args, environment);

async function recipeIn(folder: string, lines = ''): Promise<string> {
  await writeTinyModel(join(folder, 'model'));
  writeTokens(join(folder, 'tokens.jsonl'), 20);
  const recipe = join(folder, 'recipe.yaml');
  writeFileSync(
    recipe,
    `model: model
device: cuda
adapter: { rank: 2, dropout: 0.1 }
optimizer: { learningRate: 1e-3 }
batch: { context: 32, rows: 1 }
stages: [{ name: only, steps: 4, data: [{ tokens: tokens.jsonl }] }]
${lines}`,
  );
  return recipe;
}

test('without a driver: auto computes on the CPU and says why, cuda is refused', async () => {
  await inFolder(async (folder) => {
    const recipe = await recipeIn(folder);
    const none = { TACOTUNE_CUDA_DRIVER: join(folder, 'no-such-driver.so') };
    const { status, stderr } = onGpu(['train', recipe, '--output', join(folder, 'run')], none);
    assert.is(status, 1);
    assert.match(stderr, /a GPU, for device: cuda/);
    assert.match(stderr, /no-such-driver/);
    assert.match(stderr, /tacotune doctor/);
    const doctor = JSON.parse(onGpu(['doctor', '--json'], none).stdout) as {
      chosen: { device: string; deviceReason: string };
    };
    assert.is(doctor.chosen.device, 'cpu');
    assert.match(doctor.chosen.deviceReason, /no NVIDIA driver/);
    const auto = onGpu(['train', recipe, '--output', join(folder, 'run'), '--device', 'auto'], none);
    assert.is(auto.status, 0, auto.stderr);
    assert.match(auto.stderr, /device +cpu: \S+, \d+ threads \(no NVIDIA driver: /);
  });
});

test('a driver that is too old, and missing kernels, are told apart', async () => {
  await inFolder((folder) => {
    const old = JSON.parse(onGpu(['doctor', '--json'], { TACOTUNE_EMULATOR_DRIVER_VERSION: '12040' }).stdout) as {
      missing: string;
    };
    assert.match(old.missing, /supports CUDA 12\.4.*13\.0 is needed/);
    // The folder is there and has no kernels: a GPU that is found and cannot be opened is none.
    const bare = JSON.parse(onGpu(['doctor', '--json'], { TACOTUNE_CUDA_MODULES: folder }).stdout) as {
      missing: string;
      healthy: boolean;
      gpus: unknown[];
      chosen: { device: string };
    };
    assert.equal([bare.gpus.length, bare.chosen.device, bare.healthy], [1, 'cpu', true]);
    assert.match(bare.missing, /npm run build:cuda/);
  });
});

test('doctor checks ops on the GPU and finds them right', () => {
  const { status, stdout, stderr } = onGpu(['doctor', '--json', '--ops', 'swiglu', '--ops', 'rmsnorm', '--ops', 'add']);
  assert.is(status, 0, stderr);
  const { gpu, chosen } = JSON.parse(stdout) as {
    gpu: {
      checks: { op: string; passed: number; failed: number }[];
      probes: { name: string; compared: number; mismatches: number }[];
    };
    chosen: { device: string; compute: string };
  };
  assert.equal(chosen.device, 'cuda');
  assert.is(chosen.compute, 'bf16');
  assert.ok(gpu.checks.length >= 5);
  assert.is(gpu.probes.length, 3);
  for (const { name, compared, mismatches } of gpu.probes) assert.ok(compared > 0 && mismatches === 0, name);
  for (const { op, passed, failed } of gpu.checks) assert.ok(passed > 0 && failed === 0, op);
});

test('trains, is stopped, resumes to the same bytes, and the adapter answers on either device', async () => {
  await inFolder(async (folder) => {
    const recipe = await recipeIn(folder, 'checkpoints: { every: 2 }\n');
    const whole = join(folder, 'whole');
    const trained = onGpu(['train', recipe, '--output', whole]);
    assert.is(trained.status, 0, trained.stderr);
    assert.match(trained.stderr, /device +cuda: /);
    const adapter = readFileSync(join(whole, 'adapter_model.safetensors'));
    const resumed = onGpu(['train', '--resume', whole, '--checkpoint', 'step-00000002']);
    assert.is(resumed.status, 0, resumed.stderr);
    assert.equal(readFileSync(join(whole, 'adapter_model.safetensors')), adapter);
    const lossOn = (device: string) => {
      const model = ['--model', join(folder, 'model'), '--adapter', whole, '--device', device, '--compute', 'f32'];
      const { status, stdout, stderr } = onGpu(['score', ...model, '--input', join(folder, 'tokens.jsonl')]);
      assert.is(status, 0, stderr);
      return stdout
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { meanNll: number }).meanNll);
    };
    const [cpu, cuda] = [lossOn('cpu'), lossOn('cuda')];
    for (const [i, loss] of cuda.entries())
      assert.ok(Math.abs(loss / cpu[i]! - 1) < 1e-5, `${loss} on the GPU, ${cpu[i]} on the CPU`);
  });
});

test('a run that does not fit the GPU is refused before it starts, with its plan', async () => {
  await inFolder(async (folder) => {
    const recipe = await recipeIn(folder);
    const { status, stderr } = onGpu(['train', recipe, '--output', join(folder, 'run'), '--batch.rows', '64'], {
      TACOTUNE_EMULATOR_MEMORY_MIB: '1',
    });
    assert.is(status, 1);
    assert.match(stderr, /a run that fits in/);
    assert.match(stderr, /weights .* GiB/);
  });
});

test('a kernel that fails later than its launch is told by its op and sizes, and the run ends with an error', async () => {
  await inFolder(async (folder) => {
    const recipe = await recipeIn(folder);
    const { status, stderr } = onGpu(['train', recipe, '--output', join(folder, 'run')], {
      TACOTUNE_EMULATOR_FAILS: 'swiglu_backward_kernel',
    });
    assert.is(status, 1, stderr);
    assert.match(stderr, /CUDA_ERROR_ILLEGAL_ADDRESS.*it happened in swiglu_backward \(1536\)/s);
  });
});

test('plans for a card that is not here, and 33B with rank 64 fits 22 GiB', () => {
  const args = [
    'plan',
    'guanaco-33b',
    '--gpu',
    '4090',
    '--json',
    '--set',
    'batch.context=512',
    '--set',
    'adapter.rank=64',
  ];
  const { status, stdout, stderr } = tacotune([
    ...args,
    '--set',
    'adapter.targets=[q,k,v,o,gate,up,down]',
    '--memoryGiB',
    '22',
  ]);
  assert.is(status, 0, stderr);
  const plan = JSON.parse(stdout) as {
    fits: boolean;
    peakBytes: number;
    card: { ops: { seconds: number; peakSeconds: number }[] };
  };
  assert.ok(plan.fits, `${plan.peakBytes} bytes`);
  assert.ok(plan.peakBytes <= 22 * 2 ** 30);
  for (const { seconds, peakSeconds } of plan.card.ops) assert.ok(seconds >= peakSeconds && peakSeconds >= 0);
});

test('what a run holds on the GPU is what was planned', () => {
  for (const args of [
    ['f32', 'lora'],
    ['bf16', 'lora'],
    ['bf16', 'full'],
  ]) {
    const { status, stdout, stderr } = onEmulatedGpu('test/cuda/run-memory.js', args);
    assert.is(status, 0, stderr);
    const held = JSON.parse(stdout) as Record<'plannedBytes' | 'plannedScratch' | 'heldBytes' | 'heldScratch', number>;
    console.log(
      `    ${args.join(', ')}: planned ${held.plannedBytes}, held ${held.heldBytes} bytes; scratch ${held.plannedScratch}, ${held.heldScratch}`,
    );
    assert.is(held.plannedScratch, held.heldScratch, args.join());
    assert.ok(Math.abs(held.heldBytes / held.plannedBytes - 1) < 0.05, args.join());
  }
});
