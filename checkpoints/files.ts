// SPDX-License-Identifier: Apache-2.0
// Files that are never half there. New contents go to temporary files in the same directory, are synced, and take their names
// only when all are complete; whatever fails before leaves the old files as they were. What a killed process left of them goes with
// the next writing. Knows bytes and names, no format.
// Every call that changes the disk goes through a FileLayer, so that tests can make each of them fail.
// Run its tests: `npm test -- checkpoints/files`.
import * as fs from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { getSystemErrorName } from 'node:util';
import { UserError } from '../errors.js';
import { native } from '../kernels/index.js';
import { sweepTemporaries, temporaryName } from './temporaries.js';

/** The calls that change the disk. */
export interface FileLayer {
  /** Makes a file that must not be there yet and opens it. */
  create(path: string): number;
  /** May write less than asked; returns how much. */
  write(file: number, bytes: Uint8Array, position: number): number;
  /** Copies within the system; may copy less than asked, and nothing where it cannot. Returns how much. */
  copy(from: number, fromPosition: number, to: number, position: number, bytes: number): number;
  sync(file: number): void;
  close(file: number): void;
  rename(from: string, to: string): void;
  remove(path: string): void;
  /** Makes the directory's entries durable. */
  syncDirectory(path: string): void;
}

/** The system, the kinds of files, or two file systems have no such call: read and write instead. */
const NOT_COPIED = new Set(['ENOSYS', 'EOPNOTSUPP', 'EXDEV', 'EINVAL', 'EPERM', 'ETXTBSY']);

export const systemFiles: FileLayer = {
  create: (path) => fs.openSync(path, 'wx'),
  write: (file, bytes, position) => fs.writeSync(file, bytes, 0, bytes.length, position),
  copy(from, fromPosition, to, position, bytes) {
    const copied = native().copyRange(from, fromPosition, to, position, bytes);
    const code = copied < 0 ? getSystemErrorName(copied) : '';
    if (copied >= 0 || NOT_COPIED.has(code)) return Math.max(0, copied);
    throw Object.assign(new Error(code), { code });
  },
  sync: (file) => fs.fsyncSync(file),
  close: (file) => fs.closeSync(file),
  rename: (from, to) => fs.renameSync(from, to),
  remove: (path) => fs.unlinkSync(path),
  syncDirectory(path) {
    const directory = fs.openSync(path, 'r');
    try {
      fs.fsyncSync(directory);
    } finally {
      fs.closeSync(directory);
    }
  },
};

/** One call to the system takes at most this much; Node refuses 2 GB and more. */
const MAX_WRITE_BYTES = 1 << 26;
/** Copies are cut at multiples of this in the new file: Linux then holds it in large pages, and copies a fifth faster. */
const COPIED_BYTES = 1 << 22;
/** Files up to this size are compared with what they replace, and left alone when equal. */
const MAX_COMPARED_BYTES = 1 << 16;

/**
 * New contents for files of one directory that take effect together or not at all:
 *
 *     const replacement = new Replacement(directory);
 *     try {
 *       replacement.create('weights').write(bytes, 0);
 *       replacement.create('config').write(text, 0);
 *       replacement.commit();
 *     } finally {
 *       replacement.close();
 *     }
 *
 * Create the file that readers open first last. The directory never shows a mix of old and new: one changed file is replaced
 * by one rename; of several, the old ones first move aside to `NAME.previous`, the last one first. A crash in between
 * therefore leaves a directory whose first file is missing, not one that loads and lies, and the old files are beside it.
 */
export class Replacement {
  readonly #directory: string;
  readonly #layer: FileLayer;
  readonly #files: NewFile[] = [];
  readonly #swept = new Set<string>();

  constructor(directory: string, layer: FileLayer = systemFiles) {
    this.#directory = directory;
    this.#layer = layer;
    attempt('make the folder', directory, () => fs.mkdirSync(directory, { recursive: true }));
  }

