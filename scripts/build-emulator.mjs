// SPDX-License-Identifier: Apache-2.0
// Builds the emulated GPU: every kernels/cuda/*.cu compiled as C++, and the lab that runs them, in one library with the
// driver's symbols. TACOTUNE_CUDA_DRIVER names it to the addon, TACOTUNE_CUDA_MODULES names build/emulator/modules.
//
//     node scripts/build-emulator.mjs              build/emulator/libcuda-emulated.so
//     node scripts/build-emulator.mjs --checked    build/emulator/libcuda-checked.so, which finds races, bounds and
//                                                  uninitialised reads and is 5 to 10 times slower
//     node scripts/build-emulator.mjs --planted    build/emulator/planted, which runs the bugs of kernels/lab/planted
//
// Needs g++ (CXX names another) and no CUDA toolkit. An object is compiled again only when something that it includes, or
// how it is compiled, has changed.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { hashOf, inParallel, root, start } from './steps.mjs';

const compiler = process.env['CXX'] ?? 'g++';
const remedy = 'Needed: g++ 10 or later.';
const folder = join(root, 'build', 'emulator');

const common = [
  ...['-std=c++17', '-g1', '-fPIC', '-fvisibility=hidden', '-I.', '-Wall', '-Wextra'],
  // One rounding for each operation that the source writes, on every processor.
  ...['-ffp-contract=off', '-fno-math-errno'],
  ...fastestLevel(),
];
const forLab = [...common, '-O3'];
const forKernels = [
  ...common,
  ...['-O2', '-x', 'c++', '-DTACOTUNE_EMULATED_KERNELS', '-Wno-unknown-pragmas', '-Wno-unused-parameter'],
  '-fno-strict-aliasing', // kernels look at registers as other types, as CUDA allows
  '-fno-optimize-sibling-calls', // the lab reads return addresses, to name the kernel's line
];
// Calls into checker.cc instead of libtsan and libubsan, which are not linked.
const forChecking = [
  '-fsanitize=thread',
  '-fsanitize=alignment,bounds,shift,integer-divide-by-zero,float-cast-overflow,signed-integer-overflow',
  ...['--param', 'tsan-instrument-func-entry-exit=0'],
  '-DTACOTUNE_CHECKED_KERNELS',
];

/** fmaf is an instruction rather than a call, and sums of products take eight at a time, where the processor can. */
function fastestLevel() {
  const file = '/proc/cpuinfo';
  const flags = process.arch === 'x64' && existsSync(file) ? readFileSync(file, 'utf8') : '';
  return /\bavx2\b/.test(flags) && /\bfma\b/.test(flags) && /\bbmi2\b/.test(flags) ? ['-march=x86-64-v3'] : [];
}

const sourcesIn = (path, ending) =>
  existsSync(join(root, path))
    ? readdirSync(join(root, path))
        .filter((file) => file.endsWith(ending))
        .map((file) => `${path}/${file}`)
        .sort()
    : [];

/** The files that an object was made from, as the compiler listed them (make's syntax), without the system's. */
function readDependencies(list) {
  const words = readFileSync(list, 'utf8').replaceAll('\\\n', ' ').split(/\s+/).slice(1);
  return words.filter((word) => word && !word.startsWith('/')).map((word) => join(root, word));
}

/** Compiles one source unless what it would give is there. Returns the object's path and whether it is new. */
async function compile(source, kind, flags) {
  const stem = join(folder, kind, source.replaceAll('/', '-'));
  const [object, list, stamp] = [`${stem}.o`, `${stem}.d`, `${stem}.stamp`];
  const state = () => {
    const inputs = readDependencies(list);
    return inputs.every((file) => existsSync(file)) ? hashOf(inputs, [compiler, ...flags].join(' ')) : '';
  };
  if ([object, list, stamp].every(existsSync) && readFileSync(stamp, 'utf8') === state())
    return { object, fresh: false };
  await start(compiler, [...flags, '-MMD', '-MF', list, '-c', source, '-o', object], remedy);
  writeFileSync(stamp, state());
  return { object, fresh: true };
}

async function build(product, kind, kernels, kernelFlags, lab, linkFlags) {
  const began = Date.now();
  mkdirSync(join(folder, kind), { recursive: true });
  mkdirSync(join(folder, 'lab'), { recursive: true });
  const results = [];
  const jobs = [
    ...kernels.map((source) => async () => results.push(await compile(source, kind, kernelFlags))),
    ...lab.map((source) => async () => results.push(await compile(source, 'lab', forLab))),
  ];
  await inParallel(jobs);
  const objects = results.map((result) => result.object).sort();
  const target = join(folder, product);
  const stamp = join(folder, `${product}.stamp`);
  const links = objects.join(' ');
  if (
    existsSync(target) &&
    existsSync(stamp) &&
    readFileSync(stamp, 'utf8') === links &&
    results.every((r) => !r.fresh)
  )
    return;
  await start(compiler, [...linkFlags, ...objects, '-ldl', '-lpthread', '-o', target], remedy);
  writeFileSync(stamp, links);
  const fresh = results.filter((result) => result.fresh).length;
  console.error(`build-emulator: ${product}, ${fresh} of ${objects.length} objects, ${seconds(began)} s`);
}

const seconds = (began) => ((Date.now() - began) / 1000).toFixed(0);

/** What cuModuleLoadData of the stand-in driver takes: a name that stands for the kernels of one .cu. */
function writeModules(kernels) {
  const modules = join(folder, 'modules');
  mkdirSync(modules, { recursive: true });
  const names = kernels.map((source) => basename(source, '.cu'));
  for (const name of names) writeFileSync(join(modules, `${name}.fatbin`), `tacotune emulated module ${name}\n`);
  for (const file of readdirSync(modules)) if (!names.includes(basename(file, '.fatbin'))) rmSync(join(modules, file));
}

const notTheLibrary = ['cases.cc', 'harness.cc']; // the harness is a program that opens the library
const lab = [...sourcesIn('kernels/lab', '.cc'), ...sourcesIn('kernels/lab/ptx', '.cc')].filter(
  (source) => !notTheLibrary.includes(basename(source)),
);
const kernels = sourcesIn('kernels/cuda', '.cu');
const unchecked = lab.filter((source) => !source.endsWith('/checker.cc'));
const shared = ['-shared', '-Wl,-z,defs'];
const [mode, ...rest] = process.argv.slice(2);
if (rest.length > 0 || ![undefined, '--checked', '--planted'].includes(mode)) {
  console.error(`build-emulator: expected nothing, --checked or --planted, got '${process.argv.slice(2).join(' ')}'`);
  process.exit(1);
}
if (mode === '--planted') {
  const planted = sourcesIn('kernels/lab/planted', '.cu');
  const main = sourcesIn('kernels/lab/planted', '.cc');
  const withoutDriver = lab.filter((source) => !source.endsWith('/driver.cc'));
  await build('planted', 'planted-checked', planted, [...forKernels, ...forChecking], [...withoutDriver, ...main], []);
} else {
  writeModules(kernels);
  if (mode === '--checked')
    await build('libcuda-checked.so', 'checked', kernels, [...forKernels, ...forChecking], lab, shared);
  else await build('libcuda-emulated.so', 'emulated', kernels, forKernels, unchecked, shared);
}
