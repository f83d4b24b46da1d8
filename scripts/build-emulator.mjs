// SPDX-License-Identifier: Apache-2.0
// Builds the emulated GPU: every kernels/cuda/*.cu compiled as C++, and the lab that runs them, in one library with the
// driver's symbols. TACOTUNE_CUDA_DRIVER names it to the addon, TACOTUNE_CUDA_MODULES names build/emulator/modules.
//
//     node scripts/build-emulator.mjs              build/emulator/libcuda-emulated.so
//     node scripts/build-emulator.mjs --checked    build/emulator/libcuda-checked.so, which finds races, bounds and
//                                                  uninitialised reads and is 5 to 10 times slower
//     node scripts/build-emulator.mjs --planted    build/emulator/planted, which runs the bugs of kernels/lab/planted
//     node scripts/build-emulator.mjs --misuse     build/emulator/misuse and misuse-blas, which make the mistakes of
//                                                  kernels/lab/misuse
//
// Needs g++ (CXX names another) and no CUDA toolkit. An object is compiled again only when something that it includes, or
// how it is compiled, has changed.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { compile, inParallel, root, start } from './steps.mjs';

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
  '-fno-tree-loop-distribute-patterns', // a loop made into a call of memcpy would not be seen
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

async function build(product, kind, kernels, kernelFlags, lab, linkFlags) {
  const began = Date.now();
  const results = [];
  const job = (source, into, flags) => async () => {
    const object = join(folder, into, `${source.replaceAll('/', '-')}.o`);
    results.push(await compile(compiler, [...flags, '-c'], source, object, remedy));
  };
  const jobs = [
    ...kernels.map((source) => job(source, kind, kernelFlags)),
    ...lab.map((source) => job(source, 'lab', forLab)),
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

const lab = [...sourcesIn('kernels/lab', '.cc'), ...sourcesIn('kernels/lab/ptx', '.cc')];
const kernels = sourcesIn('kernels/cuda', '.cu');
const unchecked = lab.filter((source) => !source.endsWith('/checker.cc'));
const shared = ['-shared', '-Wl,-z,defs'];
const [mode, ...rest] = process.argv.slice(2);
if (rest.length > 0 || ![undefined, '--checked', '--planted', '--misuse'].includes(mode)) {
  console.error(
    `build-emulator: expected nothing, --checked, --planted or --misuse, got '${process.argv.slice(2).join(' ')}'`,
  );
  process.exit(1);
}
if (mode === '--planted') {
  const planted = sourcesIn('kernels/lab/planted', '.cu');
  const main = sourcesIn('kernels/lab/planted', '.cc');
  const withoutDriver = lab.filter((source) => !/\/(driver(_memory)?|blas)\.cc$/.test(source));
  await build('planted', 'planted-checked', planted, [...forKernels, ...forChecking], [...withoutDriver, ...main], []);
} else if (mode === '--misuse') {
  const host = ['driver', 'gpu', 'probe'].map((name) => `kernels/cuda/${name}.cc`);
  await build('misuse', 'misuse', [], [], [...host, 'kernels/lab/misuse/main.cc'], []);
  await build('misuse-blas', 'emulated', [], [], [...unchecked, 'kernels/lab/misuse/blas.cc'], []);
} else {
  writeModules(kernels);
  if (mode === '--checked')
    await build('libcuda-checked.so', 'checked', kernels, [...forKernels, ...forChecking], lab, shared);
  else await build('libcuda-emulated.so', 'emulated', kernels, forKernels, unchecked, shared);
}
