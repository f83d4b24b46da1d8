// SPDX-License-Identifier: Apache-2.0
// Tokenised examples as Arrow files, so that a set is composed and tokenised once for all runs that ask for the same. An entry
// is keyed by everything that decides its contents: rows, template, task, loss mask, tokenizer, and the code that makes ids of
// them. Damage is found before a wrong example is given; the examples are then made anew. Knows nothing of where entries lie.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UserError } from '../errors.js';
import {
  damaged,
  loadArrowWriter,
  readManifest,
  type Shard,
  Store,
  type StoreBatch,
  type StoreFolder,
  StoreWriter,
} from './arrow-store.js';
import { type ExampleSource, IGNORED, type TokenExample, UNUSABLE, type Unusable } from './examples.js';
import { type ColumnType, intsAt, textAt } from './files/columns.js';

export const EXAMPLE_MANIFEST = 'examples.json';
const VERSION = 1;

const COLUMNS: readonly ColumnType[] = [
  { name: 'id', type: 'utf8' },
  /** The hash that held-out splits go by, of rows without an example too. */
  { name: 'key', type: 'int32' },
  { name: 'ids', type: 'int32-list' },
  /** Bounds of the stretches that count: start, end, start, end … */
  { name: 'targets', type: 'int32-list' },
  /** Start and end, or nothing where it is not known. */
  { name: 'finalAnswer', type: 'int32-list' },
  /** Why the row gives no example. */
  { name: 'unusable', type: 'utf8' },
];

/** The column of keys. */
const KEY = 1;

export interface ExampleManifest {
  version: number;
  shards: Shard[];
  /** Of the source they were made from. */
  fingerprint: string;
  name: string;
}

/** The key of a source's examples. */
export function exampleKey(source: Pick<ExampleSource, 'fingerprint'>): string {
  return createHash('sha256').update(`${source.fingerprint} ${codeVersion()}`).digest('hex').slice(0, 32);
}

let code: string | undefined;

/** Changes with any line of the code that turns rows into ids: none can forget to count a version up. */
function codeVersion(): string {
  if (code !== undefined) return code;
  const hash = createHash('sha256');
  const here = dirname(fileURLToPath(import.meta.url));
  for (const folder of [here, join(here, '..', 'tokenizer')]) {
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.js'));
    for (const name of files.sort()) hash.update(`${name} `).update(readFileSync(join(folder, name)));
  }
  code = hash.digest('hex');
  return code;
}

/** Makes all examples of a source and writes them; what is returned is written last, as the manifest. */
export async function writeExamples(
  source: ExampleSource,
  folder: StoreFolder,
  onProgress?: (done: number) => void,
): Promise<ExampleManifest> {
  const writer = new StoreWriter(COLUMNS, KEY, folder, 'examples', await loadArrowWriter());
  for (let i = 0; i < source.count; i++) {
    const example = await source.read(i);
    const key = source.key(i) | 0;
    if (typeof example === 'string') writer.put(['', key, NONE, NONE, NONE, example]);
    else {
      const { id, ids, finalAnswer } = example;
      const final = finalAnswer ? Int32Array.of(finalAnswer.start, finalAnswer.end) : NONE;
      writer.put([id, key, ids, targetsOf(example), final, null]);
    }
    onProgress?.(i + 1);
  }
  writer.finish();
  return { version: VERSION, shards: writer.shards, fingerprint: source.fingerprint, name: source.name };
}

const NONE = new Int32Array(0);

function targetsOf({ ids, labels }: TokenExample): Int32Array {
  const bounds: number[] = [];
  for (let t = 0; t < ids.length; t++) {
    const counts = labels[t] !== IGNORED;
    if (counts && labels[t] !== ids[t]) throw new Error('labels that are not the ids cannot be stored');
    if (counts !== (bounds.length % 2 === 1)) bounds.push(t);
  }
  if (bounds.length % 2 === 1) bounds.push(ids.length);
  return Int32Array.from(bounds);
}

/**
 * Examples as stored. Where a file turns out to be damaged, `onDamage` is told once, and from then on they are read from
 * `remake`, the source they were made of.
 * @throws UserError where the entry cannot be opened
 */
export async function openExamples(
  folder: string,
  remake: () => Promise<ExampleSource>,
  onDamage?: (fault: UserError) => void,
): Promise<ExampleSource> {
  const { shards, fingerprint, name } = readManifest<ExampleManifest>(join(folder, EXAMPLE_MANIFEST), VERSION);
  const store = await Store.open(folder, shards, COLUMNS);
  let made: Promise<ExampleSource> | undefined;
  let keys: Uint32Array;
  try {
    keys = keysOf(store);
  } catch (fault) {
    store.close();
    throw fault;
  }
  return {
    name,
    count: store.count,
    fingerprint,
    key: (index) => keys[index]!,
    where: (index) => `${name}, row ${index + 1}`,
    async read(index) {
      if (!made) {
        try {
          const { batch, row } = store.at(index);
          return exampleAt(batch, row);
        } catch (cause) {
          made = remake();
          onDamage?.(cause instanceof UserError ? cause : damaged(store.where(index), (cause as Error).message, cause));
        }
      }
      return (await made).read(index);
    },
    async close() {
      store.close();
      await (await made)?.close();
    },
  };
}

function keysOf(store: Store): Uint32Array {
  const keys = new Uint32Array(store.count);
  let at = 0;
  for (const { rows, buffers } of store.keys(KEY)) {
    keys.set((buffers.values as Int32Array).subarray(0, rows), at);
    at += rows;
  }
  return keys;
}

function exampleAt({ columns }: StoreBatch, row: number): TokenExample | Unusable {
  const reason = textAt(columns[5]!, row);
  if (reason !== null) {
    if (!Object.hasOwn(UNUSABLE, reason)) throw new Error(`unknown reason '${reason}'`);
    return reason as Unusable;
  }
  const ids = intsAt(columns[2]!, row);
  const labels = new Int32Array(ids.length).fill(IGNORED);
  const targets = intsAt(columns[3]!, row);
  for (let i = 0; i < targets.length; i += 2) labels.set(ids.subarray(targets[i], targets[i + 1]), targets[i]!);
  const [start, end] = intsAt(columns[4]!, row);
  const example: TokenExample = { id: textAt(columns[0]!, row) ?? '', ids, labels };
  if (start === undefined || end === undefined) return example;
  if (!(start >= 0 && start <= end && end <= ids.length)) throw new Error(`a final answer at ${start} to ${end}`);
  return { ...example, finalAnswer: { start, end } };
}
