// SPDX-License-Identifier: Apache-2.0
// Wrong calls of every op throw an error that names the op, and leave the outputs as they were: missing and superfluous
// arguments, wrong types and lengths, detached memory, numbers that are no sizes, indices out of range.
// Run: npm test -- ops/wrong-calls
import * as assert from 'uvu/assert';
import { native } from '../../kernels/index.js';
import { suite } from '../support/harness.js';
import { opTables } from './cases.js';
import { makeArguments, type OpName, type OpTable, type Values } from './op-table.js';

/** Numbers that may be any number; all others are sizes, flags, types and counts. */
const REALS = /^(eps|alpha|low_alpha|value|scale|absmax_offset|p|learning_rate|beta1|beta2|weight_decay|grad_scale)$/;
/** Numbers that shapes do not depend on: any whole number from 0 (or 1) is right. */
const FREE = /^(seed|step)$/;
/** Settings of few values. */
const CHOICES = /^(accumulate|compute|weight_type|type)$/;

const nativeName = (op: string) =>
  op.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`).replace('adamw8bit', 'adamw_8bit');

interface Call {
  names: string[];
  list: unknown[];
}

/** The first case whose tensors all have two elements (one, where an op has a scalar), so that every length matters. */
function rightCall(op: OpName, definition: OpTable): Call {
  for (const least of [2, 1]) {
    for (const shape of definition.shapes) {
      const args = makeArguments(op, definition, shape);
      const list = Object.values(args).map((value) => (typeof value === 'number' ? value : value.values));
      if (list.every((value) => typeof value === 'number' || value.length >= least))
        return { names: Object.keys(args), list };
    }
  }
  throw new Error(`no case of ${op} has values everywhere`);
}

function refuses(op: OpName, { list }: Call, change: string, wrong: unknown[]): void {
  const outputsBefore = list.map((value) =>
    ArrayBuffer.isView(value) ? Buffer.from(value.buffer).toString('latin1') : value,
  );
  let error: unknown;
  try {
    (native()[op] as (...list: unknown[]) => void)(...wrong);
  } catch (thrown) {
    error = thrown;
  }
  assert.ok(error instanceof Error, `${op} took ${change}`);
  assert.ok(
    error.message.startsWith(`${nativeName(op)}: `),
    `${op} with ${change}: the message does not name the op: ${error.message}`,
  );
  const outputsAfter = list.map((value) =>
    ArrayBuffer.isView(value) ? Buffer.from(value.buffer).toString('latin1') : value,
  );
  assert.equal(outputsAfter, outputsBefore, `${op} with ${change} wrote something`);
}

function detached(values: Values): Values {
  const copy = values.slice();
  structuredClone(copy.buffer, { transfer: [copy.buffer as ArrayBuffer] });
  return copy;
}

const test = suite('ops: wrong calls');

for (const [name, definition] of Object.entries(opTables)) {
  const op = name as OpName;
  const withArgument = (call: Call, i: number, value: unknown) => call.list.map((old, j) => (j === i ? value : old));

  test(op, () => {
    const call = rightCall(op, definition);
    (native()[op] as (...list: unknown[]) => void)(
      ...call.list.map((value) => (ArrayBuffer.isView(value) ? (value as Values).slice() : value)),
    );
    refuses(op, call, 'no argument', []);
    refuses(op, call, 'one argument too few', call.list.slice(0, -1));
    refuses(op, call, 'one argument too many', [...call.list, 1]);
    call.list.forEach((value, i) => {
      const argument = call.names[i]!;
      const change = (what: string, wrong: unknown) =>
        refuses(op, call, `${what} for ${argument}`, withArgument(call, i, wrong));
      for (const wrong of [undefined, null, 'text', {}, [1, 2], new DataView(new ArrayBuffer(64))])
        change(String(wrong), wrong);
      if (typeof value === 'number') {
        change('an array', new Float32Array(4));
        if (REALS.test(argument)) return;
        for (const wrong of [Number.NaN, -1, 0.5, Number.POSITIVE_INFINITY, 2 ** 53]) change(String(wrong), wrong);
        if (CHOICES.test(argument)) change('7', 7);
        else if (!FREE.test(argument)) {
          change('one more', value + 1);
          change('one less', value - 1);
          change('the largest size', 2 ** 53 - 1);
        }
      } else {
        const values = value as Values;
        change('a number', 1);
        change('one element less', values.subarray(1));
        change('detached memory', detached(values));
        change('BigInt64Array', new BigInt64Array(values.length));
        const isBytes =
          /^(weight|inp|out)$/.test(argument) && call.names.some((other) => /^(weight_)?type$/.test(other));
        if (!isBytes || values instanceof Float32Array) change('Float64Array', new Float64Array(values.length));
      }
    });
  });
}

/** Changes of one element or number that only the meaning forbids. */
const meanings: [OpName, string, (argument: Values | number, call: Call) => unknown][] = [];
const element = (op: OpName, argument: string, wrong: number) =>
  meanings.push([op, argument, (values) => (values as Values).slice().fill(wrong, 1, 2)]);
const number = (op: OpName, argument: string, wrong: number) => meanings.push([op, argument, () => wrong]);
for (const wrong of [-1, 1000, 2 ** 31 - 1, -(2 ** 31)]) {
  element('embeddingForward', 'ids', wrong);
  element('embeddingBackward', 'ids', wrong);
  element('ropeForward', 'positions', wrong);
  element('ropeBackward', 'positions', wrong);
  element('attentionForward', 'starts', wrong);
  element('attentionBackward', 'starts', wrong);
  element('crossEntropyForward', 'labels', wrong);
  element('crossEntropyForwardBackward', 'labels', wrong);
}
for (const op of ['dropoutForward', 'dropoutBackward'] as const)
  for (const p of [1, -0.1, Number.NaN, 2]) number(op, 'p', p);
for (const op of ['adamw', 'adamw8bit'] as const) number(op, 'step', 0);

for (const [op, argument, change] of meanings) {
  const shown = change(new Int32Array(3), { names: [], list: [] });
  test(`${op} with ${argument} ${typeof shown === 'number' ? shown : (shown as Values)[1]}`, () => {
    const call = rightCall(op, opTables[op]);
    const i = call.names.indexOf(argument);
    refuses(
      op,
      call,
      `a wrong ${argument}`,
      call.list.map((old, j) => (j === i ? change(old as Values | number, call) : old)),
    );
  });
}

test('heads that do not divide, odd rotations, fewer keys than queries', () => {
  const f32 = (n: number) => new Float32Array(n);
  const kernels = native();
  assert.throws(
    () => kernels.attentionForward(f32(6), f32(3), f32(6), f32(4), f32(4), new Int32Array(1), 1, 1, 1, 3, 2, 2, 0),
    /Hq/,
  );
  assert.throws(
    () => kernels.attentionForward(f32(4), f32(2), f32(4), f32(2), f32(2), new Int32Array(2), 1, 2, 1, 1, 1, 2, 0),
    /Tk/,
  );
  assert.throws(() => kernels.ropeForward(f32(3), f32(3), new Int32Array(1), 1, 1, 3, 1), /even D/);
  assert.throws(
    () => kernels.linearForward(f32(0), f32(0), f32(0), 0, f32(0), f32(0), 2 ** 40, 2 ** 40, 2 ** 40, 0, 1, 0, 0, 0),
    /2\^63/,
  );
});
