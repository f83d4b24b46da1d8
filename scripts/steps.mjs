// SPDX-License-Identifier: Apache-2.0
// What the build scripts share: a step runs only when its inputs have changed since it last succeeded (their hash is
// stamped in `build/`), and a command's words are shown only when it fails. Uses Node alone: it runs before any package is there.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');

const script = basename(process.argv[1] ?? 'build', '.mjs');

/** Every file below `paths` whose name ends in one of `endings`, sorted, so that its hash is stable. */
export function filesBelow(paths, endings) {
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

/** Of the contents of `files`, and of whatever else decides: `words`. */
export function hashOf(files, words = '') {
  const hash = createHash('sha256').update(process.version + process.arch + words);
  for (const file of files) hash.update(file.slice(root.length)).update(readFileSync(file));
  return hash.digest('hex');
}

function fail(command, args, output, cause, remedy) {
  console.error(output);
  console.error(`\n${script}: '${command} ${args.join(' ')}' failed${cause}. ${remedy}`);
  process.exit(1);
}

/** Runs a command; what it says is shown only when it fails, since people came for something else. Returns what it said. */
export function run(command, args, remedy) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 1 << 28,
  });
  const output = `${stdout ?? ''}${stderr ?? ''}`;
  if (status !== 0) fail(command, args, output, error ? ` (${error.message})` : ` with code ${status}`, remedy);
  return output;
}

/** The same without blocking, so that several can run at a time. */
export function start(command, args, remedy) {
  return new Promise((resolve) => {
    let output = '';
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text) => {
        output += text;
      });
    child.on('error', (error) => fail(command, args, output, ` (${error.message})`, remedy));
    child.on('close', (code) =>
      code === 0 ? resolve(output) : fail(command, args, output, ` with code ${code}`, remedy),
    );
  });
}

/** Runs each of `jobs`, at most `atOnce` at a time. */
export async function inParallel(jobs, atOnce = 2) {
  const left = [...jobs];
  const worker = async () => {
    for (let job = left.shift(); job; job = left.shift()) await job();
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

/** Runs `work` unless the stamp of `name` says that it already succeeded on exactly these inputs and `product` is there. */
export function step(name, inputs, product, work, note = '') {
  const stamp = join(root, 'build', `${name}.stamp`);
  const hash = hashOf(inputs);
  if (existsSync(join(root, product)) && existsSync(stamp) && readFileSync(stamp, 'utf8') === hash) return;
  const start = Date.now();
  console.error(`${script}: ${name} …${note}`);
  work();
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, hash);
  console.error(`${script}: ${name} done in ${((Date.now() - start) / 1000).toFixed(0)} s`);
}

/** The project's files that an object was made from, as the compiler listed them in make's syntax. */
function listedIn(list) {
  const words = readFileSync(list, 'utf8').replaceAll('\\\n', ' ').split(/:\s+/)[1]?.split(/\s+/) ?? [];
  return words.filter((word) => word && !word.startsWith('/')).map((word) => join(root, word));
}

/**
 * Compiles one source into `object` unless what that would give is there: the compiler lists what it included, and the
 * stamp holds their hash and the command's. Returns whether it is new, and what the compiler said when it made it.
 */
export async function compile(command, args, source, object, remedy) {
  const [list, stamp, words] = ['.d', '.stamp', '.txt'].map((ending) => object + ending);
  const state = () => {
    const inputs = listedIn(list);
    return inputs.every((file) => existsSync(file)) ? hashOf(inputs, [command, ...args].join(' ')) : '';
  };
  if ([object, list, stamp, words].every((file) => existsSync(file)) && readFileSync(stamp, 'utf8') === state())
    return { object, fresh: false, words: readFileSync(words, 'utf8') };
  mkdirSync(dirname(object), { recursive: true });
  const said = await start(command, [...args, '-MMD', '-MF', list, source, '-o', object], remedy);
  writeFileSync(words, said);
  writeFileSync(stamp, state());
  return { object, fresh: true, words: said };
}