  /** Opens the new contents of the file `name`. */
  create(name: string): NewFile {
    const path = join(this.#directory, name);
    if (fs.statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
      throw new UserError({ expected: 'to write a file', found: 'a folder of that name', where: path });
    }
    this.#sweepOnce(dirname(path));
    const file = new NewFile(path, this.#layer);
    this.#files.push(file);
    return file;
  }

  #sweepOnce(directory: string): void {
    if (this.#swept.has(directory)) return;
    this.#swept.add(directory);
    sweepTemporaries(directory);
  }

  /** Gives all files their names. When this throws, either all old files are in place or all new ones. */
  commit(): void {
    for (const file of this.#files) file.finish();
    const changed = this.#files.filter((file) => !file.equalsTarget());
    const undo: (() => void)[] = [];
    const rename = (from: string, to: string) => {
      attempt('replace', to, () => this.#layer.rename(from, to));
      undo.push(() => this.#layer.rename(to, from));
    };
    const movedAside: string[] = [];
    try {
      for (const file of changed.length > 1 ? changed.toReversed() : []) {
        if (!exists(file.path)) continue;
        rename(file.path, previousName(file.path));
        movedAside.push(previousName(file.path));
      }
      for (const file of changed) {
        rename(file.temporary, file.path);
        file.renamed = true;
      }
    } catch (error) {
      for (const step of undo.reverse()) attemptQuietly(step);
      for (const file of changed) file.renamed = false;
      throw error;
    }
    attempt('write', this.#directory, () => this.#layer.syncDirectory(this.#directory));
    // The new files are complete and in place: what stays behind here is only untidy.
    for (const path of movedAside) attemptQuietly(() => this.#layer.remove(path));
  }

  /** Removes what was not committed. Call it always. */
  close(): void {
    for (const file of this.#files) file.discard();
  }
}

/** Where the old file of that name is while several are being replaced. */
export function previousName(path: string): string {
  return `${path}.previous`;
}

/** The contents of one file of a Replacement. */
export class NewFile {
  readonly path: string;
  readonly temporary: string;
  /** The temporary file took its name: nothing is left to discard. */
  renamed = false;
  readonly #layer: FileLayer;
  #file: number | undefined;

  constructor(path: string, layer: FileLayer) {
    this.path = path;
    this.temporary = temporaryName(path);
    this.#layer = layer;
    this.#file = attempt('write', path, () => layer.create(this.temporary));
  }

  /** Writes all of `data` at a byte position; positions need not come in order. */
  write(data: string | ArrayBufferView, position: number): void {
    const file = this.#file;
    if (file === undefined) throw new Error(`write after commit or close: ${this.path}`);
    const bytes =
      typeof data === 'string' ? Buffer.from(data) : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    for (let done = 0; done < bytes.length; ) {
      const part = bytes.subarray(done, done + MAX_WRITE_BYTES);
      done += attempt('write', this.path, () => this.#layer.write(file, part, position + done));
    }
  }

  /** Writes bytes of another open file at a byte position. */
  copy({ file: from, position: start, byteLength, path }: FileRange, position: number): void {
    const file = this.#file;
    if (file === undefined) throw new Error(`write after commit or close: ${this.path}`);
    for (let done = 0; done < byteLength; ) {
      const bytes = Math.min(byteLength - done, COPIED_BYTES - ((position + done) % COPIED_BYTES));
      const copied = attempt('write', this.path, () =>
        this.#layer.copy(from, start + done, file, position + done, bytes),
      );
      if (copied === 0) {
        const part = readExactly(from, start + done, bytes, path);
        this.write(part, position + done);
        done += part.length;
      } else done += copied;
    }
  }

  /** Makes the contents durable under the temporary name. */
  finish(): void {
    const file = this.#file;
    if (file === undefined) throw new Error(`commit after commit or close: ${this.path}`);
    attempt('write', this.path, () => this.#layer.sync(file));
    this.#file = undefined;
    attempt('write', this.path, () => this.#layer.close(file));
  }

  /** Whether the file to be replaced has these very contents. Asked of small files only. */
  equalsTarget(): boolean {
    const target = fs.lstatSync(this.path, { throwIfNoEntry: false });
    if (!target?.isFile() || target.size > MAX_COMPARED_BYTES) return false;
    return attempt('read', this.path, () => fs.readFileSync(this.temporary).equals(fs.readFileSync(this.path)));
  }

  discard(): void {
    const file = this.#file;
    this.#file = undefined;
    if (file !== undefined) attemptQuietly(() => this.#layer.close(file));
    if (!this.renamed && exists(this.temporary)) attemptQuietly(() => this.#layer.remove(this.temporary));
    this.renamed = true;
  }
}

/** Writes a whole file; one that was there before stays as it was until the new one is complete. */
export function writeFileAtomically(
  path: string,
  data: string | ArrayBufferView,
  layer: FileLayer = systemFiles,
): void {
  const replacement = new Replacement(dirname(path), layer);
  try {
    replacement.create(basename(path)).write(data, 0);
    replacement.commit();
  } finally {
    replacement.close();
  }
}

/** A part of an open file. */
export interface FileRange {
  file: number;
  position: number;
  byteLength: number;
  /** Of the file, for errors. */
  path: string;
}

/** An open file to read from. The caller closes it. */
export interface OpenFile {
  file: number;
  bytes: number;
}

/** Opens a regular file, also through a symbolic link. Anything else (a folder, a pipe that would block) is refused. */
export function openFile(path: string, what: string): OpenFile {
  const status = attemptRead(what, path, () => fs.statSync(path));
  if (!status.isFile()) {
    throw new UserError({ expected: what, found: status.isDirectory() ? 'a folder' : 'no regular file', where: path });
  }
  const file = attemptRead(what, path, () => fs.openSync(path, 'r'));
  return { file, bytes: fs.fstatSync(file).size };
}

/** Reads `bytes` at `position`; a file that ends before is an error. */
export function readExactly(file: number, position: number, bytes: number, path: string): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(bytes);
  readInto(out, file, position, path);
  return out;
}

/** Fills `out` with the bytes at `position`; a file that ends before is an error. */
export function readInto(out: Uint8Array, file: number, position: number, path: string): void {
  for (let done = 0; done < out.length; ) {
    const part = Math.min(out.length - done, MAX_WRITE_BYTES);
    const got = attemptRead('a readable file', path, () => fs.readSync(file, out, done, part, position + done));
    if (got === 0) {
      throw new UserError({
        expected: `${position + out.length} bytes`,
        found: `${position + done}`,
        where: path,
        remedy: 'the file shrank while it was read: try again when nothing writes to it',
      });
    }
    done += got;
  }
}

/** A whole small text file. @throws UserError when it is missing, too large, or not UTF-8. */
export function readTextFile(path: string, what: string, maxBytes: number): string {
  const { file, bytes } = openFile(path, what);
  try {
    if (bytes > maxBytes) {
      throw new UserError({ expected: `${what} of at most ${maxBytes} bytes`, found: `${bytes} bytes`, where: path });
    }
    return decodeUtf8(readExactly(file, 0, bytes, path), what, path);
  } finally {
    fs.closeSync(file);
  }
}

/** Strict UTF-8. */
export function decodeUtf8(bytes: Uint8Array, what: string, where: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new UserError({ expected: `${what} in UTF-8`, found: 'bytes that are not', where, cause });
  }
}

/** @throws UserError unless `path` is a folder; `remedy` for the case that it is a file */
export function checkDirectory(path: string, what: string, remedy: string): void {
  const status = fs.statSync(path, { throwIfNoEntry: false });
  if (status?.isDirectory()) return;
  throw new UserError({
    expected: what,
    found: status ? 'a file' : 'nothing of that name',
    where: path,
    remedy: status ? remedy : 'check the path',
  });
}

/** Whether something has that name, a broken symbolic link included. */
export function exists(path: string): boolean {
  return fs.lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** What system error codes mean, and what to do. */
const SYSTEM_ERRORS: Record<string, [found: string, remedy?: string]> = {
  ENOENT: ['nothing of that name', 'check the path'],
  ENOTDIR: ['a file where the path needs a folder', 'check the path'],
  EISDIR: ['a folder', 'check the path'],
  EEXIST: ['a file where the path needs a folder', 'check the path'],
  EACCES: ['no permission', 'check owner and mode, or choose another folder'],
  EPERM: ['no permission', 'check owner and mode, or choose another folder'],
  EROFS: ['a read-only file system', 'choose another folder'],
  ENOSPC: ['no space left on the device', 'free some space, or choose another folder'],
  EDQUOT: ['the disk quota is used up', 'free some space, or choose another folder'],
  EIO: ['an input/output error of the device', 'check the disk'],
  ELOOP: ['a circle of symbolic links', 'check the path'],
  ENAMETOOLONG: ['a name that is too long for the file system', 'choose another'],
};

function asUserError(error: unknown, expected: string, where: string): unknown {
  const code = (error as NodeJS.ErrnoException).code;
  if (!(error instanceof Error) || error instanceof UserError || typeof code !== 'string') return error;
  const [found, remedy] = SYSTEM_ERRORS[code] ?? [error.message];
  return new UserError({ expected, found, where, remedy, cause: error });
}

function attempt<T>(action: string, path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw asUserError(error, `to ${action}`, path);
  }
}

function attemptRead<T>(what: string, path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw asUserError(error, what, path);
  }
}

/** For tidying up after an error that is the one to report. */
function attemptQuietly(work: () => void): void {
  try {
    work();
  } catch {
    // The error that led here is thrown by the caller.
  }
}
