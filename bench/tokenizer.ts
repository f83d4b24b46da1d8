// SPDX-License-Identifier: Apache-2.0
// Speed of tokenizing training text, beside sentencepiece-js on the same text in the same run. Each measurement is a process
// of its own, so "cold" includes everything a first pass over a data set pays: compilation of our code and an empty cache.
// Reports medians with the spread; on a machine that others use too, look at the processor time (of all threads: garbage
// collection and compilation count). The ids of both encoders are compared.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { UserError } from '../errors.js';
import { loadTokenizer } from '../tokenizer/index.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

interface Job {
  encoder: 'tacotune' | 'sentencepiece-js';
  tokenizer: string;
  inputs: string[];
  bytes: number;
}

interface Timing {
  loadMs: number;
  /** First pass over the text, by the clock and by processor time of the whole process. */
  coldMs: number;
  coldCpuMs: number;
  /** Median of the passes after it (with a warm cache, where there is one). */
  warmMs: number;
  tokens: number;
  idsHash: string;
}

/** `tacotune` benchmark: `--tokenizer PATH --input FILE --bytes N --runs N`. */
export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      tokenizer: { type: 'string' },
      input: { type: 'string' },
      bytes: { type: 'string', default: '1000000' },
      runs: { type: 'string', default: '5' },
    },
  });
  const tokenizer = values.tokenizer ?? join(root, '..', 'shared', 'tokenizers', 'llama.model');
  if (!existsSync(tokenizer)) {
    throw new UserError({
      expected: 'a tokenizer',
      found: 'nothing there',
      where: tokenizer,
      remedy: 'Name one with --tokenizer PATH.',
    });
  }
  // English prose with code and links in it: the documentation of the installed packages, there in every clone.
  const inputs = values.input ? [values.input] : markdownBelow(join(root, 'node_modules'));
  const job = { tokenizer, inputs, bytes: count(values.bytes, '--bytes') };
  const runs = count(values.runs, '--runs');
  const text = textOf(job);
  const { kind } = loadTokenizer(tokenizer);
  console.log(
    `${tokenizer} (${kind}), ${(Buffer.byteLength(text) / 1e6).toFixed(2)} MB of text, ${runs} processes each, ${cpus()[0]?.model.trim()}, Node ${process.version}`,
  );
  console.log(
    'encoder'.padEnd(18) +
      'load ms'.padStart(9) +
      ['first pass, M tokens/s', '… per processor second', 'later passes, M tokens/s']
        .map((title) => title.padStart(26))
        .join(''),
  );
  // sentencepiece-js reads `.model` files only.
  const encoders: Job['encoder'][] = tokenizer.endsWith('.model') ? ['tacotune', 'sentencepiece-js'] : ['tacotune'];
  const hashes = new Set<string>();
  for (const encoder of encoders) {
    const timings = Array.from({ length: runs }, () => measureInChild({ ...job, encoder }));
    for (const { idsHash } of timings) hashes.add(idsHash);
    const rate = (ms: keyof Timing) =>
      spread(timings.map((timing) => timing.tokens / (timing[ms] as number) / 1e3)).padStart(26);
    const load = median(timings.map(({ loadMs }) => loadMs))
      .toFixed(0)
      .padStart(9);
    console.log(encoder.padEnd(18) + load + rate('coldMs') + rate('coldCpuMs') + rate('warmMs'));
  }
  // Cuts of equal probability, which unigram models have in runs of spaces, depend on the release of sentencepiece.
  if (hashes.size > 1 && kind !== 'sentencepiece-unigram') throw new Error('the encoders gave different ids');
}

function measureInChild(job: Job): Timing {
  const child = spawnSync(process.execPath, [fileURLToPath(import.meta.url), JSON.stringify(job)], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  if (child.status !== 0) throw new Error(`the measuring process failed: ${child.stderr}`);
  return JSON.parse(child.stdout) as Timing;
}

async function measure(job: Job): Promise<Timing> {
  const text = textOf(job);
  const started = performance.now();
  const encode = job.encoder === 'tacotune' ? oursOf(job.tokenizer) : await sentencepieceOf(job.tokenizer);
  const loadMs = performance.now() - started;
  const passes: number[] = [];
  const processor: number[] = [];
  let ids: ArrayLike<number> = [];
  for (let pass = 0; pass < 4; pass++) {
    const before = process.cpuUsage();
    const start = performance.now();
    ids = encode(text);
    passes.push(performance.now() - start);
    const { user, system } = process.cpuUsage(before);
    processor.push((user + system) / 1000);
  }
  const idsHash = createHash('sha256').update(Array.from(ids).join(',')).digest('hex');
  return {
    loadMs,
    coldMs: passes[0]!,
    coldCpuMs: processor[0]!,
    warmMs: median(passes.slice(1)),
    tokens: ids.length,
    idsHash,
  };
}

function oursOf(path: string): (text: string) => ArrayLike<number> {
  const tokenizer = loadTokenizer(path);
  return (text) => tokenizer.encode(text);
}

async function sentencepieceOf(path: string): Promise<(text: string) => ArrayLike<number>> {
  interface Processor {
    load(path: string): Promise<void>;
    encodeIds(text: string): number[];
  }
  const { SentencePieceProcessor } = createRequire(import.meta.url)('sentencepiece-js') as {
    SentencePieceProcessor: new () => Processor;
  };
  const processor = new SentencePieceProcessor();
  await processor.load(path);
  return (text) => processor.encodeIds(text);
}

function textOf({ inputs, bytes }: Pick<Job, 'inputs' | 'bytes'>): string {
  let text = '';
  for (const input of inputs) {
    text += readFileSync(input, 'utf8');
    if (text.length >= bytes) break;
  }
  return text.slice(0, bytes);
}

function markdownBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.md'))
    .sort()
    .map((file) => join(directory, file));
}

function count(text: string, option: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new UserError({ expected: `${option}: a whole number ≥ 1`, found: `'${text}'`, usage: true });
}

function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

function spread(values: number[]): string {
  return `${median(values).toFixed(2)} (${Math.min(...values).toFixed(2)}–${Math.max(...values).toFixed(2)})`;
}

// In a measuring process this file is the program.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log(JSON.stringify(await measure(JSON.parse(process.argv[2]!) as Job)));
}
