// SPDX-License-Identifier: Apache-2.0
// Brings a clone to the point where everything runs: packages, native addon, TypeScript. Each step is skipped when its
// inputs have not changed since it last succeeded (their hash is stamped in `build/`), so a second call costs milliseconds.
// Uses Node alone, since it runs before any package is there.
import { chmodSync, existsSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { filesBelow, root, run, step } from './steps.mjs';

const nodeModules = join(root, 'node_modules');

/** node-gyp would download Node's headers; most installations carry them already, so point it there. */
function headerArguments() {
  const prefix = join(dirname(process.execPath), '..');
  return existsSync(join(prefix, 'include', 'node', 'node_api.h')) ? [`--nodedir=${prefix}`] : [];
}

step('packages', [join(root, 'package-lock.json')], 'node_modules/.package-lock.json', () =>
  run(
    'npm',
    ['ci', '--ignore-scripts', '--no-audit', '--no-fund'],
    'The npm registry must be reachable for the first set-up.',
  ),
);
step(
  'addon',
  // The lab (but for the cases that doctor runs) and the ops for TensorFlow are built by scripts of their own.
  [
    join(root, 'binding.gyp'),
    ...filesBelow(['kernels'], ['.cc', '.h', '.inc']).filter(
      (file) => !/[/](lab|tfjs)[/](?!harness[/])/.test(file.slice(root.length)),
    ),
  ],
  'build/Release/tacotune.node',
  () => {
    const gyp = join(nodeModules, 'node-gyp', 'bin', 'node-gyp.js');
    run(process.execPath, [gyp, 'configure', ...headerArguments()], 'Needed: python3, make and g++ 10 or later.');
    run(process.execPath, [gyp, 'build', '-j', 'max'], 'Needed: python3, make and g++ 10 or later.');
  },
  ' (about a minute)',
);
const sources = filesBelow(
  [
    'engine',
    'kernels',
    'tokenizer',
    'datasets',
    'checkpoints',
    'tasks',
    'recipes',
    'evaluation',
    'cli',
    'bench',
    'samples',
    'test',
  ],
  ['.ts'],
);
step(
  'typescript',
  [
    join(root, 'tsconfig.json'),
    join(root, 'package-lock.json'),
    join(root, 'index.ts'),
    join(root, 'errors.ts'),
    ...sources,
  ],
  'dist/index.js',
  () => {
    rmSync(join(root, 'dist'), { recursive: true, force: true }); // a deleted source must not live on as stale output
    run(
      process.execPath,
      [join(nodeModules, 'typescript', 'bin', 'tsc')],
      'The messages above name the file and line.',
    );
    chmodSync(join(root, 'dist', 'cli', 'main.js'), 0o755); // `npx tacotune` runs it through a link
  },
);
