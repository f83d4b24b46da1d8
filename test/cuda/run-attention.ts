// SPDX-License-Identifier: Apache-2.0
// Child of attention.test.ts: attention on the GPU that the driver drives, in both compute types, where inputs are extreme or
// wrong. Prints one JSON line for each compute type.
import { createHash } from 'node:crypto';
import { type NativeGpu, native, openGpu } from '../../kernels/index.js';
import { under } from '../ops/execute.js';
import { Random } from '../ops/random.js';

export interface Findings {
  compute: number;
  /** Elements of `out` where exactly one of GPU and reference has a NaN, of a call with a NaN in a key. */
  strayNans: number;
  nans: number;
  /** Scores in the thousands: the largest errors. */
  outError: number;
  lseError: number;
  /** What a start before 0 and one behind its row's position are told as. */
  told: string[];
  /** Whether they then act as the nearest that is allowed. */
  clamped: boolean;
  /** Of all outputs, forward and backward. */
  bits: string;
}

const [B, T, Hq, Hkv, D] = [2, 100, 4, 2, 40];
const [queries, keys, rows] = [B * T * Hq * D, B * T * Hkv * D, B * Hq * T];

interface Inputs {
  q: Float32Array;
  k: Float32Array;
  v: Float32Array;
  dout: Float32Array;
  starts: Int32Array;
}

/** Values that bf16 holds, so that rounding them changes no score. */
function coarse(values: Float32Array): Float32Array {
  const bits = new Uint32Array(values.buffer);
  for (let i = 0; i < bits.length; i++) bits[i] = bits[i]! & 0xffff0000;
  return values;
}

function makeInputs(deviation: number): Inputs {
  const random = new Random(11);
  return {
    q: coarse(random.normal(queries, deviation)),
    k: coarse(random.normal(keys, deviation)),
    v: coarse(random.normal(keys)),
    dout: random.normal(queries),
    starts: Int32Array.from({ length: B * T }, (_, i) => (i % T < 30 ? 0 : 30)), // two examples in a row
  };
}

class Caller {
  readonly #hash = createHash('sha256');

  constructor(
    readonly gpu: NativeGpu,
    readonly compute: number,
  ) {}

  /** Outputs by name; `told` has what the first download says of the call. */
  async run({ q, k, v, dout, starts }: Inputs): Promise<{ outputs: Record<string, Float32Array>; told: string }> {
    const { gpu, compute } = this;
    const place = (values: Float32Array | Int32Array) => {
      const address = gpu.allocate(values.byteLength, false);
      gpu.upload(address, values);
      return { address, count: values.length, elementBytes: 4 };
    };
    const blank = (count: number) => place(new Float32Array(count).fill(Number.NaN));
    const [inQ, inK, inV, inDout, inStarts] = [place(q), place(k), place(v), place(dout), place(starts)];
    const [out, lse, dq, dk, dv] = [blank(queries), blank(rows), blank(queries), blank(keys), blank(keys)];
    gpu.attentionForward(out, lse, inQ, inK, inV, inStarts, B, T, T, Hq, Hkv, D, compute);
    gpu.attentionBackward(dq, dk, dv, inDout, inQ, inK, inV, out, lse, inStarts, B, T, Hq, Hkv, D, compute);
    const told = await gpu.download(out.address, 4).then(
      () => '',
      (error: Error) => error.message,
    );
    const outputs: Record<string, Float32Array> = {};
    for (const [name, { address, count }] of Object.entries({ out, lse, dq, dk, dv })) {
      outputs[name] = new Float32Array(await gpu.download(address, 4 * count));
      this.#hash.update(outputs[name]!);
    }
    for (const { address } of [inQ, inK, inV, inDout, inStarts, out, lse, dq, dk, dv]) gpu.release(address);
    return { outputs, told };
  }

  bits(): string {
    return this.#hash.digest('hex');
  }
}

function reference({ q, k, v, starts }: Inputs): { out: Float32Array; lse: Float32Array } {
  const [out, lse] = [new Float32Array(queries), new Float32Array(rows)];
  const { attentionForward } = native();
  under('reference', 1, () => attentionForward(out, lse, q, k, v, starts, B, T, T, Hq, Hkv, D, 0));
  return { out, lse };
}

async function examine(gpu: NativeGpu, compute: number): Promise<Findings> {
  const caller = new Caller(gpu, compute);

  const rotten = makeInputs(1);
  rotten.k.fill(Number.NaN, 50 * Hkv * D, 50 * Hkv * D + D); // key 50 of the first key-value head
  const spoiled = (await caller.run(rotten)).outputs['out']!;
  const expected = reference(rotten).out;
  const strayNans = spoiled.filter((x, i) => Number.isNaN(x) !== Number.isNaN(expected[i])).length;

  const large = makeInputs(60);
  const [got, want] = [(await caller.run(large)).outputs, reference(large)];
  const worst = (values: Float32Array, right: Float32Array) =>
    values.reduce((most, x, i) => Math.max(most, Math.abs(x - right[i]!)), 0);

  const wrong = makeInputs(1);
  const right = makeInputs(1);
  const told: string[] = [];
  let clamped = true;
  for (const [start, nearest] of [
    [-7, 0],
    [T + 1000, 40],
  ] as const) {
    wrong.starts[T + 40] = start;
    right.starts[T + 40] = nearest;
    const [a, b] = [await caller.run(wrong), await caller.run(right)];
    told.push(a.told);
    for (const [name, values] of Object.entries(b.outputs)) {
      clamped &&= values.every((x, i) => x === a.outputs[name]![i]);
    }
  }

  return {
    compute,
    strayNans,
    nans: expected.filter(Number.isNaN).length,
    outError: worst(got['out']!, want.out),
    lseError: worst(got['lse']!, want.lse),
    told,
    clamped,
    bits: caller.bits(),
  };
}

const gpu = openGpu();
for (const compute of [0, 1]) console.log(JSON.stringify(await examine(gpu, compute)));
