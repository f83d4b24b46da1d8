// SPDX-License-Identifier: Apache-2.0
// Rows from files: a file or folder by itself, or a translated one beside its English original. Aligns the two by id where
// both have ids of their own, else by position, and refuses files that are not translations of each other: a pair that is off
// by one row trains a model to answer another question. Knows nothing of tasks and tokens.
import { createHash } from 'node:crypto';
import { UserError } from '../errors.js';
import { openTable, type RecordTable, readItems } from './record-table.js';
import type { Decoded, Place } from './records.js';
import { type Row, type RowShape, rowDecoder } from './rows.js';

export interface RowSourceOptions extends RowShape {
  /** A JSONL file, a JSON array, or a folder of these. */
  path: string;
  /** The English original of the same rows: adds `english` to each row. Its columns are named like those of `path`. */
  english?: string;
}

/** The rows of one file or folder as a stream, in order. */
export async function* readRows(options: Omit<RowSourceOptions, 'english'>): AsyncGenerator<Row> {
  for await (const { item } of readItems(options.path, rowDecoder(options))) yield item;
}

/** Opens rows for reading by position; every row is checked once before this returns. */
export async function openRows(options: RowSourceOptions): Promise<RecordTable<Row>> {
  const { path, english: englishPath, ...shape } = options;
  const fingerprint = (...parts: string[]) =>
    createHash('sha256')
      .update(JSON.stringify([shape, ...parts]))
      .digest('hex');
  if (englishPath === undefined) {
    const rows = await openTable(path, rowDecoder(shape));
    return { ...rows, fingerprint: fingerprint(rows.fingerprint) };
  }
  const { rows, english, partner } = await openAligned(path, englishPath, shape);
  return {
    ...rows,
    fingerprint: fingerprint(rows.fingerprint, english.fingerprint),
    async read(index) {
      const [row, original] = await Promise.all([rows.read(index), english.read(partner[index]!)]);
      const { instruction, input, output } = original;
      return { ...row, english: { instruction, input, output } };
    },
    async close() {
      await Promise.all([rows.close(), english.close()]);
    },
  };
}

/** The columns that an English original shares with its translation. */
const ENGLISH_COLUMNS = new Set(['id', 'instruction', 'input', 'output']);

/** Both files, and for each translated row the position of its English row. */
async function openAligned(path: string, englishPath: string, shape: RowShape) {
  const notes = new Notes();
  const englishNotes = new Notes();
  const columns = Object.fromEntries(Object.entries(shape.columns ?? {}).filter(([name]) => ENGLISH_COLUMNS.has(name)));
  const rows = await openTable(path, rowDecoder(shape), (decoded, place) => notes.add(decoded, place));
  const english = await openTable(englishPath, rowDecoder({ columns, language: 'English' }), (decoded, place) =>
    englishNotes.add(decoded, place),
  );
  return { rows, english, partner: align(notes, englishNotes) };
}

/** What alignment needs to know of each row of a file; let go of once the files are aligned. */
class Notes {
  readonly ids: string[] = [];
  readonly inputEmpty: boolean[] = [];
  readonly places: Place[] = [];
  /** Every row names its id. */
  ownIds = true;

  add({ item, id, ownId = false }: Decoded<Row>, place: Place): void {
    this.ids.push(id);
    this.inputEmpty.push(item.input === '');
    this.places.push(place);
    this.ownIds &&= ownId;
  }

  get path(): string {
    return this.places[0]!.path;
  }

  show(index: number): string {
    const place = this.places[index];
    return place === undefined ? 'no row' : `${this.ownIds ? `id '${this.ids[index]}', ` : ''}line ${place.line}`;
  }
}

/** How many differing rows an error shows. */
const SHOWN = 3;
/**
 * A translation has an input exactly where its original has one; a few rows lose theirs on the way, but files that are off
 * by a row disagree on a large part (about half of Alpaca's rows have an input).
 */
const MAX_INPUT_DISAGREEMENT = 0.1;

/** For each translated row the position of its English row. */
function align(translated: Notes, english: Notes): Uint32Array {
  const partner =
    translated.ownIds && english.ownIds ? alignById(translated, english) : alignByPosition(translated, english);
  const disagreeing = [...partner.keys()].filter((i) => translated.inputEmpty[i] !== english.inputEmpty[partner[i]!]);
  if (disagreeing.length > Math.max(1, MAX_INPUT_DISAGREEMENT * partner.length)) {
    throw misaligned(
      translated,
      english,
      `${disagreeing.length} of ${partner.length} rows where only one of the two has an input`,
      disagreeing.map((i) => [i, partner[i]!]),
    );
  }
  return partner;
}

function alignById(translated: Notes, english: Notes): Uint32Array {
  const byId = positionsById(english);
  positionsById(translated); // refuses ids that stand twice
  const partner = Uint32Array.from(translated.ids, (id) => byId.get(id) ?? NOWHERE);
  const unmatched = [...partner.keys()].filter((i) => partner[i] === NOWHERE);
  if (unmatched.length > 0 || translated.ids.length !== english.ids.length) {
    const known = new Set(translated.ids);
    const left = [...english.ids.keys()].filter((i) => !known.has(english.ids[i]!));
    const pairs: [number, number][] = [
      ...unmatched.map((i): [number, number] => [i, NOWHERE]),
      ...left.map((i): [number, number] => [NOWHERE, i]),
    ];
    throw misaligned(
      translated,
      english,
      `${unmatched.length} ids only in the translation and ${left.length} only in English`,
      pairs,
    );
  }
  return partner;
}

const NOWHERE = 2 ** 32 - 1;

function alignByPosition(translated: Notes, english: Notes): Uint32Array {
  const [count, englishCount] = [translated.ids.length, english.ids.length];
  if (count !== englishCount) {
    const shorter = Math.min(count, englishCount);
    // Where an input is on one side only, the files have most likely parted already.
    const parted = [...Array(shorter).keys()].filter((i) => translated.inputEmpty[i] !== english.inputEmpty[i]);
    const pairs = [...parted.slice(0, SHOWN - 1), shorter].map((i): [number, number] => [i, i]);
    throw misaligned(translated, english, `${count} rows in the translation and ${englishCount} in English`, pairs);
  }
  return Uint32Array.from({ length: count }, (_, i) => i);
}

function positionsById(notes: Notes): Map<string, number> {
  const positions = new Map<string, number>();
  for (const [i, id] of notes.ids.entries()) {
    const earlier = positions.get(id);
    if (earlier !== undefined) {
      throw new UserError({
        expected: 'each id once',
        found: `'${id}' on line ${notes.places[earlier]!.line} and again`,
        where: String(notes.places[i]),
      });
    }
    positions.set(id, i);
  }
  return positions;
}

function misaligned(translated: Notes, english: Notes, found: string, pairs: [number, number][]): UserError {
  const rows = pairs.slice(0, SHOWN).map(([t, e]) => `\n    ${translated.show(t)} | ${english.show(e)}`);
  return new UserError({
    expected: 'a translation and its English original with the same rows',
    found,
    where: `${translated.path} | ${english.path}, first differing rows:${rows.join('')}`,
    remedy: 'give both files the same rows in the same order, or an id in each row',
  });
}
