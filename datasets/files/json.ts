// SPDX-License-Identifier: Apache-2.0
// JSON values from a stream of bytes, one at a time: JSONL by lines, a JSON array by its top-level elements. Which of the two
// a text is shows in its first character, not in its name, since published files are misnamed. Holds one record and what was
// read with it; knows nothing of what the values mean. Every fault is told with line and byte, the records before it have
// been given by then, and where faults are collected instead of thrown, reading goes on with the next record that stands.
import { UserError } from '../../errors.js';
import { jsonFault } from './json-fault.js';
import { attempt, BAD, type OnBad, Place, type RawRecord } from './place.js';
import { decodeUtf8, validUtf8Bytes } from './utf8.js';

/** A training row has kilobytes. Without a limit, one lost quote or newline would take in the rest of the file. */
const MAX_RECORD_BYTES = 16 << 20;

const NEWLINE = 0x0a;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const COMMA = 0x2c;

const isSpace = (byte: number | undefined) => byte === 0x20 || byte === NEWLINE || byte === 0x0d || byte === 0x09;

/** The records of a JSON text. `path` names it in errors; with `onBad` bad records are passed over. */
export async function* readJson(
  chunks: AsyncIterable<Uint8Array>,
  path: string,
  onBad?: OnBad,
): AsyncGenerator<RawRecord & { bytes: number }> {
  const window = new Window(chunks[Symbol.asyncIterator]());
  try {
    await window.advance(0);
    const start = byteOrderMark(window.bytes, path);
    const first = await firstCharacter(window, start);
    if (first === undefined) {
      throw new UserError({ expected: 'at least one row', found: 'an empty file', where: path });
    }
    if (first === OPEN_BRACKET) yield* new ArrayReader(window, path, start, onBad).records();
    else if (first === OPEN_BRACE) yield* lines(window, path, start, onBad);
    else {
      throw new UserError({
        expected: "JSONL (beginning with '{') or a JSON array (beginning with '[')",
        found: `byte 0x${first.toString(16).padStart(2, '0')} first`,
        where: path,
      });
    }
  } finally {
    await window.close();
  }
}

/** A record's bytes as a value. */
export function parseJson(bytes: Uint8Array, place: Place): unknown {
  const text = textOf(bytes, place);
  try {
    return JSON.parse(text);
  } catch (cause) {
    // A text without a fault: JSON.parse refused what the grammar allows, which is not the user's doing.
    throw brokenJson(text, place, 'the end of the row')?.error ?? cause;
  }
}

/** A stretch of the text: what has been read and not yet let go of. */
class Window {
  bytes = Buffer.alloc(0);
  /** Of `bytes[0]` in the text. */
  offset = 0;
  ended = false;

  constructor(private readonly chunks: AsyncIterator<Uint8Array>) {}

  /** Lets go of what stands before `from` and reads on, at least as much as is kept; false, with nothing changed, at the end. */
  async advance(from: number): Promise<boolean> {
    const kept = this.bytes.subarray(from);
    let bytes = kept;
    // Doubling: a long record is looked through again only a few times.
    while (bytes.length <= 2 * kept.length && !this.ended) {
      const { value, done } = await this.chunks.next();
      if (done) this.ended = true;
      else bytes = Buffer.concat([bytes, value]);
    }
    if (bytes.length === kept.length) return false;
    this.offset += from;
    this.bytes = bytes;
    return true;
  }

  async close(): Promise<void> {
    await this.chunks.return?.();
  }
}

/** The length of a UTF-8 byte order mark; UTF-16 and UTF-32 are refused by name. */
function byteOrderMark(bytes: Uint8Array, path: string): number {
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) return 3;
  const utf16 = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
  // JSON begins with two ASCII characters: a zero byte among them is the other half of one.
  if (utf16 || bytes[0] === 0 || bytes[1] === 0) {
    throw new UserError({ expected: 'text in UTF-8', found: 'UTF-16', where: path, remedy: 'save it as UTF-8' });
  }
  return 0;
}

/** The first byte that is no white space; the window still begins where it did. */
async function firstCharacter(window: Window, start: number): Promise<number | undefined> {
  for (let at = start; ; at++) {
    if (at === window.bytes.length && !(await window.advance(0))) return undefined;
    if (!isSpace(window.bytes[at])) return window.bytes[at];
  }
}

