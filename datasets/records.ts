// SPDX-License-Identifier: Apache-2.0
// JSON values from a file, one at a time: JSONL by lines, a JSON array by its top-level elements. Which of the two a file is
// shows in its first character, not in its name, since published files are misnamed. Never holds more than one chunk and one
// record; knows nothing of what the values mean. Every fault is told with line (from 1) and byte (from 0), and the records
// before it have been given by then.
import { type FileHandle, open } from 'node:fs/promises';
import { UserError } from '../errors.js';
import { jsonFault } from './json-fault.js';

/** Where a record stands; printed, it is what an error shows. */
export class Place {
  constructor(
    readonly path: string,
    /** From 1. */
    readonly line: number,
    /** First byte in the file, from 0. */
    readonly byte: number,
    /** Which record of its file, from 0. */
    readonly position: number,
  ) {}

  toString(): string {
    return `${this.path}, line ${this.line}, byte ${this.byte}`;
  }
}

/** A record's bytes and where they stand. */
export interface Frame {
  bytes: Uint8Array;
  place: Place;
}

/** An item read from a record, with the id of the row it belongs to. */
export interface Decoded<Item> {
  item: Item;
  id: string;
  /** The id is the record's own, not just its position. */
  ownId?: boolean;
}

/** A chunk read at once: large enough to hide the calls, small beside everything else. */
const CHUNK_BYTES = 1 << 20;
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

/** Opens a file for reading; says what is wrong where it cannot be. */
export async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    throw new UserError({
      expected: 'a readable data file',
      found: code === 'ENOENT' ? 'nothing there' : String(code),
      where: path,
      cause,
    });
  }
}

/** The records of a file, unparsed, in order. `onBytes` sees every byte of the file once: for a hash of the content. */
export async function* readFrames(path: string, onBytes?: (bytes: Uint8Array) => void): AsyncGenerator<Frame> {
  const handle = await openFile(path);
  try {
    const chunks = readChunks(handle, path, onBytes);
    const first = await firstCharacter(chunks);
    if (first === undefined) {
      throw new UserError({ expected: 'at least one row', found: 'an empty file', where: path });
    }
    const { character, rest } = first;
    if (character === OPEN_BRACKET) yield* arrayElements(rest, path);
    else if (character === OPEN_BRACE) yield* lines(rest, path);
    else {
      throw new UserError({
        expected: "JSONL (beginning with '{') or a JSON array (beginning with '[')",
        found: `byte 0x${character.toString(16).padStart(2, '0')} first`,
        where: path,
      });
    }
  } finally {
    await handle.close();
  }
}

/** A frame's JSON value. */
export function parseFrame({ bytes, place }: Frame): unknown {
  const text = decodeUtf8(bytes, place);
  try {
    return JSON.parse(text);
  } catch (cause) {
    // A text without a fault: JSON.parse refused what the grammar allows, which is not the user's doing.
    throw brokenJson(text, place, 'the end of the row')?.error ?? cause;
  }
}

/** The error for broken JSON; `cut` where the text only ends too early. */
function brokenJson(text: string, place: Place, end: string): { error: UserError; cut: boolean } | undefined {
  const fault = jsonFault(text);
  if (fault === undefined) return undefined;
  const before = text.slice(0, fault.offset);
  const line = place.line + before.split('\n').length - 1;
  const cut = fault.found === 'the end';
  const error = new UserError({
    expected: `JSON with ${fault.expected}`,
    found: cut ? end : fault.found,
    where: String(new Place(place.path, line, place.byte + Buffer.byteLength(before), place.position)),
  });
  return { error, cut };
}

interface Chunk {
  bytes: Buffer;
  /** Of the chunk's first byte in the file. */
  offset: number;
}

