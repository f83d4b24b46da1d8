// SPDX-License-Identifier: Apache-2.0
// What is fuzzed: for each reader a small valid file, made here, and how it is read whole. A reading may only succeed or end in
// a UserError.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import {
  findRunState,
  openGguf,
  openModel,
  openTensorFile,
  readAdapter,
  readLlamaConfig,
  saveRunState,
  writeAdapter,
  writeSafetensors,
} from '../../checkpoints/index.js';
import {
  EXAMPLE_MANIFEST,
  type ExampleSource,
  examples,
  openExamples,
  openRows,
  ROW_MANIFEST,
  readRecords,
  templateNamed,
} from '../../datasets/index.js';
import { importData } from '../../tasks/data-import.js';
import { cachedExamples } from '../../tasks/example-cache.js';
import { exportGguf } from '../../tasks/export-gguf.js';
import { quantize } from '../../tasks/quantize.js';
import { loadTokenizer } from '../../tokenizer/index.js';
import { archive, bytesOf, call, code, dict, legacy, storage, tensor, text } from '../checkpoints/torch-bytes.js';
import { toyEncoder } from '../datasets/toy.js';
import { projectRoot } from '../support/harness.js';
import { TINY_CONFIG, writeTinyModel } from '../support/tiny.js';
import { BYTE_ALPHABET } from '../tokenizer/byte-level-json.js';
import { basicPieces, bytePieces, modelFile } from '../tokenizer/fixtures.js';

export interface Target {
  kind: 'binary' | 'text';
  /** The file that is damaged; what else the reader needs lies beside it. */
  path: string;
  read(): void | Promise<void>;
}

