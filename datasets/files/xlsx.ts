// SPDX-License-Identifier: Apache-2.0
// Records from the first sheet of a spreadsheet: the first row names the columns. Reads values as text and numbers; knows no
// formulas, dates or styles. The XML is walked by its tags, which the format's writers do not vary.
import type { FileHandle } from 'node:fs/promises';
import { posix } from 'node:path';
import { UserError } from '../../errors.js';
import { Place, type RawRecord } from './place.js';
import { ZipArchive } from './zip.js';

/** The rows of a spreadsheet's first sheet, in order. */
export async function* readXlsx(handle: FileHandle, path: string): AsyncGenerator<RawRecord> {
  const archive = await ZipArchive.open(handle, path);
  const part = (name: string): string => {
    const contents = archive.read(name);
    if (contents) return contents.toString('utf8');
    throw new UserError({ expected: 'an XLSX spreadsheet', found: `an archive without ${name}`, where: path });
  };
  const sheet = part(firstSheet(part));
  const shared = [...(archive.read('xl/sharedStrings.xml')?.toString('utf8') ?? '').matchAll(/<si>(.*?)<\/si>/gs)].map(
    ([, item]) => textOf(item!),
  );
  let names: string[] | undefined;
  let position = 0;
  for (const [, cells] of sheet.matchAll(/<row\b[^>]*?(?:\/>|>(.*?)<\/row>)/gs)) {
    const values = rowOf(cells ?? '', shared);
    if (values.length === 0) continue;
    if (names === undefined) {
      names = Array.from(values, (value, i) => (value === undefined ? columnName(i) : String(value)));
      continue;
    }
    const value = Object.fromEntries(names.map((name, i) => [name, values[i] ?? null]));
    yield { value, place: new Place(path, position++) };
  }
}

/** The part that holds the first sheet, by way of the workbook's relations. */
function firstSheet(part: (name: string) => string): string {
  const id = /<sheet\b[^>]*?\br:id="([^"]*)"/.exec(part('xl/workbook.xml'))?.[1];
  for (const [relation] of part('xl/_rels/workbook.xml.rels').matchAll(/<Relationship\b[^>]*>/g)) {
    const target = /\bTarget="([^"]*)"/.exec(relation)?.[1];
    if (target && /\bId="([^"]*)"/.exec(relation)?.[1] === id) return posix.resolve('/xl', unescaped(target)).slice(1);
  }
  return 'xl/worksheets/sheet1.xml';
}

/** The cells of a row by their columns; empty ones are not there. */
function rowOf(xml: string, shared: readonly string[]): (string | number | undefined)[] {
  const values: (string | number | undefined)[] = [];
  for (const [, attributes, content = ''] of xml.matchAll(/<c\b([^>]*?)(?:\/>|>(.*?)<\/c>)/gs)) {
    const reference = /\br="([A-Z]{1,3})\d+"/.exec(attributes!)?.[1];
    const column = reference === undefined ? values.length : columnIndex(reference);
    const type = /\bt="([^"]*)"/.exec(attributes!)?.[1] ?? 'n';
    const raw = /<v\b[^>]*>(.*?)<\/v>/s.exec(content)?.[1];
    if (type === 'inlineStr') values[column] = textOf(content);
    else if (raw === undefined) continue;
    else if (type === 's') values[column] = shared[Number(raw)];
    else values[column] = type === 'n' ? Number(raw) : unescaped(raw);
  }
  return values;
}

/** The text of runs; phonetic guides above them are not part of it. */
function textOf(xml: string): string {
  const runs = xml.replace(/<rPh\b.*?<\/rPh>/gs, '').matchAll(/<t\b[^>]*?(?:\/>|>(.*?)<\/t>)/gs);
  return Array.from(runs, ([, run = '']) => unescaped(run)).join('');
}

const NAMED: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

/** XML's entities, and `_x000D_`, the format's way to write what XML cannot. */
function unescaped(xml: string): string {
  const text = xml.replace(/&(?:#x([0-9a-fA-F]{1,6})|#(\d{1,7})|(\w+));/g, (whole, hex, decimal, name) => {
    if (name !== undefined) return NAMED[name] ?? whole;
    const code = hex === undefined ? Number(decimal) : Number.parseInt(hex, 16);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
  return text.replace(/_x([0-9a-fA-F]{4})_/g, (_, code) => String.fromCharCode(Number.parseInt(code, 16)));
}

/** A → 0, Z → 25, AA → 26. */
const columnIndex = (letters: string) => [...letters].reduce((n, letter) => n * 26 + letter.charCodeAt(0) - 64, 0) - 1;

function columnName(index: number): string {
  return (index >= 26 ? columnName(Math.floor(index / 26) - 1) : '') + String.fromCharCode(65 + (index % 26));
}
