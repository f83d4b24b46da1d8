// SPDX-License-Identifier: Apache-2.0
// Rows by position, from text files: a file or folder by itself, or a translated one beside its English original. Aligns the
// two by id where both have ids of their own, else by position, and refuses files that are not translations of each other: a
// pair that is off by one row trains a model to answer another question. Knows nothing of tasks and tokens.
import { createHash } from 'node:crypto';
import { UserError } from '../errors.js';
import { dataFiles } from './files/data-files.js';
import { type OnBad, Place } from './files/place.js';
import { factsOfPath } from './mits.js';
import { type OpenOptions, openTable, type RecordTable } from './record-table.js';
import { fileRowDecoder, type ReadRow, type RowFileOptions } from './row-files.js';
import { isRowStore, openRowStore } from './row-store.js';
import type { DecodedRow, Row, RowShape } from './rows.js';

export interface RowSourceOptions extends RowShape {
  /** A JSONL file, a JSON array, or a folder of these; or imported rows, of which `language` chooses one. */
  path: string;
  /** The English original of the same rows: adds `english` to each row. Its columns are named like those of `path`. */
  english?: string | Original;
  /** Takes the fault of a bad row, which is left out; without it the fault is thrown. */
  onBad?: OnBad | undefined;
}

/** Opens rows for reading by position; every row is checked once before this returns. */
export async function openRows(options: RowSourceOptions): Promise<RecordTable<Row>> {
  const { path, english, onBad, ...shape } = options;
  if (english === undefined) return openOne(path, shape, onBad && { onBad });
  const original = typeof english === 'string' ? await openOriginal(english, shape.columns, onBad) : english;
  const { rows } = await openPair({ path, onBad, ...shape }, original);
  return {
    ...rows,
    async close() {
      await rows.close();
      if (original !== english) await original.rows.close();
    },
  };
}

/** The rows of a translation beside its original, in order. */
export async function* readBeside(options: RowFileOptions, original: Original): AsyncGenerator<ReadRow> {
  const { rows, notes } = await openPair(options, original);
  try {
    for (let i = 0; i < rows.count; i++) {
      const item = await rows.read(i);
      const row: ReadRow = { item, id: item.id, place: notes.places[i]! };
      if (notes.ownIds) row.ownId = true;
      yield row;
    }
  } finally {
    await rows.close();
  }
}

/** A translation with English text from its original. Closing it leaves the original open. */
async function openPair({ path, onBad, ...shape }: RowFileOptions, original: Original) {
  const notes = new Notes(path);
  const translated = await openOne(path, shape, notes.taking(onBad));
  const partner = align(notes, original.notes);
  const rows: RecordTable<Row> = {
    ...translated,
    fingerprint: createHash('sha256').update(`${translated.fingerprint} ${original.rows.fingerprint}`).digest('hex'),
    async read(index) {
      const row = await translated.read(index);
      const at = partner[index]!;
      if (at === NOWHERE) return row;
      const { instruction, input, output } = await original.rows.read(at);
      return { ...row, english: { instruction, input, output } };
    },
  };
  return { rows, notes };
}

/** An English original that is read beside several translations. Whoever opens it closes it. */
export interface Original {
  readonly rows: RecordTable<Row>;
  readonly notes: Notes;
}

/** The columns that an English original shares with its translation. */
const ENGLISH_COLUMNS = new Set(['id', 'instruction', 'input', 'output']);

export async function openOriginal(path: string, columns?: RowShape['columns'], onBad?: OnBad): Promise<Original> {
  const notes = new Notes(path);
  const own = Object.entries(columns ?? {}).filter(([name]) => ENGLISH_COLUMNS.has(name));
  const shape = { ...(columns && { columns: Object.fromEntries(own) }), language: 'English' };
  return { rows: await openOne(path, shape, notes.taking(onBad)), notes };
}