async function* readChunks(
  handle: FileHandle,
  path: string,
  onBytes?: (bytes: Uint8Array) => void,
): AsyncGenerator<Chunk> {
  for (let offset = 0; ; ) {
    // A fresh buffer each time: a record that crosses chunks keeps a view of the old one.
    const { bytesRead, buffer } = await handle
      .read(Buffer.allocUnsafe(CHUNK_BYTES), 0, CHUNK_BYTES, offset)
      .catch((cause) => {
        throw new UserError({
          expected: 'a readable data file',
          found: String(cause.code ?? cause),
          where: path,
          cause,
        });
      });
    if (bytesRead === 0) return;
    const bytes = buffer.subarray(0, bytesRead);
    onBytes?.(bytes);
    const mark = offset === 0 ? byteOrderMark(bytes, path) : 0;
    yield { bytes: bytes.subarray(mark), offset: offset + mark };
    offset += bytesRead;
  }
}

/** The length of a UTF-8 byte order mark; UTF-16 is refused by name. */
function byteOrderMark(bytes: Uint8Array, path: string): number {
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) return 3;
  if ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff)) {
    throw new UserError({ expected: 'text in UTF-8', found: 'UTF-16', where: path, remedy: 'save it as UTF-8' });
  }
  return 0;
}

const isSpace = (byte: number) => byte === 0x20 || byte === NEWLINE || byte === 0x0d || byte === 0x09;

/** The first byte that is no white space, and the chunks with nothing taken from them. */
async function firstCharacter(
  chunks: AsyncGenerator<Chunk>,
): Promise<{ character: number; rest: AsyncGenerator<Chunk> } | undefined> {
  const seen: Chunk[] = [];
  for (;;) {
    const { value: chunk, done } = await chunks.next();
    if (done) return undefined;
    seen.push(chunk);
    const character = chunk.bytes.find((byte) => !isSpace(byte));
    if (character === undefined) continue;
    const rest = (async function* () {
      yield* seen;
      yield* chunks;
    })();
    return { character, rest };
  }
}

/** Gathers a record's bytes across chunks, up to the limit. */
class Gathering {
  private readonly parts: Buffer[] = [];
  private bytes = 0;

  constructor(readonly place: Place) {}

  add(part: Buffer): void {
    this.bytes += part.length;
    this.parts.push(part);
    if (this.bytes <= MAX_RECORD_BYTES) return;
    const broken = this.broken(''); // most likely a lost quote or bracket, which this tells exactly
    if (broken && !broken.cut) throw broken.error;
    throw new UserError({
      expected: `a row of at most ${MAX_RECORD_BYTES >> 20} MiB`,
      found: `more than ${this.bytes} bytes without its end`,
      where: String(this.place),
    });
  }

  /** What is wrong with the bytes so far, which may end within a character. */
  broken(end: string): { error: UserError; cut: boolean } | undefined {
    return brokenJson(new TextDecoder().decode(this.frame().bytes), this.place, end);
  }

  frame(): Frame {
    return { bytes: this.parts.length === 1 ? this.parts[0]! : Buffer.concat(this.parts), place: this.place };
  }
}

/** JSONL. Blank lines are passed over; a carriage return before the line feed is white space to JSON. */
async function* lines(chunks: AsyncIterable<Chunk>, path: string): AsyncGenerator<Frame> {
  let line = 1;
  let position = 0;
  let gathering: Gathering | undefined;
  for await (const { bytes, offset } of chunks) {
    for (let from = 0; from < bytes.length; ) {
      const newline = bytes.indexOf(NEWLINE, from);
      const end = newline < 0 ? bytes.length : newline;
      gathering ??= new Gathering(new Place(path, line, offset + from, position));
      gathering.add(bytes.subarray(from, end));
      from = end + 1;
      if (newline < 0) break;
      const frame = gathering.frame();
      gathering = undefined;
      line++;
      if (frame.bytes.every(isSpace)) continue;
      position++;
      yield frame;
    }
  }
  const last = gathering?.frame(); // the last line need not end in a line feed
  if (last && !last.bytes.every(isSpace)) yield last;
}

/** Finds the end of an object byte by byte, across chunks; only strings and brackets matter, JSON.parse checks the rest. */
class ObjectEnd {
  lines = 0;
  private depth = 0;
  private inString = false;
  private escaped = false;

