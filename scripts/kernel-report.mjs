// SPDX-License-Identifier: Apache-2.0
// Numbers of the CUDA kernels that need no GPU, from the compiled code: registers, shared memory, occupancy, the instruction
// mix of the path on which each kernel spends its time (sass.mjs), and the unit of the GPU that this path keeps busiest.
//
//     node scripts/kernel-report.mjs                   the table on the terminal
//     node scripts/kernel-report.mjs --traffic         and how it uses memory, counted by the interpreter of its PTX
//     node scripts/kernel-report.mjs --write           all of it, in bench/results/cuda-kernels.md
//     node scripts/kernel-report.mjs rmsnorm flash     only modules whose name contains a word
//
// Needs nvcc (NVCC names another) and g++. It is an estimate, not a measurement; its assumptions stand above the table.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { hotPath, kernelsOf } from './sass.mjs';
import { compile, inParallel, root, run } from './steps.mjs';

/**
 * Limits and rates of a multiprocessor, a clock. Limits: CUDA C++ Programming Guide, "Technical Specifications per Compute
 * Capability". Rates in lanes: the same guide, "Throughput of Native Arithmetic Instructions". Tensor rate (dense bf16
 * products with f32 sums) and memory: NVIDIA's white papers of A100 (SXM 40 GB, 1.41 GHz), RTX 4090 (2.52 GHz) and H100
 * (SXM, 1.83 GHz). A level-2 cache hands each multiprocessor 64 bytes a clock, shared memory 128.
 */
const CARDS = {
  80: {
    card: 'A100',
    warps: 64,
    blocks: 32,
    shared: 164,
    tensor: 1024,
    fp32: 64,
    alu: 64,
    imad: 64,
    fp64: 32,
    xu: 16,
    memory: 1555e9 / 1.41e9 / 108,
  },
  89: {
    card: 'RTX 4090',
    warps: 48,
    blocks: 24,
    shared: 100,
    tensor: 256,
    fp32: 128,
    alu: 64,
    imad: 64,
    fp64: 2,
    xu: 16,
    memory: 1008e9 / 2.52e9 / 128,
  },
  90: {
    card: 'H100',
    warps: 64,
    blocks: 32,
    shared: 228,
    tensor: 2048,
    fp32: 128,
    alu: 64,
    imad: 64,
    fp64: 64,
    xu: 16,
    memory: 3352e9 / 1.83e9 / 132,
  },
};
const REGISTERS = 65536;
const folder = join(root, 'build', 'report');
const nvcc = process.env['NVCC'] ?? 'nvcc';
const PRODUCTS_OF_HMMA = 16 * 8 * 16;

/** { kernel: { registers, sharedBytes, spillBytes } } as ptxas says. */
function resourcesFrom(text) {
  const found = {};
  let kernel = '';
  for (const line of text.split('\n')) {
    kernel = /Compiling entry function '([^']+)'/.exec(line)?.[1] ?? kernel;
    const spill = /(\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    const used = /Used (\d+) registers/.exec(line);
    if (spill) found[kernel] = { spillBytes: Number(spill[1]) + Number(spill[2]) };
    if (used)
      Object.assign(found[kernel], {
        registers: Number(used[1]),
        sharedBytes: Number(/(\d+) bytes smem/.exec(line)?.[1] ?? 0),
      });
  }
  return found;
}

