// SPDX-License-Identifier: Apache-2.0
// The kernels compile for every architecture without a spill, and take what kernels/cuda/resources.json says. Skipped,
// aloud, where there is no nvcc.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { buildCuda } from '../support/emulator.js';
import { projectRoot, suite } from '../support/harness.js';

const test = suite('cuda: resources', 600_000);

test('every module compiles for every target without a spill, into the registers that are recorded', () => {
  const said = buildCuda();
  const changes = said.split('\n').filter((line) => / sm_\d+: |: gone/.test(line));
  assert.equal(changes, [], "'npm run build:cuda -- --update' records a change that is meant");
  const folder = join(projectRoot, 'kernels', 'cuda');
  for (const source of readdirSync(folder).filter((file) => file.endsWith('.cu'))) {
    const fatbin = join(projectRoot, 'build', 'cuda', source.replace('.cu', '.fatbin'));
    assert.ok(existsSync(fatbin), fatbin);
    assert.is(readFileSync(fatbin).readUInt32LE(0), 0xba55ed50, 'the mark of a fatbin');
  }
});
