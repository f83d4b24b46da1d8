// SPDX-License-Identifier: Apache-2.0
// How fast this machine is, measured in a fraction of a second through the device that will do the work: the rate of each
// kind of matrix product at a run's own shapes, the best rate of any product, and the bandwidth of a copy. Plans divide by
// the first, profiles by the last two. Each figure is the best of several calls: what slows a call down is other work.
import type { Device, F32, LlamaConfig, OpName, Quantization, Tensor, Weight } from '../engine/index.js';

/** Work per second: what nothing on this machine exceeds by much. */
export interface Ceilings {
  /** FLOPs per second of a large dense product in the device's compute type. */
  flops: number;
  /** Bytes per second of a copy far larger than the caches, reads and writes both counted. */
  bandwidth: number;
}

/** FLOPs per second of the ops that are bounded by arithmetic, at the shapes of a run. */
export type MatrixRates = ReadonlyMap<OpName, number>;

export interface RunShapes {
  config: LlamaConfig;
  quantization: Quantization;
  B: number;
  T: number;
}

/** Time that one figure may take, unless a single call takes longer. */
const BUDGET_MS = 60;
const MIN_CALLS = 3;

/** Far beyond the caches of a socket. */
const COPY_ELEMENTS = 1 << 24;

export function measureCeilings(device: Device): Ceilings {
  const [M, N, K] = [512, 1024, 1024];
  return withTensors(device, (make) => {
    const [out, inp, weight] = [make([M, N]), make([M, K]), make([N, K])];
    const seconds = bestSeconds(() => device.linearForward(out, inp, weight));
    const [to, from] = [make([COPY_ELEMENTS]), make([COPY_ELEMENTS])];
    return {
      flops: (2 * M * N * K) / seconds,
      bandwidth: (8 * COPY_ELEMENTS) / bestSeconds(() => device.copy(to, from)),
    };
  });
}

/** Largest sizes that are measured: more work per call changes the rates little and the waiting much. */
const MAX_ROWS = 512;
const MAX_OUTPUTS = 1024;
const MAX_HEADS = 8;

/** Rates at the sizes of a run; where it is larger, a part of its size stands for the whole. */
export function measureRates(device: Device, { config, quantization, B, T }: RunShapes): MatrixRates {
  const { width: C, queryHeads, keyValueHeads, headWidth: D } = config;
  const M = Math.min(B * T, MAX_ROWS);
  const N = Math.min(C, MAX_OUTPUTS);
  const rates = new Map<OpName, number>();
  const measure = (op: OpName, flops: number, call: () => void) => rates.set(op, flops / bestSeconds(call));

  withTensors(device, (make) => {
    const [out, inp] = [make([M, N]), make([M, C])];
    const weight = frozenWeight(device, N, C, quantization);
    measure('linearForward', 2 * M * N * C, () => device.linearForward(out, inp, weight));
    measure('linearBackward', 2 * M * N * C, () => device.linearBackward(inp, out, weight));
    const dweight = make([N, C]);
    measure('linearWeightBackward', 2 * M * N * C, () => device.linearWeightBackward(dweight, out, inp));
    freeWeight(device, weight);
  });
  withTensors(device, (make) => {
    const groups = queryHeads / keyValueHeads;
    const Hkv = Math.max(1, Math.min(keyValueHeads, Math.floor(MAX_HEADS / groups)));
    const Hq = Hkv * groups;
    const query = () => make([1, T, Hq, D]);
    const key = () => make([1, T, Hkv, D]);
    const [out, dout, q, dq, k, dk, v, dv] = [query(), query(), query(), query(), key(), key(), key(), key()];
    const lse = make([1, Hq, T]);
    const starts = make([1, T], 'i32') as Tensor<'i32'>;
    const work = (Hq * D * T * (T + 1)) / 2;
    measure('attentionForward', 4 * work, () => device.attentionForward(out, lse, q, k, v, starts));
    measure('attentionBackward', 10 * work, () =>
      device.attentionBackward(dq, dk, dv, dout, q, k, v, out, lse, starts),
    );
  });
  withTensors(device, (make) => {
    const V = Math.min(config.vocabularySize, 4 * MAX_OUTPUTS);
    const [loss, dinp, inp, head] = [make([M]), make([M, C]), make([M, C]), make([V, C])];
    const labels = make([M], 'i32') as Tensor<'i32'>;
    const rate = (scale: number) => scale * M * V * C;
    measure('crossEntropyForward', rate(2), () => device.crossEntropyForward(loss, inp, head, labels, M));
    measure('crossEntropyForwardBackward', rate(4), () =>
      device.crossEntropyForwardBackward(loss, dinp, undefined, inp, head, labels, 1, M),
    );
  });
  return rates;
}

type Make = <D extends 'f32' | 'i32' = 'f32'>(shape: number[], dtype?: D) => D extends 'f32' ? F32 : Tensor;

/** Tensors of zeros (so that no call meets slow numbers), given back afterwards. */
function withTensors<Result>(device: Device, body: (make: Make) => Result): Result {
  const tensors: Tensor[] = [];
  const make = ((shape: number[], dtype: 'f32' | 'i32' = 'f32') => {
    const tensor = device.allocate('scratch', shape, dtype);
    if (dtype === 'f32') device.fill(tensor as F32, 0);
    else device.upload(tensor, new Int32Array(tensor.size));
    tensors.push(tensor);
    return tensor;
  }) as Make;
  try {
    return body(make);
  } finally {
    for (const tensor of tensors) device.free(tensor);
    device.trim();
  }
}

function frozenWeight(device: Device, N: number, K: number, quantization: Quantization): Weight {
  const values = { dtype: 'bf16' as const, shape: [N, K], data: new Uint16Array(N * K).fill(0x3c80) };
  return quantization === 'nf4' ? device.quantizeWeight(values) : device.adoptWeight(values);
}

function freeWeight(device: Device, weight: Weight): void {
  if (weight.dtype === 'nf4') for (const part of [weight.codes, weight.absmaxCodes, weight.absmax]) device.free(part);
}

function bestSeconds(call: () => void): number {
  call(); // the first grows scratch memory and warms caches
  let best = Number.POSITIVE_INFINITY;
  const begin = performance.now();
  for (let count = 0; count < MIN_CALLS || performance.now() - begin < BUDGET_MS; count++) {
    const start = performance.now();
    call();
    best = Math.min(best, performance.now() - start);
  }
  return best / 1000;
}
