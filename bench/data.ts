// SPDX-License-Identifier: Apache-2.0
// How fast training data is read, imported and fed, in how much memory, and how long training waits for it. Files are made in
// the shape of MITS. Each measurement is a process of its own, so that its memory is its own; rates are by the clock and by
// processor time of the whole process, which says more on a machine that others use.
// `npm run bench -- data [--rows N] [--gigabytes N] [--tokenizer PATH] [--folder PATH] [--record]`
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  batches,
  type Fed,
  type FeedOptions,
  openRows,
  openSource,
  prefetch,
  readRowFiles,
  type SourcePlan,
} from '../datasets/index.js';
import { UserError } from '../errors.js';
import { cachedExamples, importData } from '../tasks/index.js';
import { fewestRows } from '../test/datasets/fewest-rows.js';
import { describeMachine, machineLine, record } from './machine.js';
import { formatTable } from './measure.js';
import { gzip, type ShapedRow, ShapedRows, writeJson, writeParquet } from './mits-shaped.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** What a measuring process is told to do. */
type Job =
  | { kind: 'read'; path: string }
  | { kind: 'import'; path: string; output: string }
  | { kind: 'stream' | 'random' | 'keys'; path: string }
  | { kind: 'keep'; plan: Rows }
  | { kind: 'feed'; plan: Rows; thread: boolean; tokensPerSecond: number; batches: number };

type Rows = Extract<SourcePlan, { rows: string }>;

