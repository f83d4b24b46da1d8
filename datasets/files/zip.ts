// SPDX-License-Identifier: Apache-2.0
// Entries of a zip archive, unpacked, for spreadsheets: small archives of small files. What an entry says of its size is
// checked against a limit before memory is taken, and unpacking stops there, whatever it said. Knows no zip64, no encryption.
import type { FileHandle } from 'node:fs/promises';
import { crc32, inflateRawSync } from 'node:zlib';
import { UserError } from '../../errors.js';

/** A sheet of 50,000 rows of text has about this much. A few kilobytes can unpack to gigabytes. */
const MAX_ENTRY_BYTES = 64 << 20;
/** Of the archive itself, which is held whole. */
const MAX_ARCHIVE_BYTES = 64 << 20;

const END_BYTES = 22;
const MAX_COMMENT_BYTES = 0xffff;
const CENTRAL_BYTES = 46;
const LOCAL_BYTES = 30;
const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const STORED = 0;
const DEFLATED = 8;

interface Entry {
  method: number;
  crc: number;
  packedBytes: number;
  bytes: number;
  header: number;
}

export class ZipArchive {
  private readonly entries = new Map<string, Entry>();

  private constructor(
    private readonly archive: Buffer,
    private readonly path: string,
  ) {}

  static async open(handle: FileHandle, path: string): Promise<ZipArchive> {
    const { size } = await handle.stat();
    if (size > MAX_ARCHIVE_BYTES) {
      throw new UserError({
        expected: `an archive of at most ${MAX_ARCHIVE_BYTES >> 20} MiB`,
        found: `${size} bytes`,
        where: path,
      });
    }
    const archive = Buffer.alloc(size);
    await handle.read(archive, 0, size, 0);
    const zip = new ZipArchive(archive, path);
    zip.readDirectory();
    return zip;
  }

  /** The contents of an entry, or undefined where there is none of that name. */
  read(name: string): Buffer | undefined {
    const entry = this.entries.get(name);
    if (!entry) return undefined;
    const { method, crc, packedBytes, bytes, header } = entry;
    if (bytes > MAX_ENTRY_BYTES) throw this.tooLarge(name, `${bytes} bytes`);
    this.expect(
      header + LOCAL_BYTES <= this.archive.length && this.archive.readUInt32LE(header) === LOCAL,
      `the header of '${name}'`,
    );
    const start =
      header + LOCAL_BYTES + this.archive.readUInt16LE(header + 26) + this.archive.readUInt16LE(header + 28);
    this.expect(start + packedBytes <= this.archive.length, `${packedBytes} bytes of '${name}'`);
    const packed = this.archive.subarray(start, start + packedBytes);
    const contents = method === DEFLATED ? this.inflate(packed, bytes, name) : packed;
    this.expect(contents.length === bytes && crc32(contents) === crc, `'${name}' of ${bytes} bytes with its checksum`);
    return contents;
  }

  private inflate(packed: Buffer, bytes: number, name: string): Buffer {
    try {
      return inflateRawSync(packed, { maxOutputLength: Math.max(1, bytes) });
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE')
        throw this.damaged(`'${name}' of ${bytes} bytes`, 'more');
      throw this.damaged(`'${name}' to unpack`, (cause as Error).message);
    }
  }

  private readDirectory(): void {
    const { archive } = this;
    let end = archive.length - END_BYTES;
    const last = Math.max(0, end - MAX_COMMENT_BYTES);
    while (end >= last && archive.readUInt32LE(end) !== END) end--;
    this.expect(end >= last, 'a directory at its end');
    const count = archive.readUInt16LE(end + 10);
    let at = archive.readUInt32LE(end + 16);
    for (let i = 0; i < count; i++) {
      this.expect(at + CENTRAL_BYTES <= end && archive.readUInt32LE(at) === CENTRAL, `a directory of ${count} entries`);
      const nameBytes = archive.readUInt16LE(at + 28);
      const name = archive.toString('utf8', at + CENTRAL_BYTES, at + CENTRAL_BYTES + nameBytes);
      const method = archive.readUInt16LE(at + 10);
      const encrypted = (archive.readUInt16LE(at + 8) & 1) !== 0;
      this.expect(
        !encrypted && (method === STORED || method === DEFLATED),
        `'${name}' stored or deflated, without encryption`,
      );
      this.entries.set(name, {
        method,
        crc: archive.readUInt32LE(at + 16),
        packedBytes: archive.readUInt32LE(at + 20),
        bytes: archive.readUInt32LE(at + 24),
        header: archive.readUInt32LE(at + 42),
      });
      at += CENTRAL_BYTES + nameBytes + archive.readUInt16LE(at + 30) + archive.readUInt16LE(at + 32);
    }
  }

  private expect(holds: boolean, expected: string): void {
    if (!holds) throw this.damaged(expected, 'other bytes');
  }

  private damaged(expected: string, found: string): UserError {
    return new UserError({
      expected: `an archive with ${expected}`,
      found,
      where: this.path,
      remedy: 'the archive is damaged or was not fully copied: fetch or write it again',
    });
  }

  private tooLarge(name: string, found: string): UserError {
    return new UserError({
      expected: `'${name}' to unpack to at most ${MAX_ENTRY_BYTES >> 20} MiB`,
      found,
      where: this.path,
      remedy: 'save large tables as JSON lines or Parquet',
    });
  }
}
