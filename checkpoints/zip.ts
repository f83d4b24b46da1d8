// SPDX-License-Identifier: Apache-2.0
// The directory of a zip archive whose entries are stored, not compressed, as torch.save makes them: where each entry's bytes
// lie, so that they can be mapped. Reads zip64. Refuses compression, encryption and names that occur twice; checks every size
// before it reads. Run its tests: `npm test -- checkpoints/torch`.
import { UserError } from '../errors.js';
import { decodeUtf8, readExactly } from './files.js';

export interface ZipEntry {
  /** First byte of the contents within the file. */
  position: number;
  bytes: number;
  /** CRC-32 of the contents; 0 where the writer did not count it (torch can be told not to). */
  crc32: number;
}

const END_BYTES = 22;
const MAX_COMMENT_BYTES = 0xffff;
const LOCATOR_BYTES = 20;
const END64_BYTES = 56;
const CENTRAL_BYTES = 46;
const LOCAL_BYTES = 30;
/** A model of 100,000 tensors has 10 MB. */
const MAX_DIRECTORY_BYTES = 64 << 20;

const SIGNATURE = { local: 0x04034b50, central: 0x02014b50, end: 0x06054b50, end64: 0x06064b50, locator: 0x07064b50 };

/** Lists an archive. `locate` finds an entry's contents by its name. @throws UserError */
export class ZipDirectory {
  readonly names: readonly string[];
  readonly #entries = new Map<string, { header: number; bytes: number; crc32: number }>();
  readonly #file: number;
  readonly #fileBytes: number;
  readonly #path: string;

  constructor(file: number, fileBytes: number, path: string) {
    this.#file = file;
    this.#fileBytes = fileBytes;
    this.#path = path;
    const { position, bytes, entries } = this.#findDirectory();
    if (bytes > MAX_DIRECTORY_BYTES)
      throw this.#error(`a directory of at most ${MAX_DIRECTORY_BYTES} bytes`, `${bytes}`);
    this.#readDirectory(this.#read(position, bytes), entries);
    this.names = [...this.#entries.keys()];
  }

  /** Where the contents of `name` lie; undefined where there is no such entry. */
  locate(name: string): ZipEntry | undefined {
    const entry = this.#entries.get(name);
    if (!entry) return undefined;
    const local = this.#read(entry.header, LOCAL_BYTES);
    if (local.getUint32(0, true) !== SIGNATURE.local) throw this.#error(`the header of '${name}'`, 'other bytes');
    // Names and extra fields of the local header have lengths of their own: torch aligns contents with them.
    const position = entry.header + LOCAL_BYTES + local.getUint16(26, true) + local.getUint16(28, true);
    if (position + entry.bytes > this.#fileBytes)
      throw this.#error(`'${name}' of ${entry.bytes} bytes`, 'the end of the file');
    return { position, bytes: entry.bytes, crc32: entry.crc32 };
  }

  /** The record at the end of the file, or the larger one that it stands for. */
  #findDirectory(): { position: number; bytes: number; entries: number } {
    const tailBytes = Math.min(this.#fileBytes, END_BYTES + MAX_COMMENT_BYTES);
    const tailStart = this.#fileBytes - tailBytes;
    const tail = this.#read(tailStart, tailBytes);
    let at = tailBytes - END_BYTES;
    while (at >= 0 && tail.getUint32(at, true) !== SIGNATURE.end) at--;
    if (at < 0) throw this.#error('an archive with a directory at its end', 'none: the file is cut, or no archive');
    const locatorAt = tailStart + at - LOCATOR_BYTES;
    const locator = locatorAt >= 0 ? this.#read(locatorAt, LOCATOR_BYTES) : undefined;
    if (locator?.getUint32(0, true) !== SIGNATURE.locator) {
      return {
        entries: tail.getUint16(at + 10, true),
        bytes: tail.getUint32(at + 12, true),
        position: tail.getUint32(at + 16, true),
      };
    }
    const end64 = this.#read(this.#number(locator, 8), END64_BYTES);
    if (end64.getUint32(0, true) !== SIGNATURE.end64) throw this.#error('a zip64 directory record', 'other bytes');
    return { entries: this.#number(end64, 32), bytes: this.#number(end64, 40), position: this.#number(end64, 48) };
  }

  #readDirectory(directory: DataView, count: number): void {
    let at = 0;
    for (let i = 0; i < count; i++) {
      if (at + CENTRAL_BYTES > directory.byteLength || directory.getUint32(at, true) !== SIGNATURE.central) {
        throw this.#error(`a directory of ${count} entries`, `${i} of them`);
      }
      const nameBytes = directory.getUint16(at + 28, true);
      const extraBytes = directory.getUint16(at + 30, true);
      const next = at + CENTRAL_BYTES + nameBytes + extraBytes + directory.getUint16(at + 32, true);
      if (next > directory.byteLength) throw this.#error('a directory entry', 'the end of the directory');
      const bytesAt = directory.byteOffset + at + CENTRAL_BYTES;
      const name = decodeUtf8(new Uint8Array(directory.buffer, bytesAt, nameBytes), 'a name in an archive', this.#path);
      if ((directory.getUint16(at + 8, true) & 1) !== 0)
        throw this.#error(`'${name}' as plain bytes`, 'an encrypted entry');
      const method = directory.getUint16(at + 10, true);
      if (method !== 0) throw this.#error(`'${name}' as plain bytes`, `compression method ${method}`);
      if (this.#entries.has(name)) throw this.#error('each name once', `'${name}' twice`);
      const place = this.#readPlace(directory, at, at + CENTRAL_BYTES + nameBytes, extraBytes, name);
      this.#entries.set(name, { ...place, crc32: directory.getUint32(at + 16, true) });
      at = next;
    }
  }

  /** Size and header position, taken from the zip64 extra field where the entry's own fields are full. */
  #readPlace(directory: DataView, at: number, extraAt: number, extraBytes: number, name: string) {
    const FULL = 0xffffffff;
    const fields = [20, 24, 42].map((offset) => directory.getUint32(at + offset, true)); // stored, plain, header
    if (fields.includes(FULL)) {
      for (let extra = extraAt; extra + 4 <= extraAt + extraBytes; extra += 4 + directory.getUint16(extra + 2, true)) {
        if (directory.getUint16(extra, true) !== 1) continue;
        let value = extra + 4;
        // The field has values for the full ones alone, the plain size before the stored one.
        for (const index of [1, 0, 2]) {
          if (fields[index] !== FULL) continue;
          if (value + 8 > extraAt + extraBytes) throw this.#error(`sizes of '${name}'`, 'the end of its entry');
          fields[index] = this.#number(directory, value);
          value += 8;
        }
        break;
      }
    }
    const [stored, bytes, header] = fields as [number, number, number];
    if (stored !== bytes) throw this.#error(`'${name}' as plain bytes`, `${stored} bytes stored for ${bytes}`);
    return { header, bytes };
  }

  #number(view: DataView, at: number): number {
    const value = Number(view.getBigUint64(at, true));
    if (!Number.isSafeInteger(value)) throw this.#error('a size below 2⁵³', `${value}`);
    return value;
  }

  #read(position: number, bytes: number): DataView {
    if (position + bytes > this.#fileBytes) throw this.#error(`${bytes} bytes at ${position}`, 'the end of the file');
    return new DataView(readExactly(this.#file, position, bytes, this.#path).buffer);
  }

  #error(expected: string, found: string): UserError {
    return new UserError({
      expected,
      found,
      where: this.#path,
      remedy: 'the archive is damaged or was not fully copied: fetch or write it again',
    });
  }
}
