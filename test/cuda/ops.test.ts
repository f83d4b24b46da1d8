// SPDX-License-Identifier: Apache-2.0
// Every op's CUDA kernels on the emulated GPU against the scalar reference, over the same cases as the CPU's kernels, through
// the addon, the driver's interface and its streams. Twice: under two schedules of threads and both extremes of how late an
// asynchronous copy arrives.
import * as assert from 'uvu/assert';
import { emulatedDriver, type OpResult, runOps } from '../support/emulator.js';
import { suite } from '../support/harness.js';

const test = suite('cuda: ops', 600_000);

const SCHEDULES = {
  'one warp runs as far as it can, copies arrive late': {
    TACOTUNE_EMULATOR_ORDER: 'greedy-up',
    TACOTUNE_EMULATOR_COPIES: 'lazy',
  },
  'warps run in an order drawn anew at every barrier, copies arrive at once': {
    TACOTUNE_EMULATOR_ORDER: 'greedy:7',
    TACOTUNE_EMULATOR_COPIES: 'eager',
  },
};

let results: Promise<[string, OpResult[]][]> | undefined;

/** Both children at once, when the first test asks. */
function allResults(): Promise<[string, OpResult[]][]> {
  emulatedDriver();
  results ??= Promise.all(
    Object.entries(SCHEDULES).map(
      async ([name, settings]): Promise<[string, OpResult[]]> => [
        name,
        await runOps({ ...emulatedDriver(), ...settings }),
      ],
    ),
  );
  return results;
}

test('every op agrees with the reference, under two schedules', async () => {
  for (const [schedule, ops] of await allResults()) {
    const troubles = ops.flatMap(({ op, troubles }) => troubles.map((trouble) => `${op} ${trouble}`));
    assert.equal(troubles, [], schedule);
    assert.ok(ops.length >= 31, `only ${ops.length} ops ran`);
    for (const { op, cases } of ops) assert.ok(cases > 0, `${op} has no case`);
  }
});
