// SPDX-License-Identifier: Apache-2.0
// The README's library example runs as it stands there, through the package's own name.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { projectRoot, suite } from './support/harness.js';

const test = suite('library');

test('the example of the README trains and generates', () => {
  const readme = readFileSync(join(projectRoot, 'README.md'), 'utf8');
  const example = /<!-- example.*?```ts\n(.*?)```\n<!-- \/example -->/s.exec(readme)?.[1];
  assert.ok(example, 'the README has no example between its marks');
  const folder = mkdtempSync(join(projectRoot, 'build', 'library-')); // inside the package, so that its name resolves
  try {
    const output = join(folder, 'run');
    const file = join(folder, 'example.mjs');
    writeFileSync(file, example.replaceAll("'runs/library'", JSON.stringify(output)));
    const { status, stdout, stderr } = spawnSync(process.execPath, [file], { cwd: projectRoot, encoding: 'utf8' });
    assert.is(status, 0, stderr);
    assert.match(stdout, /needs \d+ MiB/);
    assert.match(stdout, /^3 \d/m, 'three steps with their losses');
    assert.ok(existsSync(join(output, 'adapter_model.safetensors')));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
