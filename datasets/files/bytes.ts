// SPDX-License-Identifier: Apache-2.0
// The bytes of a file as a stream, unpacked where they are gzip or Zstandard: which of them a file is shows in its first
// bytes. Memory stays bounded whatever a file unpacks to. Knows no format beyond that; the adapter of `fzstd`.
import { type FileHandle, open } from 'node:fs/promises';
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { UserError } from '../../errors.js';
import type { OnBad } from './place.js';

/** A chunk read at once: large enough to hide the calls, small beside everything else. */
const CHUNK_BYTES = 1 << 20;
/** Pushed into the Zstandard decoder at once. It hands out all of it before more is read, and 4 KB can hold 1,000 blocks of 128 KB. */
const ZSTD_PUSH_BYTES = 1 << 10;

/** Opens a file for reading; says what is wrong where it cannot be. */
export async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (cause) {
    throw unreadable(cause, path);
  }
}

function unreadable(cause: unknown, path: string): UserError {
  const { code, message } = cause as NodeJS.ErrnoException;
  return new UserError({
    expected: 'a readable data file',
    found: code === 'ENOENT' ? 'nothing there' : (code ?? message),
    where: path,
    cause,
  });
}

/** The bytes of an open file, in chunks; each is only good until the next is asked for. */
export async function* readChunks(handle: FileHandle, path: string): AsyncGenerator<Buffer> {
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  for (let offset = 0; ; ) {
    const { bytesRead } = await handle.read(buffer, 0, CHUNK_BYTES, offset).catch((cause) => {
      throw unreadable(cause, path);
    });
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
    offset += bytesRead;
  }
}

/** How a file is packed, by its first bytes. */
export type Packing = 'gzip' | 'zstd';

export function packingOf(head: Uint8Array): Packing | undefined {
  if (head[0] === 0x1f && head[1] === 0x8b) return 'gzip';
  // A Zstandard frame, or a skippable one before it.
  const skippable = (head[0]! & 0xf0) === 0x50 && head[1] === 0x2a && head[2] === 0x4d && head[3] === 0x18;
  if (skippable || (head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd)) return 'zstd';
  return undefined;
}

/** The contents of packed bytes. Where `onBad` takes the fault of a damaged file, they end there. */
export async function* unpack(
  chunks: AsyncIterable<Buffer>,
  packing: Packing,
  path: string,
  onBad?: OnBad,
): AsyncGenerator<Uint8Array> {
  try {
    yield* packing === 'gzip' ? gunzip(chunks) : unzstd(chunks);
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    const fault = new UserError({
      expected: `a whole ${packing === 'gzip' ? 'gzip' : 'Zstandard'} file`,
      found: `${(cause as Error).message} after what has been read`,
      where: path,
      remedy: 'the file is damaged or was not fully copied: fetch or write it again',
      cause,
    });
    if (!onBad) throw fault;
    onBad(fault, 0);
  }
}

async function* gunzip(chunks: AsyncIterable<Buffer>): AsyncGenerator<Uint8Array> {
  const copies = (async function* () {
    for await (const chunk of chunks) yield Buffer.from(chunk); // the stream keeps what it has not come to
  })();
  // The callback takes the error, which the iteration throws too.
  yield* pipeline(Readable.from(copies), createGunzip({ chunkSize: 1 << 18 }), () => {}) as AsyncIterable<Uint8Array>;
}

async function* unzstd(chunks: AsyncIterable<Buffer>): AsyncGenerator<Uint8Array> {
  const { Decompress } = await import('fzstd');
  let given: Uint8Array[] = [];
  const decoder = new Decompress((data) => given.push(data));
  for await (const chunk of chunks) {
    for (let at = 0; at < chunk.length; at += ZSTD_PUSH_BYTES) {
      decoder.push(chunk.slice(at, at + ZSTD_PUSH_BYTES));
      yield* given;
      given = [];
    }
  }
  decoder.push(new Uint8Array(0), true);
  yield* given;
}
