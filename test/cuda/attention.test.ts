// SPDX-License-Identifier: Apache-2.0
// What random cases do not reach of attention on CUDA: NaN in a key, scores in the thousands, starts out of range, and that
// its bits are the same whatever order threads run in. Exact and flash kernels alike.
// Run: npm test -- cuda/attention
import * as assert from 'uvu/assert';
import { onEmulatedGpu } from '../support/emulator.js';
import { suite } from '../support/harness.js';
import type { Findings } from './run-attention.js';

const test = suite('cuda: attention', 300_000);

function findings(order: string, copies: string): Findings[] {
  const { status, stdout, stderr } = onEmulatedGpu('test/cuda/run-attention.js', [], {
    TACOTUNE_EMULATOR_ORDER: order,
    TACOTUNE_EMULATOR_COPIES: copies,
  });
  assert.is(status, 0, stderr);
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Findings);
}

test('a NaN in a key spoils the rows that see it, scores in the thousands overflow nothing, a bad start is told', () => {
  for (const { compute, strayNans, nans, outError, lseError, told, clamped } of findings('fifo', 'lazy')) {
    const kind = compute === 1 ? 'bf16' : 'f32';
    assert.ok(nans > 0, 'no row sees the NaN');
    assert.is(strayNans, 0, kind);
    // Scores of ±10000 are f32 numbers 1e-3 apart, and so are the logarithms of the weights. NaN fails too.
    assert.ok(outError <= (compute === 1 ? 5e-3 : 2e-3), `${kind}: out off by ${outError}`);
    assert.ok(lseError <= 4e-3, `${kind}: lse off by ${lseError}`);
    assert.match(told[0]!, /attention_forward: the index at position 140 is -7,/, kind);
    assert.match(told[1]!, /attention_forward: the index at position 140 is 1100,/, kind);
    assert.ok(clamped, `${kind}: a bad start is not taken as the nearest allowed one`);
  }
});

test('the bits do not depend on the order of threads or the time of copies', () => {
  const bits = [
    ['fifo', 'lazy'],
    ['greedy-down', 'eager'],
    ['greedy:3', 'lazy'],
  ].map(([order, copies]) => findings(order!, copies!).map((found) => found.bits));
  assert.equal(bits[1], bits[0]);
  assert.equal(bits[2], bits[0]);
});