/** Makes each target's files in a folder. */
export const TARGETS: Record<string, (folder: string) => Target | Promise<Target>> = {
  safetensors(folder) {
    const path = join(folder, 'x.safetensors');
    writeSafetensors(
      path,
      new Map([
        ['a', { dtype: 'F32', shape: [2, 3], data: new Float32Array(6) }],
        ['b', { dtype: 'BF16', shape: [4], data: new Uint16Array(4) }],
        ['c', { dtype: 'U8', shape: [5], data: new Uint8Array(5) }],
      ]),
    );
    return { kind: 'text', path, read: () => readTensors(path) };
  },
  'torch-zip': (folder) => torchTarget(folder, archive(STATE_DICT, { '0': bytesOf(SIX) })),
  'torch-legacy': (folder) => torchTarget(folder, legacy(STATE_DICT, [['0', 6, bytesOf(SIX)]])),
  async gguf(folder) {
    const path = await tinyGguf(folder);
    return {
      kind: 'binary',
      path,
      read() {
        const file = openGguf(path);
        try {
          for (const name of file.tensors.keys()) for (const _ of file.blocks(name));
        } finally {
          file.close();
        }
      },
    };
  },
  async 'gguf-model'(folder) {
    const path = await tinyGguf(folder);
    return { kind: 'binary', path, read: () => readModel(path) };
  },
  async index(folder) {
    const model = openModel(await writeTinyModel(join(folder, 'single')));
    const { writeModelDirectory, copyStream } = await import('../../checkpoints/index.js');
    const weights = model.tensorNames.map((name) => copyStream(model.stored(name)));
    const sharded = join(folder, 'sharded');
    await writeModelDirectory(sharded, { weights, config: model.fields, job: {}, maxShardBytes: 30_000 });
    model.close();
    return { kind: 'text', path: join(sharded, 'model.safetensors.index.json'), read: () => readModel(sharded) };
  },
  async config(folder) {
    const model = await writeTinyModel(join(folder, 'm'));
    return { kind: 'text', path: join(model, 'config.json'), read: () => void readLlamaConfig(model) };
  },
  async 'bnb-4bit'(folder) {
    const model = await writeTinyModel(join(folder, 'm'), { ...TINY_CONFIG, layers: 1 });
    const output = join(folder, 'q');
    await quantize({ model, output });
    return { kind: 'text', path: join(output, 'model.safetensors'), read: () => readModel(output) };
  },
  'adapter-config'(folder) {
    const adapter = tinyAdapter(join(folder, 'a'));
    return { kind: 'text', path: join(adapter, 'adapter_config.json'), read: () => void readAdapter(adapter) };
  },
  'adapter-weights'(folder) {
    const adapter = tinyAdapter(join(folder, 'a'));
    return { kind: 'text', path: join(adapter, 'adapter_model.safetensors'), read: () => void readAdapter(adapter) };
  },
  'tokenizer-model'(folder) {
    const pieces = ['▁', 'a', 'b', 't', 'h', 'e', 'th', 'the', '▁the'].map((piece, i) => ({ piece, score: -i }));
    const path = join(folder, 'tokenizer.model');
    writeFileSync(
      path,
      modelFile({ pieces: [...basicPieces, ...bytePieces.slice(0, 256), ...pieces], byteFallback: true }),
    );
    return { kind: 'binary', path, read: () => readTokenizer(path) };
  },
  'tokenizer-json'(folder) {
    const vocab = Object.fromEntries([...BYTE_ALPHABET, 'th', 'the'].map((token, id) => [token, id]));
    const json = {
      added_tokens: [{ id: 258, content: '<|end|>', special: true }],
      pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
      model: { type: 'BPE', vocab, merges: ['t h', 'th e'] },
    };
    const path = join(folder, 'tokenizer.json');
    writeFileSync(path, JSON.stringify(json));
    return { kind: 'text', path, read: () => readTokenizer(path) };
  },
  async 'run-state'(folder) {
    const save = (step: number) =>
      saveRunState(folder, { step, keep: 2 }, async (place) =>
        writeFileSync(join(place, 'state.json'), `{"step":${step}}`),
      );
    await save(1);
    const path = join(await save(2), 'manifest.json');
    return { kind: 'text', path, read: () => void findRunState(folder) };
  },
  rows(folder) {
    const path = join(folder, 'x.jsonl');
    writeFileSync(
      path,
      '{"instruction":"one","input":"","output":"x"}\n{"instruction":"two","output":{"a":[1,2.5,null]}}\n',
    );
    return { kind: 'text', path, read: () => readRows(path) };
  },
  'arrow-file': (folder) => arrowTarget(folder, 'kinds'),
  'arrow-stream': (folder) => arrowTarget(folder, 'deltas'),
  'arrow-lz4': (folder) => arrowTarget(folder, 'lz4'),
  'arrow-zstd': (folder) => arrowTarget(folder, 'zstd'),
  async 'imported-rows'(folder) {
    const rows = await importedRows(folder);
    const path = join(rows, 'Nepali-00000.arrow');
    return { kind: 'binary', path, read: () => readImport(rows, believing(join(rows, ROW_MANIFEST), path)) };
  },
  async 'import-manifest'(folder) {
    const rows = await importedRows(folder);
    return { kind: 'text', path: join(rows, ROW_MANIFEST), read: () => readImport(rows, () => {}) };
  },
  async 'kept-examples'(folder) {
    const entry = await keptExamples(folder);
    const path = join(entry, 'examples-00000.arrow');
    return { kind: 'binary', path, read: () => readExamples(entry, believing(join(entry, EXAMPLE_MANIFEST), path)) };
  },
  async 'example-manifest'(folder) {
    const entry = await keptExamples(folder);
    return { kind: 'text', path: join(entry, EXAMPLE_MANIFEST), read: () => readExamples(entry, () => {}) };
  },
};

function arrowTarget(folder: string, name: string): Target {
  const path = join(folder, 'x.arrow');
  copyFileSync(join(projectRoot, 'test', 'datasets', 'fixtures', `${name}.arrow`), path);
  return { kind: 'binary', path, read: () => readRows(path) };
}

async function importedRows(folder: string): Promise<string> {
  const source = join(folder, 'source.jsonl');
  const row = (i: number) => ({ id: `r${i}`, instruction: `q${i}`, input: i % 3 ? '' : 'i', output: `शब्द ${i}` });
  writeFileSync(source, Array.from({ length: 20 }, (_, i) => JSON.stringify(row(i))).join('\n'));
  const output = join(folder, 'rows');
  await importData({ sources: [source], output, language: 'Nepali' });
  return output;
}

