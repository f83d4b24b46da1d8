// SPDX-License-Identifier: Apache-2.0
// JSON that strangers wrote: parsed strictly and read field by field, each mistake an error that names file and key. Knows
// nothing of what the fields mean. Names that occur twice in an object are refused: JSON.parse keeps the last silently, other
// readers the first, and a file must mean one thing. Run its tests: `npm test -- checkpoints/json`.
import { UserError } from '../errors.js';
import { readTextFile } from './files.js';

export type JsonObject = { [key: string]: unknown };

/** Configurations and indexes of real models are far below; checked before the file is read. */
export const MAX_JSON_BYTES = 32 << 20;

export function readJsonObject(path: string, what: string): JsonObject {
  return parseJsonObject(readTextFile(path, what, MAX_JSON_BYTES), what, path);
}

/** @throws UserError when `text` is not one JSON object, or has a name twice. */
export function parseJsonObject(text: string, what: string, where: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new UserError({ expected: `${what}: JSON`, found: (cause as Error).message, where, cause });
  }
  if (!isObject(value)) throw new UserError({ expected: `${what}: a JSON object`, found: describe(value), where });
  const duplicate = duplicateName(text);
  if (duplicate !== undefined) {
    throw new UserError({ expected: `${what}: each name once`, found: `'${duplicate}' twice`, where });
  }
  return value;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The first name that valid JSON text has twice in one object. A loop: a pattern would run out of stack on long texts. */
function duplicateName(text: string): string | undefined {
  const open: (Set<string> | undefined)[] = []; // names so far of each open object, undefined for an array
  let mark = ''; // the last structural character: in an object, the string after `{` or `,` is a name
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!;
    if (c === '"') {
      const begin = i++;
      while (text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
      const names = open.at(-1);
      if (!names || mark === ':') continue;
      const name = JSON.parse(text.slice(begin, i + 1)) as string;
      if (names.has(name)) return name;
      names.add(name);
    } else if ('{[]},:'.includes(c)) {
      mark = c;
      if (c === '{') open.push(new Set());
      else if (c === '[') open.push(undefined);
      else if (c === '}' || c === ']') open.pop();
    }
  }
  return undefined;
}

const MAX_PICTURE_LENGTH = 80;

/** A short picture of a JSON value for error messages, at a cost that does not grow with the value. */
export function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = picture(value, 3);
  return text.length > MAX_PICTURE_LENGTH ? `${text.slice(0, MAX_PICTURE_LENGTH - 3)}…` : text;
}

function picture(value: unknown, depth: number): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, MAX_PICTURE_LENGTH));
  if (typeof value !== 'object' || value === null) return String(value);
  const [open, close] = Array.isArray(value) ? '[]' : '{}';
  if (depth === 0) return `${open}…${close}`;
  const parts: string[] = [];
  for (const key in value) {
    if (parts.length > MAX_PICTURE_LENGTH / 2) break; // more is cut anyway
    const inner = picture((value as JsonObject)[key], depth - 1);
    parts.push(Array.isArray(value) ? inner : `${JSON.stringify(key)}:${inner}`);
  }
  return `${open}${parts.join(',')}${close}`;
}

/** Typed access to the fields of an object. A field that is absent or null takes the default, and is an error without one. */
export class Fields {
  readonly #object: JsonObject;
  readonly #where: string;
  readonly #prefix: string;

  /** @param prefix path of the object within its file, as `rope_scaling.`, for error messages */
  constructor(object: JsonObject, where: string, prefix = '') {
    this.#object = object;
    this.#where = where;
    this.#prefix = prefix;
  }

  keys(): string[] {
    return Object.keys(this.#object);
  }

  /** The raw value; undefined when absent. Never what JavaScript objects inherit. */
  get(key: string): unknown {
    return Object.hasOwn(this.#object, key) ? this.#object[key] : undefined;
  }

  has(key: string): boolean {
    return this.get(key) !== undefined && this.get(key) !== null;
  }

  wholeNumber(key: string, range: { min: number; max: number; default?: number }): number {
    const value = this.get(key) ?? range.default;
    if (!Number.isSafeInteger(value) || (value as number) < range.min || (value as number) > range.max) {
      throw this.error(key, `a whole number from ${range.min} to ${range.max}`, value);
    }
    return value as number;
  }

  /** A finite number; `above` excludes its bound. */
  number(key: string, range: { above?: number; min?: number; below?: number; default?: number }): number {
    const value = this.get(key) ?? range.default;
    const {
      above = Number.NEGATIVE_INFINITY,
      min = Number.NEGATIVE_INFINITY,
      below = Number.POSITIVE_INFINITY,
    } = range;
    if (typeof value !== 'number' || !(value > above && value >= min && value < below)) {
      const bounds = [
        range.above !== undefined ? `> ${above}` : '',
        range.min !== undefined ? `≥ ${min}` : '',
        range.below !== undefined ? `< ${below}` : '',
      ];
      throw this.error(key, `a number ${bounds.filter(Boolean).join(' and ')}`.trim(), value);
    }
    return value;
  }

  boolean(key: string, byDefault: boolean): boolean {
    const value = this.get(key) ?? byDefault;
    if (typeof value !== 'boolean') throw this.error(key, 'true or false', value);
    return value;
  }

  string(key: string, byDefault?: string): string {
    const value = this.get(key) ?? byDefault;
    if (typeof value !== 'string') throw this.error(key, 'a text', value);
    return value;
  }

  /** An object's fields; undefined when absent or null. */
  object(key: string): Fields | undefined {
    const value = this.get(key) ?? undefined;
    if (value === undefined) return undefined;
    if (!isObject(value)) throw this.error(key, 'an object', value);
    return new Fields(value, this.#where, `${this.#prefix}${key}.`);
  }

  error(key: string, expected: string, value: unknown = this.get(key), remedy?: string): UserError {
    return new UserError({
      expected: `${this.#prefix}${key}: ${expected}`,
      found: describe(value),
      where: this.#where,
      remedy,
    });
  }
}
