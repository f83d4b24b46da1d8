// SPDX-License-Identifier: Apache-2.0
// Brings a clone to the point where everything runs: packages, native addon, TypeScript. Each step is skipped when its
// inputs have not changed since it last succeeded (their hash is stamped in `build/`), so a second call costs milliseconds.
// Uses Node alone, since it runs before any package is there.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const nodeModules = join(root, 'node_modules');

/** Every file below `paths` whose name ends in one of `endings`, sorted, so that its hash is stable. */
function filesBelow(paths, endings) {
  const found = [];
  const visit = (path) => {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (entry.isDirectory()) visit(join(path, entry.name));
      else if (endings.some((ending) => entry.name.endsWith(ending))) found.push(join(path, entry.name));
    }
  };
  for (const path of paths) if (existsSync(join(root, path))) visit(join(root, path));
  return found.sort();
}

function hashOf(files) {
  const hash = createHash('sha256').update(process.version + process.arch);
  for (const file of files) hash.update(file.slice(root.length)).update(readFileSync(file));
  return hash.digest('hex');
}

/** Runs a command; what it says is shown only when it fails, since people came for something else. */
function run(command, args, remedy) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 1 << 28,
  });
  if (status === 0) return;
  console.error(`${stdout ?? ''}${stderr ?? ''}`);
  console.error(
    `\nsetup: '${command} ${args.join(' ')}' failed${error ? ` (${error.message})` : ` with code ${status}`}. ${remedy}`,
  );
  process.exit(1);
}

/** Runs `work` unless the stamp of `name` says that it already succeeded on exactly these inputs and `product` is there. */
function step(name, inputs, product, work) {
  const stamp = join(root, 'build', `${name}.stamp`);
  const hash = hashOf(inputs);
  if (existsSync(join(root, product)) && existsSync(stamp) && readFileSync(stamp, 'utf8') === hash) return;
  const start = Date.now();
  console.error(`setup: ${name} …${name === 'addon' ? ' (about a minute)' : ''}`);
  work();
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, hash);
  console.error(`setup: ${name} done in ${((Date.now() - start) / 1000).toFixed(0)} s`);
}

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
  [join(root, 'binding.gyp'), ...filesBelow(['kernels'], ['.cc', '.h', '.inc'])],
  'build/Release/tacotune.node',
  () => {
    const gyp = join(nodeModules, 'node-gyp', 'bin', 'node-gyp.js');
    run(process.execPath, [gyp, 'configure', ...headerArguments()], 'Needed: python3, make and g++ 10 or later.');
    run(process.execPath, [gyp, 'build', '-j', 'max'], 'Needed: python3, make and g++ 10 or later.');
  },
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
