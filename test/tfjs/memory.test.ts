// SPDX-License-Identifier: Apache-2.0
// Handles over tensors that cannot change: views that are written and read in any order beside plain arrays, no sharing with
// JavaScript arrays, and nothing left when memory is freed.
// Run: npm test -- tfjs/memory
import * as assert from 'uvu/assert';
import { TfjsDevice } from '../../engine/device/tfjs/device.js';
import type { F32 } from '../../engine/index.js';
import { UserError } from '../../errors.js';
import { difference } from '../ops/execute.js';
import { Random } from '../ops/random.js';
import { suite } from '../support/harness.js';
import { tensorFlow, tfjsDevice } from './device.js';

const test = suite('tfjs: memory');
const EXACT = { error: 0, floor: 0, reason: 'values only move' };

test('writes and reads of random views are those of an array', async () => {
  const { tf } = await tensorFlow();
  const device = await tfjsDevice();
  const before = tf.memory().numTensors;
  const random = new Random(5);
  const n = 64;
  const tensor = device.allocate('activations', [n]);
  const want = new Float32Array(n).fill(Number.NaN); // what was never written
  const views = Array.from({ length: 12 }, (): [number, F32] => {
    const offset = random.integer(0, n);
    return [offset, device.view(tensor, offset, [random.integer(0, n - offset + 1)])];
  });
  for (let turn = 0; turn < 400; turn++) {
    const [offset, view] = views[random.integer(0, views.length)]!;
    if (random.next() < 0.5) {
      const values = random.normal(view.size);
      device.upload(view, values);
      want.set(values, offset);
      values.fill(7); // the tensor must not have kept the array
    } else {
      const inner = random.integer(0, view.size + 1);
      const part = device.view(view, inner, [1, view.size - inner]);
      assert.is(
        difference(want.slice(offset + inner, offset + view.size), await device.download(part), EXACT),
        undefined,
        `turn ${turn}`,
      );
    }
  }
  const got = await device.download(tensor);
  assert.is(difference(want, got, EXACT), undefined);
  got.fill(9); // nor may it share what it gave
  assert.is(difference(want, await device.download(tensor), EXACT), undefined);
  device.free(tensor);
  assert.is(tf.memory().numTensors, before);
});

test('views of integers and bytes share their memory', async () => {
  const device = await tfjsDevice();
  const ints = device.allocate('activations', [6], 'i32');
  device.upload(ints, Int32Array.of(1, 2, 3, 4, 5, 6));
  device.upload(device.view(ints, 2, [2]), Int32Array.of(-7, -8));
  assert.equal(await device.download(ints), Int32Array.of(1, 2, -7, -8, 5, 6));
});

test('compute other than f32 is refused', async () => {
  const loaded = await tensorFlow();
  assert.throws(
    () => new TfjsDevice(loaded, { compute: 'bf16' }),
    (error: unknown) => error instanceof UserError && error.message.includes('set it to f32'),
  );
});
