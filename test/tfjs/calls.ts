// SPDX-License-Identifier: Apache-2.0
// The cases of test/ops as calls of a device: how each op's arguments become tensors, and which of them come back. The names
// and the order are those of kernels/ops.h; shapes are spelled in its letters.
import type { Device, F32, I32, LinearOptions, Nf4, Tensor, U8, Weight, WeightValues } from '../../engine/index.js';
import type { Arguments, OpName, Values } from '../ops/op-table.js';

const STORED = ['f32', 'bf16', 'f16'] as const;

/** A case's arguments on a device. */
class Placed {
  readonly tensors = new Map<string, Tensor>();

  constructor(
    readonly device: Device,
    readonly args: Arguments,
    private readonly alias: [string, string] | undefined,
  ) {}

  number(name: string): number {
    return this.args[name] as number;
  }

  values(name: string): Values {
    const argument = this.args[name];
    if (argument === undefined || typeof argument === 'number') throw new Error(`no tensor is called ${name}`);
    return argument.values;
  }

  /** The tensor of an argument; `shape` in letters: 'M C', or '' for one element. */
  tensor(name: string, shape: string): Tensor {
    if (name === this.alias?.[0]) return this.tensor(this.alias[1], shape);
    const known = this.tensors.get(name);
    if (known) return known;
    const values = this.values(name);
    const dtype = values instanceof Float32Array ? 'f32' : values instanceof Int32Array ? 'i32' : 'u8';
    const tensor = this.device.allocate('activations', this.#sizes(shape, values.length), dtype);
    this.device.upload(tensor, values);
    this.tensors.set(name, tensor);
    return tensor;
  }

  f32(name: string, shape: string): F32 {
    return this.tensor(name, shape) as F32;
  }

  i32(name: string, shape: string): I32 {
    return this.tensor(name, shape) as I32;
  }

  u8(name: string, shape: string): U8 {
    return this.tensor(name, shape) as U8;
  }

  /** A gradient of a weight that may be frozen. */
  optional(name: string, shape: string): F32 | undefined {
    return this.values(name).length ? this.f32(name, shape) : undefined;
  }

  dense(shape: string): Weight & { dtype: 'f32' } {
    const data = this.values('weight') as WeightValues['data'];
    const dtype = STORED[this.number('weight_type')]!;
    return this.device.adoptWeight({ dtype, shape: this.#sizes(shape, data.length), data }) as never;
  }

  nf4(): Nf4 {
    const absmaxCodes = this.values('absmax_codes') as Uint8Array;
    return this.device.adoptNf4({
      shape: [this.number('N'), this.number('K')],
      doubleQuantized: absmaxCodes.length > 0,
      codes: this.values('codes') as Uint8Array,
      absmaxCodes,
      absmax: this.values('absmax') as Float32Array,
      absmaxOffset: this.number('absmax_offset'),
    });
  }

  settings() {
    const n = (name: string) => this.number(name);
    return {
      learningRate: n('learning_rate'),
      beta1: n('beta1'),
      beta2: n('beta2'),
      eps: n('eps'),
      weightDecay: n('weight_decay'),
      step: n('step'),
      gradScale: n('grad_scale'),
    };
  }

  #sizes(shape: string, length: number): number[] {
    return shape === 'n' ? [length] : shape.split(' ').map((letter) => Number(this.args[letter] ?? letter));
  }
}

type Call = (device: Device, placed: Placed) => void;

/** How each op of the device is called. */
const CALLS: Partial<Record<OpName, Call>> = {
  embeddingForward: (d, p) => d.embeddingForward(p.f32('out', 'M C'), p.i32('ids', 'M'), p.dense('V C')),
  embeddingBackward: (d, p) => d.embeddingBackward(p.f32('dweight', 'V C'), p.f32('dout', 'M C'), p.i32('ids', 'M')),
  rmsnormForward: (d, p) =>
    d.rmsnormForward(
      p.f32('out', 'M C'),
      p.f32('rstd', 'M'),
      p.f32('inp', 'M C'),
      p.f32('weight', 'C'),
      p.number('eps'),
    ),
  rmsnormBackward: (d, p) =>
    d.rmsnormBackward(
      p.f32('dinp', 'M C'),
      p.optional('dweight', 'C'),
      p.f32('dout', 'M C'),
      p.f32('inp', 'M C'),
      p.f32('rstd', 'M'),
      p.f32('weight', 'C'),
      p.number('accumulate') === 1,
    ),
  ropeForward: (d, p) => d.ropeForward(p.f32('x', 'M H D'), ropeTable(p), p.i32('positions', 'M')),
  ropeBackward: (d, p) => d.ropeBackward(p.f32('x', 'M H D'), ropeTable(p), p.i32('positions', 'M')),
  attentionForward: (d, p) =>
    d.attentionForward(
      p.f32('out', 'B Tq Hq D'),
      p.f32('lse', 'B Hq Tq'),
      p.f32('q', 'B Tq Hq D'),
      p.f32('k', 'B Tk Hkv D'),
      p.f32('v', 'B Tk Hkv D'),
      p.i32('starts', 'B Tq'),
    ),
  attentionBackward: (d, p) =>
    d.attentionBackward(
      p.f32('dq', 'B T Hq D'),
      p.f32('dk', 'B T Hkv D'),
      p.f32('dv', 'B T Hkv D'),
      p.f32('dout', 'B T Hq D'),
      p.f32('q', 'B T Hq D'),
      p.f32('k', 'B T Hkv D'),
      p.f32('v', 'B T Hkv D'),
      p.f32('out', 'B T Hq D'),
      p.f32('lse', 'B Hq T'),
      p.i32('starts', 'B T'),
    ),
  swigluForward: (d, p) => d.swigluForward(p.f32('out', 'n'), p.f32('gate', 'n'), p.f32('up', 'n')),
  swigluBackward: (d, p) =>
    d.swigluBackward(p.f32('dgate', 'n'), p.f32('dup', 'n'), p.f32('dout', 'n'), p.f32('gate', 'n'), p.f32('up', 'n')),
  linearForward: (d, p) =>
    d.linearForward(p.f32('out', 'M N'), p.f32('inp', 'M K'), p.dense('N K'), linearOptions(p, 'N R')),
  linearBackward: (d, p) =>
    d.linearBackward(p.f32('dinp', 'M K'), p.f32('dout', 'M N'), p.dense('N K'), linearOptions(p, 'R K')),
  linearWeightBackward: (d, p) =>
    d.linearWeightBackward(p.f32('dweight', 'N K'), p.f32('dout', 'M N'), p.f32('inp', 'M K'), p.number('alpha')),
  linearNf4Forward: (d, p) =>
    d.linearForward(p.f32('out', 'M N'), p.f32('inp', 'M K'), p.nf4(), linearOptions(p, 'N R')),
  linearNf4Backward: (d, p) =>
    d.linearBackward(p.f32('dinp', 'M K'), p.f32('dout', 'M N'), p.nf4(), linearOptions(p, 'R K')),
  dropoutForward: (d, p) => d.dropoutForward(p.f32('out', 'n'), p.f32('inp', 'n'), p.number('p'), p.number('seed')),
  dropoutBackward: (d, p) =>
    d.dropoutBackward(
      p.f32('dinp', 'n'),
      p.f32('dout', 'n'),
      p.number('p'),
      p.number('seed'),
      p.number('accumulate') === 1,
    ),
  crossEntropyForward: (d, p) =>
    d.crossEntropyForward(p.f32('loss', 'M'), p.f32('inp', 'M C'), p.dense('V C'), p.i32('labels', 'M'), 0),
  crossEntropyForwardBackward: (d, p) =>
    d.crossEntropyForwardBackward(
      p.f32('loss', 'M'),
      p.f32('dinp', 'M C'),
      p.optional('dweight', 'V C'),
      p.f32('inp', 'M C'),
      p.dense('V C'),
      p.i32('labels', 'M'),
      p.number('scale'),
      0,
    ),
  add: (d, p) => d.add(p.f32('out', 'n'), p.f32('inp', 'n')),
  copy: (d, p) => d.copy(p.f32('out', 'n'), p.f32('inp', 'n')),
  fill: (d, p) => d.fill(p.f32('out', 'n'), p.number('value')),
  sum: (d, p) => d.sum(p.f32('out', 'n'), p.f32('inp', 'n')),
  sumOfSquares: (d, p) => d.sumOfSquares(p.f32('out', 'n'), p.f32('inp', 'n')),
  adamw: (d, p) => d.adamw(p.f32('param', 'n'), p.f32('grad', 'n'), p.f32('m', 'n'), p.f32('v', 'n'), p.settings()),
  adamw8bit: (d, p) =>
    d.adamw8bit(
      p.f32('param', 'n'),
      p.f32('grad', 'n'),
      p.u8('m', 'n'),
      p.u8('v', 'n'),
      p.f32('m_absmax', 'n'),
      p.f32('v_absmax', 'n'),
      p.settings(),
    ),
  // Formats have no op of their own on a device: a product with 1 shows the dense values, an upload the decoded ones.
  nf4Dequantize: (d, p) => {
    const one = d.allocate('activations', [1, 1]);
    d.fill(one, 1);
    const row = new Placed(d, { ...p.args, N: 1, K: p.number('n') }, undefined);
    d.linearBackward(p.f32('out', 'n'), one, row.nf4());
  },
  toF32: (d, p) => {
    const data = p.values('inp') as WeightValues['data'];
    d.uploadWeight(p.f32('out', 'n'), { dtype: STORED[p.number('type')]!, shape: [data.length], data });
  },
};

const ropeTable = (p: Placed) => p.device.view(p.f32('table', 'n'), 0, [p.number('P'), 2, p.number('D') / 2]);

const linearOptions = (p: Placed, factor: string): LinearOptions => ({
  ...('alpha' in p.args && { alpha: p.number('alpha') }),
  accumulate: p.number('accumulate') === 1,
  ...(p.number('R') > 0 && {
    lowRank: { low: p.f32('low', 'M R'), factor: p.f32('factor', factor), alpha: p.number('low_alpha') },
  }),
});

export const isDeviceOp = (op: OpName): boolean => op in CALLS;

/** Calls an op of a device on a case's arguments; returns its outputs by name. `alias` lets the first lie on the second. */
export async function executeOn(
  device: Device,
  op: OpName,
  args: Arguments,
  alias?: [string, string],
): Promise<Record<string, Values>> {
  const placed = new Placed(device, args, alias);
  CALLS[op]!(device, placed);
  const outputs: Record<string, Values> = {};
  for (const [name, argument] of Object.entries(args)) {
    if (typeof argument === 'number' || argument.role === 'in') continue;
    outputs[name] = await device.download(placed.tensor(name, 'n'));
  }
  return outputs;
}
