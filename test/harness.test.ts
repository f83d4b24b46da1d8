// SPDX-License-Identifier: Apache-2.0
// The guard around uvu: what uvu alone would let pass must fail here. Each case runs the real entry in a child process.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { projectRoot, suite } from './support/harness.js';

const test = suite('harness');

function runEntry(...words: string[]) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(projectRoot, 'dist', 'test', 'run.js'), ...words],
    { encoding: 'utf8' },
  );
  return { status, stdout, stderr };
}

test('no test at all is a failure', () => {
  const { status, stdout, stderr } = runEntry('no-file-has-this-name');
  assert.is(status, 1);
  assert.match(stderr, 'no test ran');
  assert.match(stdout, /0 passed, 1 failed, 0 skipped\n$/);
});