/** A program of kernels/lab/report, linked with the host halves of the ops (`with` GPU and driver, or without them). */
async function programOf(name, withDriver) {
  const remedy = 'Needed: g++ 10 or later.';
  const compiler = process.env['CXX'] ?? 'g++';
  const sources = readdirSync(join(root, 'kernels', 'cuda'))
    .filter((file) => file.endsWith('.cc'))
    .map((file) => `kernels/cuda/${file}`)
    .filter((file) => withDriver || !/#include "(gpu|driver)\.h"/.test(readFileSync(join(root, file), 'utf8')));
  sources.push(`kernels/lab/report/${name}.cc`);
  const objectOf = (source) => join(folder, `${source.replaceAll('/', '-')}.o`);
  await inParallel(
    sources.map(
      (source) => () => compile(compiler, ['-std=c++17', '-O1', '-I.', '-c'], source, objectOf(source), remedy),
    ),
  );
  const program = join(folder, name);
  run(compiler, ['-o', program, ...sources.map(objectOf), '-ldl', '-lpthread'], remedy);
  return program;
}

/** What each kernel is launched with, by its op's host half; of several launches the one with most blocks. */
async function launchesOfOps() {
  const launches = new Map();
  const output = run(await programOf('launches', false), [], 'It only prints.');
  for (const line of output.trim().split('\n')) {
    const launch = JSON.parse(line);
    if ((launches.get(launch.kernel)?.blocks ?? 0) < launch.blocks) launches.set(launch.kernel, launch);
  }
  return launches;
}

/** How each kernel uses memory, by the interpreter of its PTX: see kernels/lab/engine.h. */
async function trafficOfOps() {
  for (const args of [['scripts/build-emulator.mjs'], ['scripts/build-cuda.mjs', '--ptx']])
    run(process.execPath, args, 'Needed: g++ and the CUDA toolkit, 13.0.');
  const emulator = join(root, 'build', 'emulator');
  const counters = join(folder, 'counters.json');
  const settings = {
    TACOTUNE_CUDA_DRIVER: join(emulator, 'libcuda-emulated.so'),
    TACOTUNE_CUDA_MODULES: join(emulator, 'modules'),
    TACOTUNE_EMULATOR_ENGINE: 'ptx',
    TACOTUNE_EMULATOR_PTX: join(root, 'build', 'ptx'),
    TACOTUNE_EMULATOR_COUNTERS: counters,
  };
  const program = await programOf('traffic', true);
  run('env', [...Object.entries(settings).map(([name, value]) => `${name}=${value}`), program], 'See above.');
  return JSON.parse(readFileSync(counters, 'utf8'));
}

/** Blocks of a kernel that fit a multiprocessor at once, and what stops one more. */
function occupancy({ registers, sharedBytes }, threads, card) {
  const warps = Math.ceil(threads / 32);
  const registersOfWarp = Math.ceil((registers * 32) / 256) * 256; // handed out by 256, in each quarter of the multiprocessor
  const limits = {
    warps: Math.floor(card.warps / warps),
    blocks: card.blocks,
    registers: Math.floor((Math.floor(REGISTERS / 4 / registersOfWarp) * 4) / warps),
    'shared memory': Math.floor((card.shared * 1024) / (Math.ceil(sharedBytes / 128) * 128 + 1024)), // 1 KiB is the system's
  };
  const blocks = Math.min(...Object.values(limits));
  const limiter = Object.keys(limits).find((name) => limits[name] === blocks);
  return { blocks, share: (blocks * warps) / card.warps, limiter };
}

/** Clocks of a multiprocessor that one warp's way along the path takes in each unit. */
function clocksOf({ loop, path }, card, conflicts) {
  const count = (belongs) => path.filter(belongs).length;
  const ofUnit = (unit) => count((i) => i.unit === unit);
  const bytes = (unit) => path.reduce((sum, i) => sum + (i.unit === unit ? 32 * i.bytes : 0), 0);
  const wideConversions = count((i) => /^(F2F|I2F|F2I).64$/.test(i.name));
  // A loop that stages tiles in shared memory finds them in the level-2 cache, since many blocks read them.
  const staged = loop && path.some((i) => i.name === 'LDGSTS' || i.name === 'STS');
  return {
    'tensor cores': (ofUnit('tensor') * PRODUCTS_OF_HMMA) / card.tensor,
    'f32 units': ((ofUnit('fp32') + ofUnit('fp16')) * 32) / card.fp32 + (ofUnit('imad') * 32) / card.imad,
    'integer units': (ofUnit('alu') * 32) / card.alu,
    'f64 units': ((ofUnit('fp64') + wideConversions) * 32) / card.fp64,
    'special functions': ((ofUnit('xu') - wideConversions) * 32) / card.xu,
    'shared memory': (bytes('shared') / 128) * conflicts + count((i) => i.name === 'SHFL'),
    ...(staged ? { 'level-2 cache': bytes('global') / 64 } : { memory: bytes('global') / card.memory }),
    issue: path.length / 4,
  };
}

const MIX = [
  ['HMMA', (i) => i.name === 'HMMA'],
  ['LDSM', (i) => i.name === 'LDSM'],
  ['LDS', (i) => i.name === 'LDS'],
  ['STS', (i) => i.name === 'STS'],
  ['LDGSTS', (i) => i.name === 'LDGSTS'],
  ['LDG', (i) => i.name === 'LDG' || i.name === 'LD'],
  ['STG', (i) => i.name === 'STG' || i.name === 'ST'],
  ['SHFL', (i) => i.name === 'SHFL'],
  ['f32', (i) => i.unit === 'fp32'],
  ['f64', (i) => i.unit === 'fp64' || /^F2F.64/.test(i.name)],
  ['MUFU', (i) => i.name === 'MUFU'],
  ['int', (i) => i.unit === 'alu' || i.unit === 'imad' || i.unit === 'uniform'],
  ['BAR', (i) => i.name === 'BAR'],
];

function mixOf(path) {
  const parts = MIX.map(([name, belongs]) => {
    const which = path.filter(belongs);
    const widths = [...new Set(which.map((i) => i.bytes).filter(Boolean))].sort((a, b) => b - a);
    return which.length ? `${which.length} ${name}${widths.length ? `(${widths.join(',')})` : ''}` : '';
  });
  return parts.filter(Boolean).join(' · ');
}

function describe(kernel, resources, launch, conflicts, card) {
  const threads = launch?.threads ?? kernel.threads;
  const fits = occupancy(
    { registers: resources.registers, sharedBytes: resources.sharedBytes + (launch?.sharedBytes ?? 0) },
    threads,
    card,
  );
  const { loop, path } = hotPath(kernel.instructions);
  const clocks = Object.entries(clocksOf({ loop, path }, card, conflicts)).sort((a, b) => b[1] - a[1]);
  const [[first, most], [second, next]] = clocks;
  return {
    threads,
    fits,
    loop,
    path,
    limiter: `${first}${next > 0.5 * most ? `, then ${second} (${Math.round((100 * next) / most)} %)` : ''}`,
  };
}

/** Every module for every architecture, compiled where that is needed: kernels with resources and instructions, by both names. */
async function compiled(modules) {
  const kernels = new Map();
  const jobs = modules.flatMap((module) =>
    Object.keys(CARDS).map((architecture) => async () => {
      const cubin = join(folder, `${basename(module, '.cu')}.${architecture}.cubin`);
      const flags = ['-std=c++17', '-O3', '-I.', `-arch=sm_${architecture}`, '-cubin', '-Xptxas', '-v'];
      const { words } = await compile(nvcc, flags, module, cubin, 'Needed: the CUDA toolkit, 13.0.');
      const resources = resourcesFrom(words);
      const found = kernelsOf(readFileSync(cubin), Number(architecture));
      kernels.set(
        `${module} ${architecture}`,
        found.map((kernel) => ({ kernel, resources: resources[kernel.name] })),
      );
    }),
  );
  await inParallel(jobs);
  return kernels;
}

/** { loads, stores: useful share of the sectors touched, conflicts: passes of shared memory for each that must be }. */
function trafficOf(counted) {
  if (!counted) return {};
  const useful = ({ sectors, idealSectors }) => (sectors ? idealSectors / sectors : undefined);
  const { wavefronts, idealWavefronts } = counted.shared;
  return {
    loads: useful(counted.globalLoads),
    stores: useful(counted.globalStores),
    conflicts: idealWavefronts ? wavefronts / idealWavefronts : undefined,
  };
}

function* rowsOf(modules, kernels, launches, traffic) {
  for (const module of modules) {
    const rows = new Map();
    for (const [architecture, card] of Object.entries(CARDS)) {
      for (const { kernel, resources } of kernels.get(`${module} ${architecture}`)) {
        const launch = launches.get(kernel.name);
        const used = trafficOf(traffic[kernel.name]);
        const told = describe(kernel, resources, launch, used.conflicts ?? 1, card);
        const unknown = kernel.instructions.filter((i) => i.unit === 'unknown').length;
        const row = rows.get(kernel.name) ?? { registers: [], occupancy: [], limiter: [], unknown: 0, spillBytes: 0 };
        row.registers.push(resources.registers);
        row.occupancy.push(`${Math.round(100 * told.fits.share)} % ${told.fits.limiter}`);
        row.limiter.push(told.limiter);
        row.unknown += unknown;
        row.spillBytes += resources.spillBytes;
        Object.assign(row, {
          launch,
          used,
          threads: told.threads,
          loop: told.loop,
          mix: mixOf(told.path),
          shared: resources.sharedBytes + (launch?.sharedBytes ?? 0),
        });
        rows.set(kernel.name, row);
      }
    }
    for (const [name, row] of rows) yield { module: basename(module, '.cu'), name, ...row };
  }
}

/** One value where all architectures agree, otherwise one each. */
const merged = (values) => (new Set(values).size === 1 ? String(values[0]) : values.join(' / '));

const percent = (share) => (share === undefined ? '–' : `${Math.round(100 * share)} %`);

function markdown(rows) {
  const cards = Object.entries(CARDS).map(([architecture, { card }]) => `sm_${architecture} (${card})`);
  const lines = [
    `Values with slashes are those of ${cards.join(' / ')}; the mix is that of the last. A path is one`,
    'warp\'s: "loop" a turn of the busiest loop, "pass" the whole kernel where no loop outweighs it. Bytes of an access, a lane,',
    'stand in brackets. "Useful" is the share of the 32-byte sectors touched by a request that its bytes would fill; conflicts are',
    'passes of shared memory for each that a request must take. The busiest unit is the one that bounds the speed if all others',
    'were free; what the next one needs of its clocks follows where that is above half. An estimate: every access to global',
    'memory goes to memory, except in loops that stage tiles in shared memory, which find them in the level-2 cache; a loop within',
    'a loop is counted once. On the H100 mma.sync is rated at the whole dense peak.',
    '',
    '| kernel | blocks × threads | registers | shared bytes | occupancy, bound by | useful loads, stores | conflicts | path | mix | busiest unit |',
    '|---|---|---|---|---|---|---|---|---|---|',
  ];
  for (const row of rows) {
    const notes = [
      row.spillBytes ? `spills ${row.spillBytes} bytes` : '',
      row.unknown ? `${row.unknown} unknown instructions` : '',
    ].filter(Boolean);
    lines.push(
      `| ${row.name.replace(/_kernel$/, '')}${notes.length ? ` (${notes.join(', ')})` : ''} | ${row.launch ? `${row.launch.blocks} × ` : ''}${row.threads} | ${merged(row.registers)} | ${row.shared}${row.launch ? '' : ' *'} | ` +
        `${merged(row.occupancy)} | ${percent(row.used.loads)}, ${percent(row.used.stores)} | ${row.used.conflicts?.toFixed(2) ?? '–'} | ${row.loop ? 'loop' : 'pass'} | ${row.mix} | ${merged(row.limiter)} |`,
    );
  }
  lines.push(
    '',
    '\\* not launched by the sizes of kernels/lab/report/launches.cc: dynamic shared memory, if any, is not counted.',
  );
  return lines.join('\n');
}

const words = process.argv.slice(2).filter((word) => !word.startsWith('--'));
const modules = readdirSync(join(root, 'kernels', 'cuda'))
  .filter((file) => file.endsWith('.cu') && (words.length === 0 || words.some((word) => file.includes(word))))
  .map((file) => `kernels/cuda/${file}`);
mkdirSync(folder, { recursive: true });
const recorded = process.argv.includes('--write');
const traffic = recorded || process.argv.includes('--traffic') ? await trafficOfOps() : {};
const text = markdown(rowsOf(modules, await compiled(modules), await launchesOfOps(), traffic));
console.log(text);
if (recorded) {
  const title = '# The CUDA kernels, from their compiled code';
  const origin = 'Written by `node scripts/kernel-report.mjs --write`; no GPU was involved.';
  writeFileSync(join(root, 'bench', 'results', 'cuda-kernels.md'), `${title}\n\n${origin}\n\n${text}\n`);
}