/** JSONL. Blank lines are passed over; a carriage return before the line feed is white space to JSON. */
async function* lines(
  window: Window,
  path: string,
  start: number,
  onBad?: OnBad,
): AsyncGenerator<RawRecord & { bytes: number }> {
  let position = 0;
  for (let at = start, line = 1; ; line++) {
    let newline = window.bytes.indexOf(NEWLINE, at);
    while (newline < 0 && window.bytes.length - at <= MAX_RECORD_BYTES && (await window.advance(at))) {
      at = 0;
      newline = window.bytes.indexOf(NEWLINE);
    }
    const place = new Place(path, position, { line, byte: window.offset + at });
    const end = newline < 0 ? window.bytes.length : newline; // the last line need not end in a line feed
    const bytes = window.bytes.subarray(at, end);
    if (bytes.length > MAX_RECORD_BYTES) {
      const fault = tooLong(bytes, place);
      if (!onBad) throw fault;
      onBad(fault, 1);
      position++;
      for (; newline < 0; newline = window.bytes.indexOf(NEWLINE)) {
        if (!(await window.advance(window.bytes.length))) return;
      }
    } else if (!bytes.every(isSpace)) {
      const value = attempt(() => parseJson(bytes, place), onBad);
      position++;
      if (value !== BAD) yield { value, place, bytes: bytes.length };
    }
    if (newline < 0) return;
    at = newline + 1;
  }
}

/** What may come next between the elements of an array. */
const WANTED = {
  open: "'['",
  first: "'{' or ']'",
  comma: "',' or ']' after a row",
  element: "'{' for the next row",
  nothing: "nothing after the array's ']'",
};

/** The top-level elements of a JSON array, which must be objects. */
class ArrayReader {
  private next: keyof typeof WANTED = 'open';
  private line = 1;
  private position = 0;

  constructor(
    private readonly window: Window,
    private readonly path: string,
    /** In the window. */
    private at: number,
    private readonly onBad?: OnBad,
  ) {}

  async *records(): AsyncGenerator<RawRecord & { bytes: number }> {
    const { window } = this;
    for (;;) {
      const byte = window.bytes[this.at];
      if (byte === undefined) {
        if (await window.advance(this.at)) this.at = 0;
        else break;
      } else if (isSpace(byte)) {
        if (byte === NEWLINE) this.line++;
        this.at++;
      } else if (byte === OPEN_BRACE && (this.next === 'first' || this.next === 'element')) {
        const record = await this.element();
        if (record) yield record;
      } else if (byte === OPEN_BRACKET && this.next === 'open') this.step('first');
      else if (byte === COMMA && this.next === 'comma') this.step('element');
      else if (byte === CLOSE_BRACKET && (this.next === 'comma' || this.next === 'first')) this.step('nothing');
      else await this.passOver(this.fault(`'${String.fromCharCode(byte)}'`), this.at, isPunctuation(byte) ? 0 : 1);
    }
    if (this.next === 'nothing') return;
    const cut = this.fault('the end of the file');
    if (!this.onBad) throw cut;
    this.onBad(cut, 0); // no record of its own: what stood here is either given or told already
  }

  private step(next: keyof typeof WANTED): void {
    this.next = next;
    this.at++;
  }

  private get place(): Place {
    return new Place(this.path, this.position, { line: this.line, byte: this.window.offset + this.at });
  }

  private fault(found: string): UserError {
    return new UserError({ expected: `a JSON array with ${WANTED[this.next]}`, found, where: String(this.place) });
  }

  /** The object that begins here, or nothing where it was bad and is passed over. */
  private async element(): Promise<(RawRecord & { bytes: number }) | undefined> {
    const { window } = this;
    let end = objectEnd(window.bytes, this.at);
    while (end < 0 && window.bytes.length - this.at <= MAX_RECORD_BYTES && (await window.advance(this.at))) {
      this.at = 0;
      end = objectEnd(window.bytes, 0);
    }
    const { place } = this;
    const bytes = window.bytes.subarray(this.at, end < 0 ? undefined : end);
    let value: unknown;
    try {
      if (bytes.length > MAX_RECORD_BYTES) throw tooLong(bytes, place);
      if (end < 0) throw brokenText(bytes, place, 'the end of the file')!.error;
      value = parseJson(bytes, place);
    } catch (fault) {
      if (!(fault instanceof UserError)) throw fault;
      await this.passOver(fault, this.at + 1);
      return undefined;
    }
    this.line += countNewlines(bytes);
    this.at = end;
    this.next = 'comma';
    this.position++;
    return { value, place, bytes: bytes.length };
  }

  /**
   * Goes on behind a fault, at the first object from `from` on that stands where an element may, is whole and is followed as
   * one. It must parse: within a broken row, where strings begin is not known.
   */
  private async passOver(fault: UserError, from: number, lost = 1): Promise<void> {
    const { window, onBad } = this;
    if (!onBad) throw fault;
    onBad(fault, lost);
    this.position += lost;
    const found = await this.nextElement(from);
    this.line += countNewlines(window.bytes.subarray(this.at, found));
    this.at = found;
    this.next = found < window.bytes.length ? 'element' : 'nothing';
  }

