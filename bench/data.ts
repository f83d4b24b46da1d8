// SPDX-License-Identifier: Apache-2.0
// How fast training data is read, imported and fed, in how much memory, and how long training waits for it. Files are made in
// the shape of MITS. Each measurement is a process of its own, so that its memory is its own; rates are given by the clock and
// by processor time of the whole process, which says more on a machine that others use.
// `npm run bench -- data [--rows N] [--gigabytes N] [--tokenizer PATH] [--folder PATH]`
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
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
import { cachedExamples } from '../tasks/example-cache.js';
import { importData } from '../tasks/index.js';
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
      folder: { type: 'string' },
    },
  });
  const rows = positive(values.rows, '--rows');
  const gigabytes = Number(values.gigabytes);
  const published = join(root, '..', 'shared', 'tokenizers', 'llama.model');
  const tokenizer = values.tokenizer ?? (existsSync(published) ? published : join(root, 'samples', 'tiny-base'));
  if (values.folder) mkdirSync(values.folder, { recursive: true });
  const folder = mkdtempSync(join(values.folder ?? tmpdir(), 'tacotune-bench-'));
  console.log(
    `${cpus()[0]?.model.trim()} × ${cpus().length}, Node ${process.version}, ${rows} rows, tokenizer ${tokenizer}`,
  );
  try {
    await readers(folder, rows, tokenizer);
    if (gigabytes > 0) large(folder, gigabytes, tokenizer);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function readers(folder: string, rows: number, tokenizer: string): Promise<void> {
  const shaped = new ShapedRows();
  const kept: ShapedRow[] = [];
  const next = () => {
    const row = shaped.pair().row;
    kept.push(row);
    return row;
  };
  const array = join(folder, 'Nepali.json');
  writeJson(array, { rows }, false, next);
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
  heading();
  for (const [name, path] of files) print(`read ${name}`, measure({ kind: 'read', path }), statSync(path).size);
  const output = join(folder, 'imported');
  print('import JSON array', measure({ kind: 'import', path: array, output }), statSync(array).size);
  const chainRows = join(folder, 'chains');
  print('import chains', measure({ kind: 'import', path: chains, output: chainRows }), statSync(chains).size);
  for (const kind of ['stream', 'random', 'keys'] as const) print(`Arrow, ${kind}`, measure({ kind, path: output }));
  const plan = {
    rows: chainRows,
    tokenizer,
    example: { task: 'taco', template: 'guanaco', format: 'released' },
  } as const;
  const keeping = measure({ kind: 'keep', plan });
  print('tokenise and keep', keeping);
  feeds(plan, 200, keeping.stored);
}

/** How long training waits, at several speeds of training; a 7B model on one large GPU takes some 5,000 tokens a second. */
function feeds(plan: Rows, count: number, stored?: string): void {
  const titles = ['tokens/s taken', 'waits', 'first batch', 'peak MB', 'used'];
  console.log(`\n${'feed, T 1024, B 4'.padEnd(34)}${titles.map((title) => title.padStart(15)).join('')}`);
  const cases: [string, Rows, boolean, number][] = [
    ['made here', plan, false, 20_000],
    ['made in a thread', plan, true, 20_000],
    ['made in a thread', plan, true, 200_000],
  ];
  if (stored !== undefined) cases.push(['kept, in a thread', { ...plan, stored }, true, 200_000]);
  for (const [name, from, thread, tokensPerSecond] of cases) {
    const fed = measure({ kind: 'feed', plan: from, thread, tokensPerSecond, batches: count });
    // The first batch waits for files to open: once a run, not once a step.
    const share = (fed.waitedSeconds! - fed.firstSeconds!) / (fed.seconds - fed.firstSeconds!);
    const cells = [
      String(tokensPerSecond),
      `${(100 * share).toFixed(2)} %`,
      `${fed.firstSeconds!.toFixed(2)} s`,
      fed.peakMB.toFixed(0),
      `${((100 * fed.tokens!) / fed.rows).toFixed(1)} %`,
    ];
    console.log(name.padEnd(34) + cells.map((cell) => cell.padStart(15)).join(''));
  }
}

/** Importing and training from a set of many gigabytes. */
function large(folder: string, gigabytes: number, tokenizer: string): void {
  const path = join(folder, 'large', 'Nepali.json');
  mkdirSync(dirname(path));
  const shaped = new ShapedRows(2);
  // A stretch of rows again and again: making all of them anew would take longer than reading them.
  const stretch = Array.from({ length: 5000 }, () => shaped.chain());
  let at = 0;
  const rows = writeJson(path, { bytes: gigabytes * 1e9 }, false, () => ({
    ...stretch[at % stretch.length]!,
    input: String(at++),
  }));
  console.log(`\n${gigabytes} GB of JSON, ${rows} ready-made chains`);
  heading();
  const output = join(folder, 'large', 'imported');
  print('import', measure({ kind: 'import', path, output }), statSync(path).size);
  rmSync(path);
  for (const kind of ['stream', 'random', 'keys'] as const) print(`Arrow, ${kind}`, measure({ kind, path: output }));
  feeds({ rows: output, tokenizer, example: { task: 'taco', template: 'guanaco', format: 'released' } }, 400);
}

function heading(): void {
  console.log(
    `\n${''.padEnd(34)}${'rows/s'.padStart(10)}${'rows/CPU s'.padStart(12)}${'MB/s'.padStart(8)}${'peak MB'.padStart(10)}${'of it Node'.padStart(12)}`,
  );
}

function print(name: string, { rows, seconds, cpuSeconds, peakMB, baseMB }: Measured, bytes?: number): void {
  const cells = [
    rows / seconds,
    rows / cpuSeconds,
    bytes === undefined ? undefined : bytes / 1e6 / seconds,
    peakMB,
    baseMB,
  ];
  const [rate, cpuRate, speed, peak, base] = cells.map((cell) => cell?.toFixed(0) ?? '');
  console.log(
    name.padEnd(34) +
      rate!.padStart(10) +
      cpuRate!.padStart(12) +
      speed!.padStart(8) +
      peak!.padStart(10) +
      base!.padStart(12),
  );
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
  for (let n = 0; n < count; n++) {
    const asked = performance.now();
    const { value, done } = await feed.next();
    if (done) break;
    waited += performance.now() - asked;
    if (n === 0) first = waited;
    tokens += value.tokens;
    places += value.batch.B * value.batch.T;
    const end = performance.now() + (value.tokens / tokensPerSecond) * 1e3;
    while (performance.now() < end) {
      for (const layer = performance.now() + 5; performance.now() < layer; );
      await new Promise((resolve) => setImmediate(resolve)); // as between layers
    }
  }
  await feed.return(undefined);
  return { rows: places, waitedSeconds: waited / 1e3, firstSeconds: first / 1e3, tokens };
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
