// SPDX-License-Identifier: Apache-2.0
// Child of device.test.ts: plans a run, does two steps of it on the GPU that the driver drives, and prints what was planned
// and what was held. Arguments: f32 or bf16, lora or full.
import {
  CudaDevice,
  cudaScratch,
  initializeLora,
  LINEAR_NAMES,
  Llama,
  type LlamaConfig,
  planRun,
  randomStart,
  Trainer,
  type TrainingSettings,
} from '../../engine/index.js';

const [compute, type] = process.argv.slice(2) as ['f32' | 'bf16', 'lora' | 'full'];
const config: LlamaConfig = {
  vocabularySize: 520,
  width: 64,
  feedForwardWidth: 160,
  layers: 2,
  queryHeads: 4,
  keyValueHeads: 2,
  headWidth: 16,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  tiedHead: false,
  maxPositions: 128,
};
const settings: TrainingSettings = {
  optimizer: { kind: 'adamw', learningRate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0 },
  schedule: { kind: 'constant', warmupSteps: 0, totalSteps: 10 },
  accumulation: 1,
  maxGradientNorm: 1,
  lossNormalization: 'tokens',
  policy: 'keep-midpoints',
  seed: 0,
  maxSkippedSteps: 0,
  evaluateEvery: 0,
};
const [B, T] = [2, 48];
const adapter = type === 'full' ? type : { rank: 4, alpha: 8, dropout: 0.1, rslora: false, targets: [...LINEAR_NAMES] };
const quantization = type === 'full' ? 'none' : 'nf4';
const device = new CudaDevice({ compute, poison: true });
const free = () => device.gpu.memory().freeBytes;
const before = free();
const plan = await planRun({
  config,
  storedAs: 'f32',
  quantization,
  adapter,
  compute,
  B,
  T,
  settings,
  scratchOf: cudaScratch(),
});
const llama = new Llama(device, config, randomStart(config, 1), { quantization, adapter });
if (adapter !== 'full') initializeLora(llama.parameters!, 1);
const trainer = new Trainer(llama, settings);
const M = B * T;
const ids = Int32Array.from({ length: M }, (_, m) => (m * 31) % config.vocabularySize);
const positions = Int32Array.from({ length: M }, (_, m) => m % T);
const batch = { B, T, ids, labels: ids, positions, segments: new Int32Array(M).fill(1) };
for (let step = 0; step < 2; step++) await trainer.step([batch], { name: 'memory', learningRateFactor: 1 }, step);
console.log(
  JSON.stringify({
    plannedBytes: plan.peakBytes,
    plannedScratch: plan.memory.scratch ?? 0,
    heldBytes: before - free(),
    heldScratch: device.gpu.scratchBytes(),
  }),
);
