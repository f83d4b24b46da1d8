// SPDX-License-Identifier: Apache-2.0
// What feeding a run takes in memory, beside model and training: tokenizers, where rows stand, pages of mapped files, and the
// thread that reads. Told before the data is opened, from sizes and a glance at the first rows; an upper bound where it guesses.
import { existsSync, statSync } from 'node:fs';
import {
  AHEAD_BYTES,
  dataFiles,
  isRowStore,
  readRecords,
  readRowManifest,
  STORE_WINDOW_BYTES,
} from '../datasets/index.js';
import type { Recipe, RecipeSource } from '../recipes/index.js';
import { keepsExamples } from './example-cache.js';

/** Fewer rows are read, composed and tokenised in the time of a step or two. */
export const ROWS_WORTH_A_THREAD = 4096;

/** What a token of a vocabulary takes with the tables that find it: 38 MiB measured for LLaMA's 32,000. */
const TOKEN_BYTES = 1250;
/** A thread's heap, stack and compiled code once it has read for a while, 30 to 50 MiB measured; its batches come to that. */
const THREAD_BYTES = 40 << 20;
/** Where a row stands in its file, in arrays that are doubled when they are full. */
const ROW_INDEX_BYTES = 40;
/** The hash of an imported row's id. */
const KEY_BYTES = 4;
/** Rows looked at to tell how many a file has. */
const GLANCE_ROWS = 50;

interface SourceSize {
  rows: number;
  /** Of what is mapped into memory. */
  mappedBytes: number;
  indexBytes: number;
}

/** @param vocabularySize of the model */
export async function dataMemory(recipe: Recipe, vocabularySize: number): Promise<number> {
  const sources = recipe.stages.flatMap(({ data }) => data);
  const sizes = await Promise.all(sources.map(sizeOf));
  const sum = (of: (size: SourceSize, index: number) => number) =>
    sizes.reduce((total, size, index) => total + of(size, index), 0);
  const thread = sum(({ rows }) => rows) >= ROWS_WORTH_A_THREAD;
  const sides = thread ? 2 : 1;
  // A thread reads kept examples as ids; from other rows it makes them itself.
  const text = sources.some(({ tokens }) => tokens === undefined);
  const made = sources.some(({ tokens, rows }) => tokens === undefined && !(keepsExamples() && isRowStore(rows ?? '')));
  const tokenizers = (text ? 1 : 0) + (thread && made ? 1 : 0);
  return (
    tokenizers * TOKEN_BYTES * vocabularySize +
    sides * sum(({ indexBytes }) => indexBytes) +
    // Of whoever reads them for training; what is held out is few rows.
    Math.min(
      sum(({ mappedBytes }) => mappedBytes),
      STORE_WINDOW_BYTES,
    ) +
    (thread ? THREAD_BYTES + AHEAD_BYTES : 0)
  );
}

async function sizeOf(source: RecipeSource): Promise<SourceSize> {
  const paths = [source.tokens, source.text, source.rows, source.english].filter((path) => path !== undefined);
  const parts = await Promise.all(paths.map((path) => sizeOfPath(path, source.language)));
  return {
    rows: Math.max(...parts.map(({ rows }) => rows)),
    mappedBytes: parts.reduce((sum, part) => sum + part.mappedBytes, 0),
    indexBytes: parts.reduce((sum, part) => sum + part.indexBytes, 0),
  };
}

/** What is wrong with a path is said by whoever opens it. */
async function sizeOfPath(path: string, language: string | undefined): Promise<SourceSize> {
  if (!existsSync(path)) return { rows: ROWS_WORTH_A_THREAD, mappedBytes: 0, indexBytes: 0 };
  try {
    return isRowStore(path) ? importSize(path, language) : await fileSize(path);
  } catch {
    return { rows: 0, mappedBytes: 0, indexBytes: 0 };
  }
}

function importSize(path: string, language: string | undefined): SourceSize {
  const shards = readRowManifest(path).shards.filter((shard) => language === undefined || shard.language === language);
  const rows = shards.reduce((sum, shard) => sum + shard.rows, 0);
  return {
    rows,
    mappedBytes: shards.reduce((sum, { ends }) => sum + ends.at(-1)!, 0),
    indexBytes: KEY_BYTES * rows,
  };
}

async function fileSize(path: string): Promise<SourceSize> {
  let [count, end, bytes] = [0, 0, 0];
  for (const file of await dataFiles(path)) {
    bytes += statSync(file).size;
    if (count > 0) continue;
    for await (const { place, bytes: length = 0 } of readRecords(file)) {
      end = (place.text?.byte ?? 0) + length;
      if (++count === GLANCE_ROWS) break;
    }
  }
  const rows = end === 0 ? 0 : Math.ceil((bytes * count) / end);
  return { rows, mappedBytes: 0, indexBytes: ROW_INDEX_BYTES * rows };
}
