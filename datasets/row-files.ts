// SPDX-License-Identifier: Apache-2.0
// Rows from files of any format, as a stream: each file by the columns it has and by what its path says of it. Knows which
// rows are ready-made chains and which of those lack their labels; nothing of what rows are used for.

import { UserError } from '../errors.js';
import { dataFiles } from './files/data-files.js';
import { attempt, BAD, type OnBad, Place } from './files/place.js';
import { readRecords } from './files/records.js';
import { factsOfPath, recordShape } from './mits.js';
import { isOfStore, isRowStore, openRowStore } from './row-store.js';
import { type DecodedRow, type Row, type RowShape, rowDecoder } from './rows.js';

export interface RowFileOptions extends RowShape {
  /** A file in any format that can be read, or a folder of these. */
  path: string;
  /** Takes the fault of a row that cannot be read or used; without it the fault is thrown. */
  onBad?: OnBad | undefined;
}

export interface ReadRow extends DecodedRow {
  place: Place;
  /** Among ready-made chains, a row without their labels: about one in six of those published. It has no English text. */
  unlabelled?: true;
}

/** The rows of a file or folder, imported ones included, in order. */
export async function* readRowFiles({ path, onBad, ...shape }: RowFileOptions): AsyncGenerator<ReadRow> {
  if (isRowStore(path)) return yield* readRowStore(path, shape.language);
  const decode = fileRowDecoder(shape);
  for (const file of await dataFiles(path)) {
    const readyMade = (shape.source ?? factsOfPath(file).source) === 'taco';
    for await (const { value, place } of readRecords(file, onBad ? { onBad } : {})) {
      const decoded = attempt(() => decode(value, place), onBad);
      if (decoded === BAD) continue;
      const row: ReadRow = { ...decoded, place };
      if (readyMade && decoded.chain === undefined) row.unlabelled = true;
      yield row;
    }
  }
}

async function* readRowStore(path: string, language: string | undefined): AsyncGenerator<ReadRow> {
  const rows = await openRowStore(path, language);
  try {
    for (let i = 0; i < rows.count; i++) {
      const item = await rows.read(i);
      yield { item, id: item.id, ownId: true, place: new Place(path, i) };
    }
  } finally {
    await rows.close();
  }
}

/** As readRowFiles, the rows alone. */
export async function* readRows(options: RowFileOptions): AsyncGenerator<Row> {
  for await (const { item } of readRowFiles(options)) yield item;
}

/** A decoder for the rows of several files. The first record of each shows what columns it has. */
export function fileRowDecoder(shape: RowShape): (value: unknown, place: Place) => DecodedRow {
  const byPath = new Map<string, (value: unknown, place: Place) => DecodedRow>();
  return (value, place) => {
    let decode = byPath.get(place.path);
    if (!decode) {
      decode = decoderOf(shape, value, place.path);
      byPath.set(place.path, decode);
    }
    return decode(value, place);
  };
}

function decoderOf(shape: RowShape, first: unknown, path: string): (value: unknown, place: Place) => DecodedRow {
  if (!shape.columns && isOfStore(first)) {
    throw new UserError({
      expected: 'an imported folder as a whole',
      found: 'one of its files, or an import that was cut short',
      where: path,
      remedy: 'name the folder; where it has no import.json, import the rows again',
    });
  }
  const facts = factsOfPath(path);
  const { language = facts.language, source = facts.source, columns } = shape;
  const decode = rowDecoder({
    ...(columns && { columns }),
    ...(language !== undefined && { language }),
    ...(source !== undefined && { source }),
  });
  const reshape = columns ? undefined : recordShape(first, facts);
  if (!reshape) return decode;
  const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;
  return (value, place) => decode(isObject(value) ? reshape(value) : value, place);
}
