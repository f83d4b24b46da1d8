// SPDX-License-Identifier: Apache-2.0
// A row: one instruction with its answer, in one language, with its English counterpart where that is known. Turns a parsed
// JSON value into a Row and refuses everything else with the place of the fault. Knows nothing of files, of prompts and of
// tokens; quirks of published values are levelled here and nowhere else, each with its reason (of names and layout: mits.ts).
import { nearest, UserError } from '../errors.js';
import type { Place } from './files/place.js';
import { findLanguage, languageNamed } from './languages.js';
import type { Decoded } from './record-table.js';
import { beginsTacoChain, parseTaco, type TacoParse } from './taco.js';

export interface EnglishText {
  instruction: string;
  /** Empty where there is none. */
  input: string;
  output: string;
}

export interface Row {
  /** The same for all translations of a row: what held-out splits go by. The row's own, else its position in its file. */
  id: string;
  instruction: string;
  /** Empty where there is none. */
  input: string;
  output: string;
  /** English name of the language, as TaCo's labels spell it: `Nepali`. */
  language: string;
  english?: EnglishText;
  /** Where it comes from, for people: `alpaca`. */
  source?: string;
}

/** The columns a row is read from: our name → the file's. */
export const COLUMNS = [
  'id',
  'instruction',
  'input',
  'output',
  'language',
  'source',
  'englishInstruction',
  'englishInput',
  'englishOutput',
] as const;
export type Column = (typeof COLUMNS)[number];

export interface RowShape {
  /** Where the file's names differ from ours: `{ input: 'context', output: 'response' }` for Dolly. */
  columns?: Partial<Record<Column, string>>;
  /** For rows that do not name theirs; any spelling of languages.ts. */
  language?: string;
  /** For rows that do not name theirs. */
  source?: string;
}

/**
 * What stands for "no input" in published files, besides null and a missing key: pandas turns an empty cell into NaN, which
 * a string column then holds as 'nan', and Python's str(None) gives 'None'. For the input alone: both can be true answers.
 */
const EMPTY_INPUT_MARKS = new Set(['nan', 'NaN', 'None']);

type Fields = Record<string, unknown>;

/** A row as its record has it. */
export interface DecodedRow extends Decoded<Row> {
  /** The output was a chain of TaCo's: taken apart, or `incomplete` and not used. */
  chain?: 'complete' | 'incomplete';
}

/** Reads rows of one shape. The decoder throws a UserError that names the place. */
export function rowDecoder(shape: RowShape): (value: unknown, place: Place) => DecodedRow {
  const columns = { ...shape.columns };
  for (const name of Object.keys(columns))
    if (!(COLUMNS as readonly string[]).includes(name)) throw unknownColumn(name);
  const named = Object.values(columns);
  const canonical = languageNames();
  return (value, place) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new UserError({ expected: 'a JSON object for a row', found: describe(value), where: String(place) });
    }
    const fields = value as Fields;
    for (const name of named) if (!(name in fields)) throw missingColumn(name, fields, place);
    const own = ownId(fields[columns.id ?? 'id'], columns.id ?? 'id', place);
    const instruction = requireText(fields, columns.instruction ?? 'instruction', place);
    if (instruction.trim() === '') {
      throw new UserError({
        expected: 'an instruction that is not empty',
        found: 'an empty one',
        where: String(place),
      });
    }
    const output = requireText(fields, columns.output ?? 'output', place);
    const input = optionalInput(fields, columns.input ?? 'input', place);
    const language = fields[columns.language ?? 'language'] ?? shape.language;
    const chain = beginsTacoChain(output) ? readChain(output, language) : undefined;
    const english = englishOf(fields, columns, place) ?? chain?.english;
    const row: Row = {
      id: own ?? String(place.position),
      instruction,
      input,
      output: chain ? chain.answer : output,
      language: canonical(language ?? chain?.language, columns.language ?? 'language', place),
    };
    if (english) row.english = english;
    const source = fields[columns.source ?? 'source'] ?? shape.source;
    if (typeof source === 'string') row.source = source;
    const decoded: DecodedRow = { item: row, id: row.id };
    if (own !== undefined) decoded.ownId = true;
    if (chain) decoded.chain = chain.answer === '' ? 'incomplete' : 'complete';
    return decoded;
  };
}

/**
 * What a chain holds. Its final answer must be labelled with the row's language, in whatever spelling. Where there is none,
 * nothing of it is used: the answer is empty, which is counted wherever the row is read, and the English before it was most
 * likely cut off in a loop, as in the published responses.
 */
function readChain(output: string, rowLanguage: unknown): { english?: EnglishText; answer: string; language?: string } {
  const wanted = typeof rowLanguage === 'string' ? findLanguage(rowLanguage) : undefined;
  let parsed: TacoParse = parseTaco(output, wanted?.name);
  if (!parsed.complete && wanted) parsed = parseTaco(output);
  if (!parsed.complete || (wanted && findLanguage(parsed.language) !== wanted)) return { answer: '' };
  const { instruction, response, answer } = parsed.chain;
  return { english: { instruction, input: '', output: response }, answer, language: parsed.language };
}

