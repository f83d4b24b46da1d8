// SPDX-License-Identifier: Apache-2.0
// TensorFlow.js as an oracle that shares no line with the kernels: the cases of every op on its pure JavaScript backend beside the
// scalar reference. Shapes above a bound on work are left to faster devices, and bf16 products to those that have them.
// Run: npm test -- tfjs/agreement
import * as assert from 'uvu/assert';
import { native } from '../../kernels/index.js';
import { opTables } from '../ops/cases.js';
import { difference, execute, under } from '../ops/execute.js';
import { describeShape, makeArguments, type OpName, type Tolerance } from '../ops/op-table.js';
import { Random } from '../ops/random.js';
import { suite } from '../support/harness.js';
import { executeOn, isDeviceOp } from './calls.js';
import { tensorFlow, tfjsDevice } from './device.js';

const test = suite('tfjs: agreement');

/** The product of a case's sizes: some 3 ms each on this backend, which multiplies and adds 0.3 billion times a second. */
const MOST_WORK = 2 ** 20;
const SIZES = /^([A-Z][a-z]*|n)$/;

const workOf = (shape: Record<string, number>) =>
  Object.entries(shape).reduce((work, [name, size]) => (SIZES.test(name) ? work * Math.max(1, size) : work), 1);

/** Ops of the addon that no device op stands for. Quantisation is compared below. */
const NO_DEVICE_OP: OpName[] = ['nf4Quantize', 'nf4DoubleQuantize', 'fromF32'];

/** A device finds M in a matrix (M,N) or (M,K), which N = 0 or K = 0 does not tell. */
const isCompared = (shape: Record<string, number>): boolean =>
  workOf(shape) <= MOST_WORK && shape['compute'] !== 1 && shape['N'] !== 0 && shape['K'] !== 0;

/** A hundred thousand numbers that cancel. */
const ROWS_OF_F32: Tolerance = { error: 5e-5, floor: 1, reason: 'the sums of rows of 1024 are rounded to f32' };

/** Where backends that sum in f32 differ from the one in JavaScript, which sums in double. */
const SUMMED_IN_F32: Partial<Record<OpName, Tolerance>> = {
  rmsnormForward: { error: 2e-6, floor: 0, reason: 'squares summed in f32' },
  sumOfSquares: { error: 1e-6, floor: 0, reason: 'summed in f32' },
  swigluForward: { error: 6e-7, floor: 1e-29, reason: 'numbers near the smallest are flushed to 0' },
};

for (const [name, definition] of Object.entries(opTables)) {
  const op = name as OpName;
  if (NO_DEVICE_OP.includes(op)) continue;
  const shapes = definition.shapes.filter(isCompared);
  test(`${op}, ${shapes.length} of ${definition.shapes.length} cases`, async () => {
    assert.ok(isDeviceOp(op) && shapes.length > 2, `${op} is not compared`);
    const device = await tfjsDevice();
    const { backend } = await tensorFlow();
    const tolerance = op === 'sum' ? ROWS_OF_F32 : (backend !== 'cpu' && SUMMED_IN_F32[op]) || definition.tolerance;
    const faults: string[] = [];
    for (const shape of shapes) {
      if (backend === 'wasm' && shape['M'] === 0) continue; // it returns whatever lies in memory as the sum of nothing
      for (const alias of [undefined, ...(definition.aliases ?? [])]) {
        const args = makeArguments(op, definition, shape);
        const want = under('reference', 1, () => execute(op, args));
        const got = await executeOn(device, op, args, alias);
        for (const [output, values] of Object.entries(want)) {
          const problem = difference(values, got[output]!, tolerance);
          if (problem)
            faults.push(`${op}, ${describeShape(shape)}${alias ? ` (${alias})` : ''}: ${output}: ${problem}`);
        }
      }
    }
    assert.equal(faults, []);
  });
}

test('quantising gives the bytes of the reference', async () => {
  const device = await tfjsDevice();
  const definition = opTables.nf4Quantize;
  for (const { n } of definition.shapes as { n: number }[]) {
    const { inp } = makeArguments('nf4Quantize', definition, { n });
    const data = (inp as { values: Float32Array }).values;
    const blocks = Math.ceil(n / 64);
    const want = { codes: new Uint8Array(Math.ceil(n / 2)), absmaxCodes: new Uint8Array(blocks) };
    const [absmax, nested, offset] = [blocks, Math.ceil(blocks / 256), 1].map((size) => new Float32Array(size)) as [
      Float32Array,
      Float32Array,
      Float32Array,
    ];
    under('reference', 1, () => {
      native().nf4Quantize(want.codes, absmax, data, n);
      native().nf4DoubleQuantize(want.absmaxCodes, nested, offset, absmax, blocks);
    });
    const got = device.quantizeWeight({ dtype: 'f32', shape: [1, n], data });
    assert.equal(await device.download(got.codes), want.codes, `codes, n=${n}`);
    assert.equal(await device.download(got.absmaxCodes), want.absmaxCodes, `absmax codes, n=${n}`);
    assert.equal(await device.download(got.absmax), nested, `nested absmax, n=${n}`);
    assert.is(got.absmaxOffset, offset[0], `offset, n=${n}`);
  }
});

test('dropout keeps the same elements for any seed', async () => {
  const device = await tfjsDevice();
  const random = new Random(3);
  const n = 1021;
  const ones = new Float32Array(n).fill(1);
  const inp = device.allocate('activations', [n]);
  const out = device.allocate('activations', [n]);
  device.upload(inp, ones);
  for (let i = 0; i < 200; i++) {
    const seed = random.integer(0, 2 ** 32) * 2 ** 21 + random.integer(0, 2 ** 21);
    const p = random.next();
    const want = new Float32Array(n);
    under('reference', 1, (kernels) => kernels.dropoutForward(want, ones, n, p, seed));
    device.dropoutForward(out, inp, p, seed);
    const got = await device.download(out);
    assert.equal(
      Array.from(got, (x) => x !== 0),
      Array.from(want, (x) => x !== 0),
      `p ${p}, seed ${seed}`,
    );
  }
});