  /** Where the next whole element begins, or the window's end where there is none. Advances the window with `this.at`. */
  private async nextElement(from: number): Promise<number> {
    const { window } = this;
    for (let candidate = from; ; candidate++) {
      candidate = window.bytes.indexOf(OPEN_BRACE, candidate);
      if (candidate < 0) {
        // What has been searched is let go of, so that a long broken stretch is not held.
        if (!(await this.letGo(window.bytes.length))) return window.bytes.length;
        continue;
      }
      if (!followsElement(window.bytes, candidate)) continue;
      let end = objectEnd(window.bytes, candidate);
      while (end < 0 && window.bytes.length - candidate <= MAX_RECORD_BYTES) {
        if (!(await this.letGo(candidate))) break;
        candidate = 0;
        end = objectEnd(window.bytes, 0);
      }
      if (end >= 0 && isObject(window.bytes.subarray(candidate, end)) && precedesElement(window.bytes, end))
        return candidate;
    }
  }

  /** Advances the window to `to`; false, with nothing changed, where the text has no more. */
  private async letGo(to: number): Promise<boolean> {
    const lines = countNewlines(this.window.bytes.subarray(this.at, to));
    if (!(await this.window.advance(to))) return false;
    this.line += lines;
    this.at = 0;
    return true;
  }
}

/** A bracket or comma in the wrong place takes no record with it. */
const isPunctuation = (byte: number) => [OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET, COMMA].includes(byte);

/** Whether an element may begin at `at`: behind a comma, a bracket or another element, or at the start of what is held. */
function followsElement(bytes: Uint8Array, at: number): boolean {
  let before = at - 1;
  while (isSpace(bytes[before])) before--;
  const byte = bytes[before];
  return byte === undefined || byte === COMMA || byte === CLOSE_BRACE || byte === OPEN_BRACKET;
}

/** Whether what stands at `end` can follow an element; another one too, since the comma between may be what is missing. */
function precedesElement(bytes: Uint8Array, end: number): boolean {
  let after = end;
  while (isSpace(bytes[after])) after++;
  const byte = bytes[after];
  return byte === undefined || byte === COMMA || byte === CLOSE_BRACKET || byte === OPEN_BRACE;
}

function isObject(bytes: Uint8Array): boolean {
  try {
    JSON.parse(decodeUtf8(bytes));
    return true;
  } catch {
    return false;
  }
}

/** The index after the brace that closes the object at `from`, or −1 where it goes on beyond these bytes. */
function objectEnd(bytes: Buffer, from: number): number {
  let depth = 0;
  // Only strings and brackets matter here, JSON.parse checks the rest.
  for (let i = from; i < bytes.length; i++) {
    const byte = bytes[i];
    if (byte === QUOTE) {
      i = stringEnd(bytes, i);
      if (i < 0) return -1;
    } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth++;
    else if ((byte === CLOSE_BRACE || byte === CLOSE_BRACKET) && --depth === 0) return i + 1;
  }
  return -1;
}

/** The index of the quote that closes the string which `open` opens, or −1. Most of a row is text: indexOf leaps over it. */
function stringEnd(bytes: Buffer, open: number): number {
  for (let at = open + 1; ; ) {
    const quote = bytes.indexOf(QUOTE, at);
    if (quote < 0) return -1;
    let backslashes = 0;
    while (bytes[quote - 1 - backslashes] === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return quote;
    at = quote + 1;
  }
}

function countNewlines(bytes: Buffer): number {
  let count = 0;
  for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) count++;
  return count;
}

/** The error for broken JSON; `cut` where the text only ends too early. */
function brokenJson(text: string, place: Place, end: string): { error: UserError; cut: boolean } | undefined {
  const fault = jsonFault(text);
  if (fault === undefined) return undefined;
  const before = text.slice(0, fault.offset);
  const line = place.text!.line + before.split('\n').length - 1;
  const cut = fault.found === 'the end';
  const error = new UserError({
    expected: `JSON with ${fault.expected}`,
    found: cut ? end : fault.found,
    where: String(new Place(place.path, place.position, { line, byte: place.text!.byte + Buffer.byteLength(before) })),
  });
  return { error, cut };
}

/** What is wrong with bytes that may end within a character. */
function brokenText(bytes: Uint8Array, place: Place, end: string) {
  return brokenJson(new TextDecoder().decode(bytes), place, end);
}

function tooLong(bytes: Uint8Array, place: Place): UserError {
  const broken = brokenText(bytes, place, ''); // most likely a lost quote or bracket, which this tells exactly
  if (broken && !broken.cut) return broken.error;
  return new UserError({
    expected: `a row of at most ${MAX_RECORD_BYTES >> 20} MiB`,
    found: `more than ${bytes.length} bytes without its end`,
    where: String(place),
  });
}

function textOf(bytes: Uint8Array, place: Place): string {
  try {
    return decodeUtf8(bytes);
  } catch (cause) {
    const at = validUtf8Bytes(bytes);
    const { line, byte } = place.text!;
    throw new UserError({
      expected: 'text in UTF-8',
      found: `byte 0x${bytes[at]?.toString(16).padStart(2, '0')}, which does not belong to a character`,
      where: String(new Place(place.path, place.position, { line, byte: byte + at })),
      remedy: 'save the file as UTF-8, or repair the row',
      cause,
    });
  }
}