/** English text from columns of its own where they are named, else from a nested `english` object. */
function englishOf(fields: Fields, columns: NonNullable<RowShape['columns']>, place: Place): EnglishText | undefined {
  const { englishInstruction, englishInput, englishOutput } = columns;
  if (englishInstruction !== undefined || englishInput !== undefined || englishOutput !== undefined) {
    if (englishInstruction === undefined || englishOutput === undefined) {
      throw new UserError({
        expected: 'columns englishInstruction and englishOutput named together',
        found: englishInstruction === undefined ? 'no englishInstruction' : 'no englishOutput',
        where: String(place),
      });
    }
    return {
      instruction: requireText(fields, englishInstruction, place),
      input: englishInput === undefined ? '' : optionalInput(fields, englishInput, place),
      output: requireText(fields, englishOutput, place),
    };
  }
  const nested = fields['english'];
  if (nested === undefined || nested === null) return undefined;
  if (typeof nested !== 'object' || Array.isArray(nested)) {
    throw new UserError({ expected: "an object for 'english'", found: describe(nested), where: String(place) });
  }
  const inner = nested as Fields;
  return {
    instruction: requireText(inner, 'instruction', place, 'english.'),
    input: optionalInput(inner, 'input', place, 'english.'),
    output: requireText(inner, 'output', place, 'english.'),
  };
}

function requireText(fields: Fields, name: string, place: Place, prefix = ''): string {
  const value = fields[name];
  if (value === undefined) throw missingColumn(name, fields, place, prefix);
  if (typeof value !== 'string') {
    throw new UserError({ expected: `text for '${prefix}${name}'`, found: describe(value), where: String(place) });
  }
  return wellFormed(value, `${prefix}${name}`, place);
}

function optionalInput(fields: Fields, name: string, place: Place, prefix = ''): string {
  const value = fields[name] ?? '';
  if (value === '') return value;
  if (typeof value !== 'string') {
    throw new UserError({
      expected: `text or null for '${prefix}${name}'`,
      found: describe(value),
      where: String(place),
    });
  }
  return EMPTY_INPUT_MARKS.has(value.trim()) || value.trim() === '' ? '' : wellFormed(value, `${prefix}${name}`, place);
}

/** Turns names of languages into the ones this project uses; each spelling is looked up once. */
function languageNames() {
  const known = new Map<unknown, string>();
  return (value: unknown, column: string, place: Place): string => {
    const name = known.get(value);
    if (name !== undefined) return name;
    if (typeof value !== 'string' || value.trim() === '') {
      throw new UserError({
        expected: `the row's language in '${column}', or one named for the whole source`,
        found: value === undefined ? 'neither' : describe(value),
        where: String(place),
        remedy: "name it by its English name, for example 'language: Nepali'",
      });
    }
    const found = languageNamed(value, String(place)).name;
    known.set(value, found);
    return found;
  };
}

function ownId(value: unknown, name: string, place: Place): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'string' && value !== '') return value;
  if (typeof value === 'number' && Number.isSafeInteger(value)) return String(value);
  throw new UserError({
    expected: `text or a whole number for '${name}'`,
    found: describe(value),
    where: String(place),
  });
}

/** JSON can spell half of a surrogate pair (`\ud83d`); no tokenizer can encode it, so it is refused where it stands. */
export function wellFormed(text: string, name: string, place: Place): string {
  if (text.isWellFormed()) return text;
  const at = text.search(/\p{Surrogate}/u);
  throw new UserError({
    expected: `whole characters in '${name}'`,
    found: `half of a surrogate pair (\\u${text.charCodeAt(at).toString(16)}) at character ${at}`,
    where: String(place),
  });
}

function unknownColumn(name: string): UserError {
  const near = nearest(name, COLUMNS);
  return new UserError({
    expected: `columns named by ${COLUMNS.join(', ')}`,
    found: `'${name}'`,
    remedy:
      near === undefined ? "our name comes first, the file's second: { input: context }" : `did you mean '${near}'?`,
  });
}

function missingColumn(name: string, fields: Fields, place: Place, prefix = ''): UserError {
  const near = nearest(name, Object.keys(fields));
  return new UserError({
    expected: `a column '${prefix}${name}'`,
    found: `the columns ${Object.keys(fields).join(', ') || '(none)'}`,
    where: String(place),
    remedy:
      near === undefined
        ? "map the file's names with 'columns'"
        : `did you mean '${near}'? Map the file's names with 'columns'`,
  });
}

/** A value as an error shows it: short, with its type. */
export function describe(value: unknown): string {
  if (value === null) return 'null';
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value) ?? typeof value;
  const kind = Array.isArray(value) ? 'a list' : typeof value === 'object' ? 'an object' : `a ${typeof value}`;
  return `${kind}: ${text.length > 60 ? `${text.slice(0, 57)}…` : text}`;
}