  /** The index after the closing brace, or −1 where the object goes on beyond these bytes. */
  find(bytes: Uint8Array, from: number): number {
    for (let i = from; i < bytes.length; i++) {
      const byte = bytes[i]!;
      if (byte === NEWLINE) this.lines++;
      if (this.escaped) this.escaped = false;
      else if (this.inString) {
        if (byte === BACKSLASH) this.escaped = true;
        else if (byte === QUOTE) this.inString = false;
      } else if (byte === QUOTE) this.inString = true;
      else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) this.depth++;
      else if ((byte === CLOSE_BRACE || byte === CLOSE_BRACKET) && --this.depth === 0) return i + 1;
    }
    return -1;
  }
}

/** The top-level elements of a JSON array, which must be objects. */
async function* arrayElements(chunks: AsyncIterable<Chunk>, path: string): AsyncGenerator<Frame> {
  let next: 'open' | 'first' | 'comma' | 'element' | 'nothing' = 'open';
  let line = 1;
  let position = 0;
  let end: ObjectEnd | undefined;
  let gathering: Gathering | undefined;
  let fileEnd = 0;
  const wants = {
    open: "'['",
    first: "'{' or ']'",
    comma: "',' or ']' after a row",
    element: "'{' for the next row",
    nothing: "nothing after the array's ']'",
  };
  const fault = (found: string, byte: number) =>
    new UserError({
      expected: `a JSON array with ${wants[next]}`,
      found,
      where: String(new Place(path, line, byte, position)),
    });

  for await (const { bytes, offset } of chunks) {
    fileEnd = offset + bytes.length;
    for (let i = 0; i < bytes.length; ) {
      const byte = bytes[i]!;
      if (end === undefined) {
        if (byte === NEWLINE) line++;
        if (isSpace(byte)) i++;
        else if (byte === OPEN_BRACE && (next === 'first' || next === 'element')) {
          end = new ObjectEnd();
          gathering = new Gathering(new Place(path, line, offset + i, position));
        } else if (byte === OPEN_BRACKET && next === 'open') [next, i] = ['first', i + 1];
        else if (byte === COMMA && next === 'comma') [next, i] = ['element', i + 1];
        else if (byte === CLOSE_BRACKET && (next === 'comma' || next === 'first')) [next, i] = ['nothing', i + 1];
        else throw fault(`'${String.fromCharCode(byte)}'`, offset + i);
        continue;
      }
      const stop = end.find(bytes, i);
      gathering!.add(bytes.subarray(i, stop < 0 ? bytes.length : stop));
      if (stop < 0) break;
      const frame = gathering!.frame();
      line += end.lines;
      [end, gathering, next, i] = [undefined, undefined, 'comma', stop];
      position++;
      yield frame;
    }
  }
  if (gathering) throw gathering.broken('the end of the file')!.error; // cut off inside a row: tells what is missing
  if (next !== 'nothing') throw fault('the end of the file', fileEnd);
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function decodeUtf8(bytes: Uint8Array, place: Place): string {
  try {
    return utf8.decode(bytes);
  } catch (cause) {
    const at = validUtf8Bytes(bytes);
    throw new UserError({
      expected: 'text in UTF-8',
      found: `byte 0x${bytes[at]?.toString(16).padStart(2, '0')}, which does not belong to a character`,
      where: String(new Place(place.path, place.line, place.byte + at, place.position)),
      remedy: 'save the file as UTF-8, or repair the row',
      cause,
    });
  }
}

/** How many bytes at the start are whole characters. */
function validUtf8Bytes(bytes: Uint8Array): number {
  const valid = (length: number, stream: boolean) => {
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length), { stream });
      return true;
    } catch {
      return false;
    }
  };
  // Halving: while a character may still go on, a longer prefix of a bad one is never good.
  let good = 0;
  let bad = bytes.length + 1;
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (valid(middle, true)) good = middle;
    else bad = middle;
  }
  while (!valid(good, false)) good--; // back to the start of a character that was cut short
  return good;
}
