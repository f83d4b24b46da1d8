// SPDX-License-Identifier: Apache-2.0
// What the tests of datasets/ share: a toy encoder, sources of given lengths, files in a folder of their own, and a look at
// the error that a call ends in.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { type Encoder, type ExampleSource, IGNORED, type TokenExample, tableOf } from '../../datasets/index.js';
import { UserError } from '../../errors.js';

/**
 * Words with the space before them, as SentencePiece cuts; a character beyond ASCII as its bytes, all at one start. Puts a
 * token of its own before text that is no continuation, as SentencePiece's dummy prefix may. Ids: 0 pad, 1 bos, 2 eos, 3 prefix, then the special tokens, then words as met.
 */
export function toyEncoder(...specials: string[]): Encoder & { decode(ids: Iterable<number>): string } {
  const special = new Map(specials.map((word, i) => [word, 4 + i]));
  const words = ['<pad>', '<s>', '</s>', '', ...special.keys()];
  const byWord = new Map<string, number>();
  const idOf = (word: string) => {
    const known = byWord.get(word) ?? words.push(word) - 1;
    byWord.set(word, known);
    return known;
  };
  return {
    bosId: 1,
    eosId: 2,
    vocabularySize: 100_000,
    fingerprint: 'toy',
    specialId: (text) => special.get(text),
    encodeWithOffsets(text, { continuation }) {
      const ids = text === '' || continuation ? [] : [3];
      const starts = ids.map(() => 0);
      for (const match of text.matchAll(/ ?[!-~]+| |\n|./gsu)) {
        const piece = match[0];
        const bytes = /^[\0-~]*$/.test(piece) ? [`${piece}`] : [...Buffer.from(piece)].map((byte) => `<${byte}>`);
        for (const token of bytes) {
          ids.push(idOf(token));
          starts.push(match.index);
        }
      }
      return { ids: Int32Array.from(ids), starts: Int32Array.from(starts) };
    },
    decode(ids) {
      const parts = [...ids].map((id) => words[id] ?? '?');
      const bytes = parts.map((part) =>
        /^<\d+>$/.test(part) ? Buffer.of(Number(part.slice(1, -1))) : Buffer.from(part),
      );
      return Buffer.concat(bytes).toString();
    },
  };
}

/** Examples of the given lengths; the ids of example i are i·1000, i·1000+1, …: each token tells where it belongs. */
export function toySource(lengths: number[], name = 'toy'): ExampleSource {
  const items = lengths.map((length, i): TokenExample => {
    const ids = Int32Array.from({ length }, (_, t) => i * 1000 + t);
    return { id: String(i), ids, labels: ids.map((id, t) => (t === 0 ? IGNORED : id)) };
  });
  return tableOf(items, name);
}

const folder = mkdtempSync(join(tmpdir(), 'tacotune-datasets-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
let files = 0;

/** Writes a file of the given content and gives its path. */
export function file(content: string | Uint8Array, ending = 'jsonl'): string {
  const path = join(folder, `${files++}.${ending}`);
  writeFileSync(path, content);
  return path;
}

/** A new empty folder. */
export const newFolder = () => mkdtempSync(join(folder, 'folder-'));

export const jsonLines = (rows: unknown[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');

/** The UserError that `work` ends in; fails where it ends otherwise. */
export async function userError(work: () => unknown): Promise<UserError> {
  try {
    await work();
  } catch (error) {
    if (error instanceof UserError) return error;
    throw error;
  }
  assert.unreachable('no error');
  throw new Error('no error');
}

export async function collect<Item>(items: AsyncIterable<Item>, limit = Number.POSITIVE_INFINITY): Promise<Item[]> {
  const all: Item[] = [];
  for await (const item of items) if (all.push(item) >= limit) break;
  return all;
}
