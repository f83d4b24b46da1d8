// SPDX-License-Identifier: Apache-2.0
// Wrong calls on the GPU throw and name what is wrong; indices that only kernels can see are reported by the next download,
// with op and place, and the GPU goes on afterwards. No address is trusted.
import * as assert from 'uvu/assert';
import { onEmulatedGpu } from '../support/emulator.js';
import { suite } from '../support/harness.js';

const test = suite('cuda: faults');

const EXPECTED: Record<string, RegExp> = {
  id: /^Error: embedding_forward: the index at position 1 is 7, which is out of range/,
  position: /^Error: rope_forward: the index at position 1 is -3/,
  label: /^Error: cross_entropy_forward: the index at position 1 is 5/,
  start: /^Error: attention_forward: the index at position 1 is 2/,
  afterwards: /^nothing$/,
  freed: /^RangeError: add: expected memory that has not been freed for inp/,
  foreign: /^RangeError: add: expected memory that has not been freed for inp/,
  tooLong: /^RangeError: add: expected memory that has not been freed for out/,
  count: /^RangeError: add: expected 8 elements \(n\) for inp, got 7/,
  notMemory: /^RangeError: add: expected memory of the GPU for inp, got a string/,
  wrongElements: /^RangeError: add: expected elements of 4 bytes for inp/,
  releasedTwice: /^RangeError: no memory of this GPU begins at that address/,
  uploadTooLong: /^RangeError: expected memory of the GPU that has not been freed/,
  downloadTooLong: /^RangeError: expected memory of the GPU that has not been freed/,
};

test('bad indices and wrong calls', () => {
  const { status, stdout, stderr } = onEmulatedGpu('test/cuda/run-faults.js');
  assert.is(status, 0, stderr);
  const results = JSON.parse(stdout) as Record<string, string>;
  assert.equal(Object.keys(results), Object.keys(EXPECTED));
  for (const [name, pattern] of Object.entries(EXPECTED)) assert.match(results[name]!, pattern, name);
});
