// SPDX-License-Identifier: Apache-2.0
// Speed of the kernels as shares of what the machine can do in the same minutes: multiply-adds in registers for arithmetic,
// a copy for memory. First the products over NF4 weights, at the sizes of training, then every op at a typical size.
//
//     npm run bench -- ops [--device cpu|cuda] [--rounds N] [--threads N] [--only WORD,…] [--skip-table] [--record] [--require PERCENT] [--cublaslt]
//
// TACOTUNE_INSTRUCTION_SET chooses a lower instruction set. Figures of a busy machine: trust the column `cpu`.
import { parseArgs } from 'node:util';
import { UserError } from '../errors.js';
import { COMPUTE_TYPE, type Native, native } from '../kernels/index.js';
import { opTables } from '../test/ops/cases.js';
import { type Arguments, describeShape, makeArguments, type OpName, type Values } from '../test/ops/op-table.js';
import { measureGpuOps } from './gpu-ops.js';
import { describeMachine, machineLine, record } from './machine.js';
import { type Case, formatTable, interleave, STATISTICS, type Timing } from './measure.js';
import { workOf } from './op-work.js';

const WEIGHTS: [N: number, K: number][] = [
  [4096, 4096],
  [11008, 4096],
  [4096, 11008],
  [2048, 2048],
];
const ROWS = [1, 16, 128, 512];
/** The rows at which --require judges: what a micro-batch of training has. */
const JUDGED_ROWS = 512;

const COPY_ELEMENTS = 1 << 25; // 128 MiB, beyond the caches of a socket
const CEILING_STEPS = 4000;

interface Options {
  rounds: number;
  only: string[];
  skipTable: boolean;
  require: number | undefined;
}

interface Result extends Case, Timing {
  /** Shares of the f32 and the copy ceiling of the same rounds. */
  arithmetic?: Timing;
  memory?: Timing;
}

export function run(args: string[]): void {
  const { values } = parseArgs({
    args,
    options: {
      rounds: { type: 'string', default: '7' },
      device: { type: 'string', default: 'cpu' },
      threads: { type: 'string' },
      only: { type: 'string', default: '' },
      cublaslt: { type: 'boolean', default: false },
      'skip-table': { type: 'boolean', default: false },
      record: { type: 'boolean', default: false },
      require: { type: 'string' },
    },
  });
  if (values.threads) native().setThreads(wholeNumber('--threads', values.threads));
  const options: Options = {
    rounds: wholeNumber('--rounds', values.rounds),
    only: values.only.split(',').filter(Boolean),
    skipTable: values['skip-table'],
    require: values.require === undefined ? undefined : wholeNumber('--require', values.require),
  };
  const machine = describeMachine();
  console.log(`${machineLine(machine)}\n`);
  if (values.device === 'cuda') {
    const measured = measureGpuOps(options.only, options.rounds, values.cublaslt);
    if (values.record) console.log(`recorded in ${record('gpu-ops', { ...machine, ...measured })}`);
    return;
  }
  const products = WEIGHTS.flatMap(([N, K]) => measureProducts(N, K, options));
  const table = options.skipTable ? [] : measureTable(options);
  if (values.record) console.log(`recorded in ${record('ops', { ...machine, results: [...products, ...table] })}`);
  judge(products, options);
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new UserError({ expected: `${name}: a whole number ≥ 1`, found: `'${text}'`, usage: true });
}

/** The multiply-add ceiling in f32 and, where the processor multiplies bf16 itself, in bf16; and the copy. */
function ceilings(addon: Native, tensors: Values[]): { arithmetic: Case; others: Case[]; memory: Case } {
  const ceiling = (compute: keyof typeof COMPUTE_TYPE): Case => ({
    name: `multiply-adds ${compute}`,
    flops: addon.multiplyAddCeiling(COMPUTE_TYPE[compute], CEILING_STEPS),
    run: () => addon.multiplyAddCeiling(COMPUTE_TYPE[compute], CEILING_STEPS),
  });
  const [to, from] = [allocate(addon, COPY_ELEMENTS), allocate(addon, COPY_ELEMENTS, 1)];
  tensors.push(to, from);
  return {
    arithmetic: ceiling('f32'),
    others: addon.instructionSet().includes('bf16') ? [ceiling('bf16')] : [],
    memory: { name: 'copy', bytes: 8 * COPY_ELEMENTS, run: () => addon.copy(to, from, COPY_ELEMENTS) },
  };
}

/** Values in memory of the kind that models use: in the JavaScript heap pages are small, which costs up to a third. */
function allocate(addon: Native, elements: number, step = 0): Float32Array {
  const values = new Float32Array(addon.allocate(4 * elements));
  if (step) for (let i = 0; i < elements; i++) values[i] = ((i * step) % 101) / 101 - 0.5;
  return values;
}

function releaseAll(addon: Native, tensors: Values[]): void {
  for (const { buffer } of tensors) addon.release(buffer as ArrayBuffer);
}

/** Times cases among the ceilings, then gives back `tensors`. */
function measure(cases: Case[], tensors: Values[], options: Options): Result[] {
  const addon = native();
  const { arithmetic, others, memory } = ceilings(addon, tensors);
  const all = [arithmetic, ...others, memory, ...cases];
  const timings = interleave(all, options.rounds, addon.threads());
  releaseAll(addon, tensors);
  const results: Result[] = all.map((item, i) => ({ ...item, ...timings[i]! }));
  const [top, copy] = [results[0]!, results[1 + others.length]!];
  for (const result of results) {
    if (result.flops) result.arithmetic = shares(result, top, (work) => work.flops!);
    if (result.bytes) result.memory = shares(result, copy, (work) => work.bytes!);
  }
  return results;
}

