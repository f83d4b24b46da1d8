// SPDX-License-Identifier: Apache-2.0
// Loads what we export into llama.cpp (npm package node-llama-cpp, installed into a folder of its own) and compares: the same ids
// for a text, the same tokens in greedy continuation, for models in each type, a LoRA beside its model, and a merged model.
// Run: `npm run check:clients [-- FOLDER]`; FOLDER keeps the installation (about 150 MB) for the next time.
import { spawnSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { writeAdapter, writeModel } from '../dist/checkpoints/index.js';
import { GREEDY, generateTokens, normals, randomStart } from '../dist/engine/index.js';
import { exportGguf } from '../dist/tasks/export-gguf.js';
import { openForInference } from '../dist/tasks/open-model.js';
import { byteLevelJson } from '../dist/test/tokenizer/byte-level-json.js';
import { loadTokenizer } from '../dist/tokenizer/index.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const MODEL = join(root, '..', 'shared', 'models', 'aidreams-260k');
const PROMPTS = ['I was in a house', 'The sea was', 'A bird'];
const NEW_TOKENS = 48;
const CLIENT = 'node-llama-cpp@3.22.1';
/** With these weights llama.cpp rounds the other factor of a product too (to bf16, to 8 bits), so near ties may turn. */
const ROUNDED = /bf16|q8_0/;
const NEAR_TIE = 0.1;

if (!existsSync(MODEL)) {
  console.log(`SKIP: no ${MODEL}`);
  process.exit(0);
}

/** The client's entrance, installed if need be. Its other platforms' binaries stay out, and no script of it runs. */
function installClient(folder) {
  const entrance = join(folder, 'node_modules', 'node-llama-cpp', 'dist', 'index.js');
  if (existsSync(entrance)) return entrance;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{"private":true}');
  const binary = `@node-llama-cpp/${{ linux: 'linux', darwin: 'mac', win32: 'win' }[process.platform]}-${process.arch}@3.22.1`;
  const flags = ['--omit=optional', '--ignore-scripts', '--no-audit', '--no-fund'];
  const { status } = spawnSync('npm', ['install', CLIENT, binary, ...flags], { cwd: folder, stdio: ['ignore', 2, 2] });
  if (status !== 0) throw new Error(`npm could not install ${CLIENT}`);
  return entrance;
}

/** An adapter that changes what the model says. */
function makeAdapter(folder, config) {
  const rank = 8;
  const targets = ['q', 'k', 'v', 'o', 'gate', 'up', 'down'];
  const { width: C, feedForwardWidth: F } = config;
  const sizes = { gate: [F, C], up: [F, C], down: [C, F] };
  const tensors = new Map();
  for (let layer = 0; layer < config.layers; layer++) {
    for (const [i, linear] of targets.entries()) {
      const [N, K] = sizes[linear] ?? [C, C];
      const seed = 100 * layer + i;
      tensors.set(`layers.${layer}.${linear}.A`, { shape: [rank, K], data: normals(seed, rank * K, 0.1) });
      tensors.set(`layers.${layer}.${linear}.B`, { shape: [N, rank], data: normals(seed + 50, N * rank, 0.05) });
    }
  }
  writeAdapter(folder, { rank, alpha: 16, dropout: 0, rslora: false, targets, baseModel: 'aidreams-260k', tensors });
}

/** Our tokens for each prompt, up to and with the end of text, and how much we prefer one token to another at a step. */
async function ours(model, adapter) {
  const opened = await openForInference({ model, adapter, tokenizer: MODEL, compute: 'f32' });
  const { llama, tokenizer } = opened;
  const results = [];
  for (const prompt of PROMPTS) {
    const ids = [tokenizer.bosId, ...tokenizer.encode(prompt)];
    const settings = { ...GREEDY, maxNewTokens: NEW_TOKENS, stopIds: [tokenizer.eosId], seed: 0 };
    const next = [];
    for await (const id of generateTokens(llama, ids, settings)) next.push(id);
    results.push({ ids, next });
  }
  const preference = async ({ ids, next }, step, other) => {
    const before = Int32Array.from([...ids, ...next.slice(0, step)]);
    const T = before.length;
    const labels = new Int32Array(T);
    const positions = before.map((_, t) => t);
    const batch = { B: 1, T, ids: before, labels, positions, segments: new Int32Array(T).fill(1) };
    const logits = (await llama.logits(batch)).subarray((T - 1) * llama.config.vocabularySize);
    return logits[next[step]] - logits[other];
  };
  return { results, preference, close: () => opened.close() };
}

async function theirs(llama, path, lora) {
  const model = await llama.loadModel({ modelPath: path, gpuLayers: 0 });
  const adapters = lora && { adapters: [{ filePath: lora, scale: 1 }] };
  const context = await model.createContext({
    contextSize: 128,
    threads: 1,
    // llama.cpp keeps keys and values in f16 if not told: enough to turn a near tie between two tokens.
    experimentalKvCacheKeyType: 'F32',
    experimentalKvCacheValueType: 'F32',
    ...(adapters && { lora: adapters }),
  });
  const results = [];
  for (const prompt of PROMPTS) {
    const ids = [model.tokens.bos, ...model.tokenize(prompt)];
    const sequence = context.getSequence();
    const next = [];
    for await (const id of sequence.evaluate(ids, { temperature: 0, yieldEogToken: true })) {
      next.push(id);
      if (next.length === NEW_TOKENS || model.isEogToken(id)) break;
    }
    sequence.dispose();
    results.push({ ids, next });
  }
  await context.dispose();
  await model.dispose();
  return results;
}

/** Texts at which ways of splitting differ. */
const TEXTS = [
  'The quick brown fox.  It\'s 1234567 dogs, I\'LL say: "no"!!\n\n  Indented\tline \r\nend  ',
  'नेपालको राजधानी काठमाडौं हो। ४५६७ मानिस',
  'پایتخت ایران تهران است؟ ۱۲۳',
  '🦋 emoji 👩‍👩‍👧 e\u0301 \u00a0 \u3000 日本語 ok',
  ' ',
  '\n\n\n a\n',
  '<|begin|> is text here <think> and this a token </think>',
];

/** Byte-level vocabularies: the ids that our tokenizer gives a text, and llama.cpp from what we export. */
async function byteLevelCases(llama) {
  const sample = ['Nepali', 'English', 'Persian'].map((name) =>
    readFileSync(join(root, 'samples', 'mits', `${name}.json`), 'utf8').slice(0, 40_000),
  );
  const gpt2 = { type: 'ByteLevel', add_prefix_space: false, use_regex: true };
  const kinds = {
    'llama-bpe': {},
    'gpt-2': { steps: [gpt2], ignoreMerges: false },
    smollm: { steps: [{ type: 'Digits', individual_digits: true }, gpt2], ignoreMerges: false },
  };
  const cases = [];
  for (const [name, options] of Object.entries(kinds)) {
    const folder = join(work, name);
    const json = byteLevelJson(sample.join('\n'), 400, { ...options, plain: ['<think>'] });
    const config = {
      ...{
        vocabularySize: 704,
        width: 64,
        feedForwardWidth: 96,
        layers: 1,
        queryHeads: 2,
        keyValueHeads: 2,
        headWidth: 32,
      },
      ...{ rmsNormEps: 1e-5, ropeTheta: 10000, tiedHead: true, maxPositions: 512, eosTokenIds: [] },
    };
    const start = randomStart(config, 1);
    await writeModel(folder, config, (weight) => start.weight(weight).data);
    writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(json));
    const output = join(work, `${name}.gguf`);
    await exportGguf({ model: folder, type: 'f32', output });
    const tokenizer = loadTokenizer(folder);
    const model = await llama.loadModel({ modelPath: output, gpuLayers: 0 });
    const differing = TEXTS.filter(
      (text) => JSON.stringify([...tokenizer.encode(text)]) !== JSON.stringify([...model.tokenize(text)]),
    );
    for (const text of differing) {
      console.log(
        JSON.stringify(text),
        [...tokenizer.encode(text)].join(),
        'llama.cpp',
        [...model.tokenize(text)].join(),
      );
    }
    const sameBos = model.tokens.bos === tokenizer.bosId && model.tokens.shouldPrependBosToken === tokenizer.addBos;
    await model.dispose();
    const passed = differing.length === 0 && sameBos;
    console.log(
      `${passed ? 'ok  ' : 'FAIL'} byte-level vocabulary ${name}: the same ids for ${TEXTS.length - differing.length} of ${TEXTS.length} texts`,
    );
    cases.push({
      name: `byte-level vocabulary ${name}`,
      texts: TEXTS.length,
      sameIds: TEXTS.length - differing.length,
      passed,
    });
  }
  return cases;
}

