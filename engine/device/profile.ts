// SPDX-License-Identifier: Apache-2.0
// The profile device: wraps another device and times every op call. What it records is plain data; tables and trace files
// are made of it elsewhere. Where ops only enqueue, it waits after each: times are then those of the op alone, and their sum
// is more than a step takes without it.
import { type Cost, costOf, OP_NAMES } from './costs.js';
import type { Device, F32, OpName, Ops } from './device.js';

export interface OpCall extends Cost {
  op: OpName;
  /** Where in the model, as set by `scope`: "layer 3 forward". */
  scope: string;
  /** Milliseconds on the process's clock, `performance.now()`. */
  startMs: number;
  durationMs: number;
}

export type ProfileDevice = Device & {
  readonly calls: OpCall[];
  /** Forgets the calls so far. */
  reset(): void;
};

export function profileDevice(inner: Device): ProfileDevice {
  const calls: OpCall[] = [];
  let scope = '';

  const timed = <Op extends OpName>(op: Op) => {
    const run = inner[op].bind(inner) as (...args: Parameters<Ops[Op]>) => void;
    return (...args: Parameters<Ops[Op]>): void => {
      const start = performance.now();
      run(...args);
      inner.synchronize?.();
      const end = performance.now();
      const { flops, bytes } = costOf(op, args);
      calls.push({ op, scope, flops, bytes, startMs: start, durationMs: end - start });
    };
  };
  const ops = Object.fromEntries(OP_NAMES.map((op) => [op, timed(op)])) as unknown as Ops;

  return {
    ...ops,
    name: inner.name,
    compute: inner.compute,
    calls,
    scope: (name) => {
      scope = name;
    },
    reset: () => {
      calls.length = 0;
    },
    allocate: (kind, shape, dtype) => inner.allocate(kind, shape, dtype),
    free: (tensor) => inner.free(tensor),
    view: (tensor, offset, shape) => inner.view(tensor, offset, shape),
    trim: () => inner.trim(),
    ...(inner.synchronize && { synchronize: () => inner.synchronize?.() }),
    upload: (tensor, values) => inner.upload(tensor, values),
    download: ((tensor: F32) => inner.download(tensor)) as Device['download'],
    adoptWeight: (values) => inner.adoptWeight(values),
    uploadWeight: (tensor, values) => inner.uploadWeight(tensor, values),
    quantizeWeight: (values) => inner.quantizeWeight(values),
    adoptNf4: (values) => inner.adoptNf4(values),
  };
}