function shares(result: Result, ceiling: Result, work: (item: Case) => number): Timing {
  const share = (statistic: keyof Timing) => work(result) / result[statistic] / (work(ceiling) / ceiling[statistic]);
  return { median: share('median'), best: share('best'), cpu: share('cpu') };
}

// ---- products over NF4 weights --------------------------------------------------------------------------------------

/** Forward and backward of a double-quantised weight (N,K), in f32 and bf16, at several numbers of rows. */
function measureProducts(N: number, K: number, options: Options): Result[] {
  const addon = native();
  if (!matches(`nf4 N=${N} K=${K}`, options.only)) return [];
  const codes = new Uint8Array(addon.allocate((N * K) / 2));
  for (let i = 0; i < codes.length; i++) codes[i] = Math.imul(i, 2654435761) >>> 24;
  const blocks = Math.ceil((N * K) / 64);
  const absmaxCodes = Uint8Array.from({ length: blocks }, (_, i) => i % 256);
  const nested = new Float32Array(Math.ceil(blocks / 256)).fill(0.01);
  const weight = [codes, absmaxCodes, nested, 0.03] as const;
  const none = new Float32Array(0);
  const cases: Case[] = [];
  const tensors: Values[] = [codes];
  for (const M of ROWS) {
    const [inp, dout] = [allocate(addon, M * K, 37), allocate(addon, M * N, 41)];
    const [out, dinp] = [allocate(addon, M * N), allocate(addon, M * K)];
    tensors.push(inp, dout, out, dinp);
    for (const [name, compute] of Object.entries(COMPUTE_TYPE)) {
      const shape = `N=${N} K=${K} M=${M} ${name}`;
      const flops = 2 * M * N * K;
      cases.push(
        {
          name: `forward   ${shape}`,
          flops,
          run: () => addon.linearNf4Forward(out, inp, ...weight, none, none, M, N, K, 0, 0, 0, compute),
        },
        {
          name: `backward  ${shape}`,
          flops,
          run: () => addon.linearNf4Backward(dinp, dout, ...weight, none, none, M, N, K, 0, 0, 0, compute),
        },
      );
    }
  }
  const results = measure(cases, tensors, options);
  const rows = results
    .filter(({ flops }) => flops)
    .map((result) => [
      result.name,
      ...STATISTICS.map((statistic) => (result.flops! / result[statistic] / 1e6).toFixed(0)),
      ...STATISTICS.map((statistic) => percent(result.arithmetic![statistic])),
    ]);
  const head = ['GFLOP/s', ...STATISTICS, ...STATISTICS.map((statistic) => `${statistic} % of f32`)];
  console.log(formatTable([head, ...rows]), '\n');
  return results;
}

const percent = (share: number) => (100 * share).toFixed(0);
const matches = (name: string, words: string[]) =>
  words.length === 0 || words.some((word) => name.toLowerCase().includes(word.toLowerCase()));

/** Fails the run where a judged product stays below the share that is required of it. */
function judge(products: Result[], { require }: Options): void {
  if (require === undefined) return;
  const slow = products.filter(
    ({ name, arithmetic }) => name.includes(` M=${JUDGED_ROWS} `) && 100 * arithmetic!.cpu < require,
  );
  for (const { name, arithmetic } of slow) console.error(`below ${require} %: ${name}, ${percent(arithmetic!.cpu)} %`);
  if (slow.length > 0) process.exitCode = 1;
}

// ---- every op of the tests' table --------------------------------------------------------------------------------------

function measureTable(options: Options): Result[] {
  const lines: string[][] = [];
  const measured: Result[] = [];
  for (const [opName, definition] of Object.entries(opTables)) {
    if (!matches(opName, options.only)) continue;
    const op = opName as OpName;
    const args = makeArguments(op, definition, definition.typical);
    const tensors: Values[] = [];
    const name = `${op} ${describeShape(definition.typical)}`;
    const result = measure([{ name, run: caller(op, args, tensors), ...workOf(op, args) }], tensors, options).at(-1)!;
    measured.push(result);
    lines.push([
      result.name,
      ...STATISTICS.map((statistic) => result[statistic].toFixed(2)),
      result.flops ? (result.flops / result.cpu / 1e6).toFixed(0) : '',
      result.arithmetic ? percent(result.arithmetic.cpu) : '',
      (result.bytes! / result.cpu / 1e6).toFixed(1),
      percent(result.memory!.cpu),
    ]);
  }
  if (lines.length > 0) {
    const head = ['op: ms; rates and shares by cpu', ...STATISTICS, 'GFLOP/s', '% of f32', 'GB/s', '% of copy'];
    console.log(formatTable([head, ...lines]), '\n');
  }
  return measured;
}

/** A call of the op with its arguments copied to `tensors`. */
function caller(op: OpName, args: Arguments, tensors: Values[]): () => void {
  const addon = native();
  const list = Object.values(args).map((argument) => {
    if (typeof argument === 'number') return argument;
    const View = argument.values.constructor as new (buffer: ArrayBuffer) => Values;
    const copy = new View(addon.allocate(argument.values.byteLength));
    copy.set(argument.values);
    tensors.push(copy);
    return copy;
  });
  const call = addon[op] as (...list: unknown[]) => void;
  return () => call(...list);
}