const work = mkdtempSync(join(tmpdir(), 'tacotune-clients-'));
let failed = 0;
try {
  const folder = process.argv[2] ? resolve(process.argv[2]) : join(work, 'client');
  const { getLlama } = await import(pathToFileURL(installClient(folder)).href);
  // One thread: its threads wait for each other by spinning, which on a busy machine takes minutes for a model of this size.
  const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error', maxThreads: 1 });
  const adapter = join(work, 'adapter');
  const base = await openForInference({ model: MODEL, compute: 'f32' });
  makeAdapter(adapter, base.files.config);
  base.close();

  const at = (name) => join(work, name);
  for (const type of ['f32', 'f16', 'bf16', 'q8_0'])
    await exportGguf({ model: MODEL, type, output: at(`${type}.gguf`) });
  await exportGguf({ model: MODEL, adapter, output: at('lora.gguf') });
  await exportGguf({ model: MODEL, adapter, type: 'f16', output: at('lora-f16.gguf') });
  await exportGguf({ model: MODEL, adapter, merge: true, type: 'f32', output: at('merged.gguf') });
  const cases = [
    ['model f32', () => ours(MODEL), 'f32.gguf'],
    // In fewer bits, against the same bits here: our own reading of the file that llama.cpp reads.
    ['model f16', () => ours(at('f16.gguf')), 'f16.gguf'],
    ['model bf16', () => ours(at('bf16.gguf')), 'bf16.gguf'],
    ['model q8_0', () => ours(at('q8_0.gguf')), 'q8_0.gguf'],
    ['LoRA f32 beside the f32 model', () => ours(MODEL, adapter), 'f32.gguf', 'lora.gguf'],
    ['LoRA f16 beside the f32 model', () => ours(MODEL, adapter), 'f32.gguf', 'lora-f16.gguf'],
    ['model with the LoRA merged, f32', () => ours(MODEL, adapter), 'merged.gguf'],
  ];
  const record = [];
  const plain = await ours(MODEL);
  plain.close();
  for (const [name, run, file, lora] of cases) {
    const { results, preference, close } = await run();
    const got = await theirs(llama, at(file), lora && at(lora));
    if (lora && JSON.stringify(results) === JSON.stringify(plain.results))
      throw new Error('the adapter changes nothing');
    const prompts = [];
    for (const [i, { ids, next }] of results.entries()) {
      const sameIds = JSON.stringify(ids) === JSON.stringify(got[i].ids);
      const step = next.findIndex((id, t) => id !== got[i].next[t]);
      const equal = step < 0 && next.length === got[i].next.length;
      // How near the two tokens were where they part.
      const margin = equal || step < 0 ? undefined : await preference(results[i], step, got[i].next[step]);
      prompts.push({
        sameIds,
        tokens: next.length,
        equalTokens: step < 0 ? next.length : step,
        ...(margin && { margin }),
      });
    }
    close();
    const passed = prompts.every(
      ({ sameIds, tokens, equalTokens, margin }) =>
        sameIds && (equalTokens === tokens || (ROUNDED.test(name) && margin < NEAR_TIE)),
    );
    if (!passed) failed++;
    const text = prompts.map(
      (p) => `${p.equalTokens}/${p.tokens}${p.margin ? ` (then a margin of ${p.margin.toFixed(4)})` : ''}`,
    );
    console.log(`${passed ? 'ok  ' : 'FAIL'} ${name}: equal tokens ${text.join(', ')}`);
    record.push({ name, prompts, passed });
  }
  const vocabularies = await byteLevelCases(llama);
  failed += vocabularies.filter(({ passed }) => !passed).length;
  record.push(...vocabularies);
  await llama.dispose();
  const results = join(root, 'bench', 'results');
  mkdirSync(results, { recursive: true });
  const commit = spawnSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: root, encoding: 'utf8' }).stdout.trim();
  const line = {
    date: new Date().toISOString(),
    commit,
    client: CLIENT,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    record,
  };
  appendFileSync(join(results, 'clients.jsonl'), `${JSON.stringify(line)}\n`);
} finally {
  rmSync(work, { recursive: true, force: true });
}
console.log(failed === 0 ? 'llama.cpp and tacotune agree' : `${failed} cases differ`);
process.exit(failed === 0 ? 0 : 1);
