// SPDX-License-Identifier: Apache-2.0
// Compiles the CUDA kernels: one fatbin for each kernels/cuda/*.cu, with code for sm_80, sm_89 and sm_90 and PTX for what
// comes later, into build/cuda. A spill of registers is an error. What each kernel takes is compared with the table in
// kernels/cuda/resources.json: a change is said, and the table is rewritten with --update.
//
//     npm run build:cuda -- [--update]
//     npm run build:cuda -- --ptx          build/ptx/*.ptx instead, for the interpreter of kernels/lab/ptx
//
// Needs nvcc of CUDA 13 (NVCC names another). Ends with code 3 where there is none, so that tests can tell.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { compile, inParallel, root } from './steps.mjs';

/** What a fatbin is made with, also without Node (kernels/lab/harness/Makefile). */
const options = readFileSync(join(root, 'kernels', 'cuda', 'nvcc.options'), 'utf8')
  .trim()
  .split(/\s+/);
const ARCHITECTURES = options.flatMap((option) => /code=(sm_\d+)/.exec(option)?.[1] ?? []);
const nvcc = process.env['NVCC'] ?? 'nvcc';
const remedy = 'Needed: nvcc 13.0. Of a spill, the kernel named above needs fewer registers or another launch bound.';
const table = join(root, 'kernels', 'cuda', 'resources.json');

const words = process.argv.slice(2);
if (words.some((word) => !['--update', '--ptx'].includes(word))) {
  console.error(`build-cuda: expected nothing, --update or --ptx, got '${words.join(' ')}'`);
  process.exit(1);
}
if (spawnSync(nvcc, ['--version']).status !== 0) {
  console.error(`build-cuda: no ${nvcc}: the CUDA kernels cannot be compiled here`);
  process.exit(3);
}

const sources = readdirSync(join(root, 'kernels', 'cuda'))
  .filter((file) => file.endsWith('.cu'))
  .sort();
if (words.includes('--ptx')) await buildPtx();
else await buildFatbins();

/** Line numbers are for the interpreter's findings; code for the oldest target is what all others are made from. */
async function buildPtx() {
  await buildAll('ptx', '.ptx', ['-std=c++17', '-ptx', '-arch=compute_80', '-lineinfo']);
}

async function buildFatbins() {
  const said = await buildAll('cuda', '.fatbin', options);
  const found = {};
  for (const [module, text] of said)
    for (const { kernel, target, needs } of readResources(text)) {
      found[kernel] ??= { module };
      found[kernel][target] = needs;
    }
  report(sorted(found));
}

/** Returns what the compiler said, by module. Files of modules that are gone are removed. */
async function buildAll(folder, ending, flags) {
  const began = Date.now();
  const path = join(root, 'build', folder);
  const said = new Map();
  let fresh = 0;
  const jobs = sources.map((source) => async () => {
    const module = basename(source, '.cu');
    const result = await compile(
      nvcc,
      ['-I.', ...flags],
      `kernels/cuda/${source}`,
      join(path, module + ending),
      remedy,
    );
    said.set(module, result.words);
    if (result.fresh) fresh++;
  });
  await inParallel(jobs);
  for (const file of existsSync(path) ? readdirSync(path) : [])
    if (!said.has(file.slice(0, file.indexOf('.')))) rmSync(join(path, file));
  if (fresh > 0) {
    const seconds = ((Date.now() - began) / 1000).toFixed(0);
    console.error(`build-cuda: ${fresh} of ${sources.length} modules compiled into build/${folder} in ${seconds} s`);
  }
  return said;
}

/** ptxas -v: one group of lines for each kernel and target. */
function readResources(text) {
  const pattern =
    /Compiling entry function '(\w+)' for '(\w+)'[\s\S]*?(\d+) bytes stack frame, (\d+) bytes spill stores[\s\S]*?Used (\d+) registers([^\n]*)/g;
  return [...text.matchAll(pattern)].map(([, kernel, target, stack, , registers, rest]) => {
    const sharedBytes = Number(/(\d+) bytes smem/.exec(rest)?.[1] ?? 0);
    return { kernel, target, needs: { registers: Number(registers), sharedBytes, stackBytes: Number(stack) } };
  });
}

function sorted(object) {
  return Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function describe(needs) {
  const stack = needs.stackBytes ? `, ${needs.stackBytes} B stack` : '';
  return `${needs.registers} registers, ${needs.sharedBytes} B shared${stack}`;
}

function report(found) {
  const before = existsSync(table) ? JSON.parse(readFileSync(table, 'utf8')) : {};
  const changes = [];
  for (const name of Object.keys(sorted({ ...before, ...found }))) {
    if (!found[name]) changes.push(`${name}: gone`);
    for (const target of ARCHITECTURES) {
      const [then, now] = [before, found].map((all) => all[name]?.[target] && describe(all[name][target]));
      if (now && then !== now) changes.push(`${name}, ${target}: ${now}${then ? ` (was ${then})` : ', new'}`);
    }
  }
  if (words.includes('--update')) {
    const lines = Object.entries(found).map(([name, needs]) => `  ${JSON.stringify(name)}: ${JSON.stringify(needs)}`);
    if (changes.length > 0) writeFileSync(table, `{\n${lines.join(',\n')}\n}\n`);
    console.error(
      `build-cuda: ${Object.keys(found).length} kernels in kernels/cuda/resources.json, ${changes.length} changes`,
    );
    return;
  }
  for (const change of changes) console.error(`build-cuda: ${change}`);
  if (changes.length > 0) console.error('build-cuda: not as in kernels/cuda/resources.json; --update records it');
}