async function keptExamples(folder: string): Promise<string> {
  const path = await importedRows(folder);
  const rows = await openRows({ path });
  const source = examples(rows, { task: 'instruction', template: templateNamed('plain') }, toyEncoder());
  const { stored, source: cached } = await cachedExamples(path, source);
  await cached.close();
  if (stored === undefined) throw new Error('nothing was kept');
  return stored;
}

/** Lets a manifest tell the checksums of a file as it is: what is behind them is read as well. */
function believing(manifestPath: string, path: string): () => void {
  const manifest = JSON.parse(readFileSync(manifestPath, 'utf8'));
  return () => {
    const bytes = readFileSync(path);
    const { ends } = manifest.shards[0] as { ends: number[] };
    manifest.shards[0].crc32 = ends.map((end, i) => crc32(bytes.subarray(ends[i - 1] ?? 0, end)));
    writeFileSync(manifestPath, JSON.stringify(manifest));
  };
}

async function readImport(path: string, before: () => void): Promise<void> {
  before();
  const table = await openRows({ path });
  try {
    for (let i = 0; i < table.count; i++) await table.read(i);
    if (table.count > 0) table.key(0);
  } finally {
    await table.close();
  }
}

async function readExamples(folder: string, before: () => void): Promise<void> {
  before();
  const source = await openExamples(
    folder,
    async () => ({ close: async () => {} }) as ExampleSource,
    (fault) => {
      throw fault;
    },
  );
  try {
    for (let i = 0; i < source.count; i++) await source.read(i);
  } finally {
    await source.close();
  }
}

const SIX = new Float32Array([0, 1, 2, 3, 4, 5]);
const FLOATS = storage('0', 'torch.FloatStorage', 6);
const STATE_DICT = dict(
  ...[text('whole'), tensor(FLOATS, 0, [2, 3], [3, 1])],
  ...[text('transposed'), tensor(FLOATS, 0, [3, 2], [1, 3])],
  ...[text('p'), call('torch._utils._rebuild_parameter', tensor(FLOATS, 4, [2], [1]), code('\x88'), code('N'))],
);

function torchTarget(folder: string, bytes: Uint8Array): Target {
  const path = join(folder, 'x.bin');
  writeFileSync(path, bytes);
  return { kind: 'binary', path, read: () => readTensors(path) };
}

function readTensors(path: string): void {
  const file = openTensorFile(path);
  try {
    for (const name of file.tensors.keys()) {
      file.read(name);
      for (const _ of file.blocks(name));
    }
  } finally {
    file.close();
  }
}

function readModel(path: string): void {
  const model = openModel(path);
  try {
    for (const name of model.tensorNames) {
      model.values(name);
      model.done(name);
    }
  } finally {
    model.close();
  }
}

function readTokenizer(path: string): void {
  const tokenizer = loadTokenizer(path);
  const ids = tokenizer.encode('the a <|end|> \u{1f600} ध');
  tokenizer.decode(ids);
}

async function readRows(path: string): Promise<void> {
  for await (const _ of readRecords(path));
}

async function tinyGguf(folder: string): Promise<string> {
  const model = await writeTinyModel(join(folder, 'm'), { ...TINY_CONFIG, layers: 1 });
  const pieces = Array.from({ length: 40 }, (_, i) => ({ piece: `p${i}` }));
  writeFileSync(join(folder, 'tokenizer.model'), modelFile({ pieces: [...basicPieces, ...pieces] }));
  const output = join(folder, 'x.gguf');
  await exportGguf({ model, type: 'q8_0', tokenizer: join(folder, 'tokenizer.model'), output });
  return output;
}

function tinyAdapter(folder: string): string {
  const tensor = (rows: number, columns: number) => ({
    shape: [rows, columns] as [number, number],
    data: new Float32Array(rows * columns),
  });
  writeAdapter(folder, {
    ...{ rank: 2, alpha: 4, dropout: 0, rslora: false, targets: ['q'], baseModel: 'base' },
    tensors: new Map([
      ['layers.0.q.A', tensor(2, 4)],
      ['layers.0.q.B', tensor(4, 2)],
    ]),
  });
  return folder;
}

/** For a folder of its own per target. */
export function folderFor(root: string, name: string): string {
  const folder = join(root, name);
  mkdirSync(folder, { recursive: true });
  return folder;
}