interface Measured {
  rows: number;
  seconds: number;
  cpuSeconds: number;
  /** The process at its highest, and what Node itself takes. */
  peakMB: number;
  baseMB: number;
  /** Of a feed: time in which training stood still. */
  waitedSeconds?: number;
  /** Of these, until the first batch came. */
  firstSeconds?: number;
  tokens?: number;
  /** Share of positions that could at best be used with its lengths. */
  possible?: number;
  /** Where examples were kept. */
  stored?: string;
}

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      rows: { type: 'string', default: '50000' },
      gigabytes: { type: 'string', default: '0' },
      tokenizer: { type: 'string' },
      folder: { type: 'string', default: tmpdir() },
      record: { type: 'boolean', default: false },
    },
  });
  const rows = positive(values.rows, '--rows');
  const gigabytes = Number(values.gigabytes);
  const published = join(root, '..', 'shared', 'tokenizers', 'llama.model');
  const tokenizer = values.tokenizer ?? (existsSync(published) ? published : join(root, 'samples', 'tiny-base'));
  mkdirSync(values.folder, { recursive: true });
  const folder = mkdtempSync(join(values.folder, 'tacotune-bench-'));
  const machine = describeMachine();
  console.log(`${machineLine(machine)}\ntokenizer ${tokenizer}\n`);
  try {
    console.log(`${rows} rows in the shape of MITS`);
    const results: Result[] = await readers(folder, rows, tokenizer);
    if (gigabytes > 0) results.push(...large(folder, gigabytes, tokenizer));
    if (values.record) console.log(`recorded in ${record('data', { ...machine, rows, gigabytes, results })}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

type Result = Measured & { name: string; bytes?: number; tokensPerSecond?: number };

async function readers(folder: string, rows: number, tokenizer: string): Promise<Result[]> {
  const shaped = new ShapedRows();
  const kept: ShapedRow[] = [];
  const array = join(folder, 'Nepali.json');
  writeJson(array, { rows }, false, () => {
    kept.push(shaped.pair().row);
    return kept.at(-1)!;
  });
  const lines = join(folder, 'Nepali.jsonl');
  let at = 0;
  writeJson(lines, { rows }, true, () => kept[at++]!);
  const chains = join(folder, 'taco-Nepali.json');
  writeJson(chains, { rows }, false, () => shaped.chain());
  const files: [string, string][] = [
    ['JSON array', array],
    ['JSON lines', lines],
    ['JSON lines, gzip', await gzip(lines)],
    ['ready-made chains', chains],
    ['Parquet, groups of 1,000', await writeParquet(folder, kept, 1000)],
    ['Parquet, one group', await writeParquet(folder, kept, 1e9)],
  ];
  const [output, chainRows] = [join(folder, 'imported'), join(folder, 'chains')];
  const plan = {
    rows: chainRows,
    tokenizer,
    example: { task: 'taco', template: 'guanaco', format: 'released' },
  } as const;
  const results: Result[] = [
    ...files.map(([name, path]) => ({
      name: `read ${name}`,
      bytes: statSync(path).size,
      ...measure({ kind: 'read', path }),
    })),
    { name: 'import JSON array', bytes: statSync(array).size, ...measure({ kind: 'import', path: array, output }) },
    {
      name: 'import chains',
      bytes: statSync(chains).size,
      ...measure({ kind: 'import', path: chains, output: chainRows }),
    },
    ...fromArrow(output),
    { name: 'tokenise and keep', ...measure({ kind: 'keep', plan }) },
  ];
  printRates(results);
  return [...results, ...feeds(plan, 200, results.at(-1)!.stored)];
}

const fromArrow = (path: string): Result[] =>
  (['stream', 'random', 'keys'] as const).map((kind) => ({ name: `Arrow, ${kind}`, ...measure({ kind, path }) }));

/** How long training waits, at several speeds of training; a 7B model on one large GPU takes some 5,000 tokens a second. */
function feeds(plan: Rows, count: number, stored?: string): Result[] {
  const cases: [string, Rows, boolean, number][] = [
    ['made here', plan, false, 20_000],
    ['made in a thread', plan, true, 20_000],
    ['made in a thread', plan, true, 200_000],
  ];
  if (stored !== undefined) cases.push(['kept, in a thread', { ...plan, stored }, true, 200_000]);
  const results = cases.map(([name, from, thread, tokensPerSecond]): Result => {
    const fed = measure({ kind: 'feed', plan: from, thread, tokensPerSecond, batches: count });
    return { name, tokensPerSecond, ...fed };
  });
  const lines = results.map((result) => {
    const { name, tokensPerSecond, waitedSeconds, firstSeconds, seconds, peakMB, tokens, rows, possible } = result;
    // The first batch waits for files to open: once a run, not once a step.
    const share = (waitedSeconds! - firstSeconds!) / (seconds - firstSeconds!);
    const [waits, used, best] = [share, tokens! / rows, possible!].map((part) => `${(100 * part).toFixed(2)} %`);
    return [name, String(tokensPerSecond), waits!, `${firstSeconds!.toFixed(2)} s`, peakMB.toFixed(0), used!, best!];
  });
  const titles = [
    'feed, T 1024, B 4',
    'tokens/s taken',
    'waits',
    'first batch',
    'peak MB',
    'positions used',
    'at best',
  ];
  console.log(`${formatTable([titles, ...lines])}\n`);
  return results;
}

/** Importing and training from a set of many gigabytes. */
function large(folder: string, gigabytes: number, tokenizer: string): Result[] {
  const path = join(folder, 'large', 'Nepali.json');
  mkdirSync(dirname(path));
  const shaped = new ShapedRows(2);
  // A stretch of rows again and again: making all of them anew would take longer than reading them.
  const stretch = Array.from({ length: 5000 }, () => shaped.chain());
  let at = 0;
  const next = () => ({ ...stretch[at % stretch.length]!, input: String(at++) });
  const rows = writeJson(path, { bytes: gigabytes * 1e9 }, false, next);
  console.log(`${gigabytes} GB of JSON, ${rows} ready-made chains`);
  const output = join(folder, 'large', 'imported');
  const results: Result[] = [
    { name: 'import', bytes: statSync(path).size, ...measure({ kind: 'import', path, output }) },
  ];
  rmSync(path);
  results.push(...fromArrow(output));
  printRates(results);
  const plan = { rows: output, tokenizer, example: { task: 'taco', template: 'guanaco', format: 'released' } } as const;
  return [...results, ...feeds(plan, 400)];
}

function printRates(results: readonly Result[]): void {
  const lines = results.map(({ name, bytes, rows, seconds, cpuSeconds, peakMB, baseMB }) => {
    const speed = bytes === undefined ? Number.NaN : bytes / 1e6 / seconds;
    const numbers = [rows / seconds, rows / cpuSeconds, speed, peakMB, baseMB];
    return [name, ...numbers.map((number) => (Number.isNaN(number) ? '' : number.toFixed(0)))];
  });
  console.log(`${formatTable([['', 'rows/s', 'rows/CPU s', 'MB/s', 'peak MB', 'of it Node'], ...lines])}\n`);
}

function measure(job: Job): Measured {
  const child = spawnSync(process.execPath, [fileURLToPath(import.meta.url), JSON.stringify(job)], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  if (child.status !== 0) throw new Error(`the measuring process failed: ${child.stderr}`);
  return JSON.parse(child.stdout) as Measured;
}

const cpuSeconds = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

/** The process's memory at its highest, as the system counts it; pages of mapped files are part of it. */
function peakMB(): number {
  if (existsSync('/proc/self/status'))
    return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1e3;
  return process.resourceUsage().maxRSS / 1e3;
}

async function perform(job: Job): Promise<Measured> {
  const baseMB = peakMB();
  const [started, startedCpu] = [performance.now(), cpuSeconds()];
  const result = await work(job);
  return {
    ...result,
    seconds: (performance.now() - started) / 1e3,
    cpuSeconds: cpuSeconds() - startedCpu,
    peakMB: peakMB(),
    baseMB,
  };
}

async function work(job: Job): Promise<Omit<Measured, 'seconds' | 'cpuSeconds' | 'peakMB' | 'baseMB'>> {
  let rows = 0;
  switch (job.kind) {
    case 'read':
      for await (const _ of readRowFiles({ path: job.path, language: 'Nepali' })) rows++;
      return { rows };
    case 'import':
      await importData({
        sources: [job.path],
        output: job.output,
        language: 'Nepali',
        english: 'none',
        onProgress: (n) => (rows = n),
      });
      return { rows };
    case 'stream':
    case 'random': {
      const table = await openRows({ path: job.path });
      rows = Math.min(table.count, 400_000);
      // A step through the whole that meets every row once: the primes are no divisors of counts met here.
      const step = job.kind === 'stream' ? 1 : 7_368_787;
      for (let i = 0; i < rows; i++) await table.read((i * step) % table.count);
      await table.close();
      return { rows };
    }
    case 'keys': {
      const table = await openRows({ path: job.path });
      table.key(0);
      await table.close();
      return { rows: table.count };
    }
    case 'keep': {
      const source = await openSource(job.plan);
      const { source: opened, stored } = await cachedExamples(job.plan.rows, source);
      await opened.close();
      return { rows: source.count, ...(stored !== undefined && { stored }) };
    }
    case 'feed':
      return consume(job);
  }
}

/** Takes batches at a training's pace, with the event loop as busy as training keeps it. */
async function consume({ plan, thread, tokensPerSecond, batches: count }: Extract<Job, { kind: 'feed' }>) {
  const options: FeedOptions = { B: 4, T: 1024, tooLong: 'truncate', seed: 1, shuffle: true, pack: true };
  let feed: AsyncGenerator<Fed>;
  if (thread) feed = prefetch({ sources: [plan], options });
  else feed = batches([{ source: await openSource(plan) }], options);
  let [waited, first, tokens, places] = [0, 0, 0, 0];
  const lengths: number[] = [];
  for (let n = 0; n < count; n++) {
    const asked = performance.now();
    const { value, done } = await feed.next();
    if (done) break;
    waited += performance.now() - asked;
    if (n === 0) first = waited;
    tokens += value.tokens;
    places += value.batch.B * value.batch.T;
    lengths.push(...lengthsOf(value.batch));
    const end = performance.now() + (value.tokens / tokensPerSecond) * 1e3;
    while (performance.now() < end) {
      for (const layer = performance.now() + 5; performance.now() < layer; );
      await new Promise((resolve) => setImmediate(resolve)); // as between layers
    }
  }
  await feed.return(undefined);
  const possible = tokens / (fewestRows(lengths, options.T) * options.T);
  return { rows: places, waitedSeconds: waited / 1e3, firstSeconds: first / 1e3, tokens, possible };
}

/** Of the examples in a batch: where positions begin anew, one begins. */
function lengthsOf({ positions, segments }: Fed['batch']): number[] {
  const lengths: number[] = [];
  for (const [t, segment] of segments.entries()) {
    if (segment === 0) continue;
    if (positions[t] === 0) lengths.push(0);
    lengths[lengths.length - 1]!++;
  }
  return lengths;
}

function positive(text: string, name: string): number {
  const number = Number(text);
  if (Number.isInteger(number) && number > 0) return number;
  throw new UserError({ expected: `a whole number ≥ 1 for ${name}`, found: `'${text}'`, usage: true });
}

// In a measuring process this file is the program.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log(JSON.stringify(await perform(JSON.parse(process.argv[2]!) as Job)));
}