/** Rows of one file or folder. */
async function openOne(
  path: string,
  shape: RowShape,
  options: OpenOptions<DecodedRow> = {},
): Promise<RecordTable<Row>> {
  if (isRowStore(path)) {
    const rows = await openRowStore(path, shape.language);
    for (let i = 0; options.visit && i < rows.count; i++) {
      const row = await rows.read(i);
      options.visit({ item: row, id: row.id, ownId: true }, new Place(path, i), i);
    }
    return rows;
  }
  // What a path says of its rows is part of them; the path itself is not.
  const facts = (await dataFiles(path)).map(factsOfPath);
  const rows = await openTable(path, fileRowDecoder(shape), options);
  const fingerprint = createHash('sha256')
    .update(JSON.stringify([shape, facts, rows.fingerprint]))
    .digest('hex');
  return { ...rows, fingerprint };
}

/** What alignment needs to know of each row of a file; let go of once the files are aligned. */
export class Notes {
  readonly ids: string[] = [];
  readonly languages: string[] = [];
  readonly inputEmpty: boolean[] = [];
  readonly places: Place[] = [];
  /** How many rows stand before each, bad ones too. */
  readonly ordinals: number[] = [];
  /** Rows, bad ones too. */
  total = 0;
  /** Every row names its id. */
  ownIds = true;

  constructor(readonly path: string) {}

  /** Options that fill these notes as rows are opened. */
  taking(onBad: OnBad | undefined): OpenOptions<DecodedRow> {
    const visit = this.add.bind(this);
    if (!onBad) return { visit };
    const takeBad: OnBad = (fault, count) => {
      this.total += count;
      onBad(fault, count);
    };
    return { visit, onBad: takeBad };
  }

  private add({ item, id, ownId = false }: DecodedRow, place: Place, ordinal: number): void {
    this.ids.push(id);
    this.languages.push(item.language);
    this.inputEmpty.push(item.input === '');
    this.places.push(place);
    this.ordinals.push(ordinal);
    this.ownIds &&= ownId;
    this.total++;
  }

  show(index: number): string {
    const place = this.places[index];
    return place === undefined ? 'no row' : `${this.ownIds ? `id '${this.ids[index]}', ` : ''}${place.short}`;
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
  const disagreeing = [...partner.keys()].filter(
    (i) => partner[i] !== NOWHERE && translated.inputEmpty[i] !== english.inputEmpty[partner[i]!],
  );
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
  const known = new Set(translated.ids);
  const left = [...english.ids.keys()].filter((i) => !known.has(english.ids[i]!));
  // A bad row on one side leaves one without a partner on the other.
  const bad = (notes: Notes) => notes.total - notes.ids.length;
  if (unmatched.length > bad(english) || left.length > bad(translated)) {
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
  const byOrdinal = new Map(english.ordinals.map((ordinal, i) => [ordinal, i]));
  const partner = Uint32Array.from(translated.ordinals, (ordinal) => byOrdinal.get(ordinal) ?? NOWHERE);
  if (translated.total === english.total) return partner;
  // Where an input is on one side only, the files have most likely parted already.
  const parted = [...partner.keys()].filter(
    (i) => partner[i] !== NOWHERE && translated.inputEmpty[i] !== english.inputEmpty[partner[i]!],
  );
  const shorter = Math.min(translated.total, english.total);
  const after = (notes: Notes) => notes.ordinals.indexOf(shorter);
  throw misaligned(translated, english, `${translated.total} rows in the translation and ${english.total} in English`, [
    ...parted.slice(0, SHOWN - 1).map((i): [number, number] => [i, partner[i]!]),
    [after(translated), after(english)],
  ]);
}

/** @throws UserError where an id stands twice in one language */
function positionsById(notes: Notes): Map<string, number> {
  const positions = new Map<string, number>();
  const oneLanguage = notes.languages.every((language) => language === notes.languages[0]);
  for (const [i, id] of notes.ids.entries()) {
    const key = oneLanguage ? id : `${notes.languages[i]} ${id}`;
    const earlier = positions.get(key);
    if (earlier !== undefined) {
      throw new UserError({
        expected: 'each id once',
        found: `'${id}' on ${notes.places[earlier]!.short} and again`,
        where: String(notes.places[i]),
      });
    }
    positions.set(key, i);
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
