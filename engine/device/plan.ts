// SPDX-License-Identifier: Apache-2.0
// The plan device: computes nothing and holds nothing, but counts the bytes that live, by kind, and the work of every op.
// A plan is the real model and the real training step run on it, so it cannot describe another run than the one that follows.
import { type Cost, costOf, MATRIX_OPS, OP_NAMES } from './costs.js';
import {
  type Compute,
  type Dense,
  type Device,
  type DType,
  ELEMENT_BYTES,
  elementsOf,
  type F32,
  type MemoryKind,
  NESTED_BLOCK,
  NF4_BLOCK,
  type Nf4,
  type Nf4Values,
  type OpName,
  type Ops,
  type Tensor,
  type WeightValues,
} from './device.js';
import { BufferPool } from './pool.js';

export interface OpTotal extends Cost {
  calls: number;
}

interface CountedBuffer {
  readonly byteLength: number;
  kind: MemoryKind;
}

interface PlanTensor<D extends DType = DType> extends Tensor<D> {
  readonly storage: CountedBuffer;
}

/** What ops hold for themselves while they run, in bytes; the native kernels' formula is injected, since it is theirs. */
export type ScratchRule = <Op extends OpName>(op: Op, args: Parameters<Ops[Op]>, compute: Compute) => number;

class PlanMemory {
  readonly live = new Map<MemoryKind, number>();
  /** Bytes by kind at the moment of the largest total, memory held for reuse counted with the kind that used it last. */
  peakByKind = new Map<MemoryKind, number>();
  peak = 0;
  scratch = 0;

  readonly #pool = new BufferPool<CountedBuffer>(
    (byteLength) => ({ byteLength, kind: 'activations' }),
    (buffer) => this.#add(buffer.kind, -buffer.byteLength),
  );
  readonly #known = new WeakSet<CountedBuffer>();

  take(kind: MemoryKind, bytes: number): CountedBuffer {
    const buffer = this.#pool.take(bytes);
    if (this.#known.has(buffer)) this.#add(buffer.kind, -bytes); // it was still counted under its last user
    this.#known.add(buffer);
    buffer.kind = kind;
    this.#add(kind, bytes);
    return buffer;
  }

  give(buffer: CountedBuffer): void {
    this.#pool.give(buffer);
  }

  trim(): void {
    this.#pool.trim();
  }

  /** Scratch memory grows to the largest need and stays. */
  needScratch(bytes: number): void {
    if (bytes <= this.scratch) return;
    this.#add('scratch', bytes - this.scratch);
    this.scratch = bytes;
  }

  #add(kind: MemoryKind, bytes: number): void {
    this.live.set(kind, (this.live.get(kind) ?? 0) + bytes);
    const total = [...this.live.values()].reduce((sum, part) => sum + part, 0);
    if (total > this.peak) {
      this.peak = total;
      this.peakByKind = new Map(this.live);
    }
  }
}

/** The counters of a plan device. */
export interface PlanCounters {
  readonly memory: {
    readonly live: ReadonlyMap<MemoryKind, number>;
    readonly peakByKind: ReadonlyMap<MemoryKind, number>;
    readonly peak: number;
  };
  readonly ops: ReadonlyMap<OpName, OpTotal>;
  /** Forgets the work counted so far (not the memory). */
  resetWork(): void;
}

export type PlanDevice = Device & PlanCounters;

export function planDevice(compute: Compute, scratchOf: ScratchRule = () => 0): PlanDevice {
  const memory = new PlanMemory();
  const totals = new Map<OpName, OpTotal>();

  const count = <Op extends OpName>(op: Op, args: Parameters<Ops[Op]>): void => {
    const { flops, bytes } = costOf(op, args);
    const total = totals.get(op) ?? { calls: 0, flops: 0, bytes: 0 };
    total.calls++;
    total.flops += flops;
    total.bytes += bytes;
    totals.set(op, total);
    memory.needScratch(scratchOf(op, args, compute));
  };
  const ops = Object.fromEntries(
    OP_NAMES.map((op) => [op, (...args: Parameters<Ops[OpName]>) => count(op, args)]),
  ) as unknown as Ops;

  const allocate = <D extends DType = 'f32'>(kind: MemoryKind, shape: readonly number[], dtype?: D): Tensor<D> => {
    const type = dtype ?? ('f32' as D);
    const size = elementsOf(shape);
    const tensor: PlanTensor<D> = {
      dtype: type,
      shape,
      size,
      kind,
      storage: memory.take(kind, size * ELEMENT_BYTES[type]),
    };
    return tensor;
  };
  const free = (tensor: Tensor): void => memory.give((tensor as PlanTensor).storage);
  const nf4 = ([N, K]: readonly [number, number], doubleQuantized: boolean): Nf4 => {
    const blocks = Math.ceil((N * K) / NF4_BLOCK);
    const codes = allocate('weights', [Math.ceil((N * K) / 2)], 'u8');
    const absmaxCodes = allocate('weights', [doubleQuantized ? blocks : 0], 'u8');
    const absmax = allocate('weights', [doubleQuantized ? Math.ceil(blocks / NESTED_BLOCK) : blocks]);
    return { dtype: 'nf4', shape: [N, K], codes, absmaxCodes, absmax, absmaxOffset: 0 };
  };

  return {
    ...ops,
    name: 'plan',
    compute,
    memory,
    ops: totals,
    resetWork: () => totals.clear(),
    allocate,
    free,
    view: (tensor, _offset, shape) => ({ ...tensor, shape, size: elementsOf(shape) }),
    trim: () => memory.trim(),
    scope: () => {},
    upload: () => {},
    download: (async (tensor: F32) => new Float32Array(tensor.size)) as Device['download'],
    adoptWeight: ({ dtype, shape }: WeightValues): Dense => allocate('weights', shape, dtype),
    uploadWeight: () => {},
    quantizeWeight: ({ shape }: WeightValues): Nf4 => nf4(shape as [number, number], true),
    adoptNf4: ({ shape, doubleQuantized }: Nf4Values): Nf4 => nf4(shape, doubleQuantized),
  };
}

/** The floating-point operations of all ops, and of matrix ops alone. */
export function totalFlops(ops: ReadonlyMap<OpName, OpTotal>): { all: number; matrix: number } {
  let all = 0;
  let matrix = 0;
  for (const [op, { flops }] of ops) {
    all += flops;
    if (MATRIX_OPS.has(op)) matrix += flops;
  }
  return { all, matrix };
}
