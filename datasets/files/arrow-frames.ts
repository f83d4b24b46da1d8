// SPDX-License-Identifier: Apache-2.0
// How Arrow messages lie in a file ("IPC Streaming Format" and "IPC File Format"): one after the other, and in files with a
// footer that says where. Knows no messages; every length is within the file before anything is made of it.

export const FILE_MAGIC = 'ARROW1';
/** The magic at the start of a file is padded to this. */
export const FILE_START = 8;
/** The footer's length and the magic. */
export const FILE_TAIL_BYTES = 10;
/** Before a message: −1 and the length of its metadata; older writers leave the −1 out. */
export const PREFIX_BYTES = 8;
/** Metadata tell what lies where: kilobytes, or a few megabytes for thousands of columns. */
const MAX_METADATA_BYTES = 16 << 20;

export interface Frame {
  /** Where the metadata of a message begin and end, from where its prefix does; the body follows. */
  start: number;
  end: number;
}

/** The frame of a message whose first bytes are given; undefined where the stream ends instead. */
export function frameOf(prefix: Uint8Array, room: number): Frame | undefined {
  const view = new DataView(prefix.buffer, prefix.byteOffset, prefix.length);
  const first = view.getInt32(0, true);
  const start = first === -1 ? 8 : 4;
  const length = first === -1 ? view.getInt32(4, true) : first;
  if (length === 0) return undefined;
  if (length < 0 || length > MAX_METADATA_BYTES || start + length > room)
    throw new Error(`a message of ${length} bytes where ${room - start} are left`);
  return { start, end: start + length };
}

/** Where the footer of a file begins, by its last bytes; undefined where those are no end of a file. */
export function footerStart(tail: Uint8Array, fileBytes: number): number | undefined {
  const bytes = Buffer.from(tail.buffer, tail.byteOffset, tail.length);
  if (bytes.toString('latin1', 4) !== FILE_MAGIC) return undefined;
  const length = bytes.readInt32LE(0);
  const room = fileBytes - FILE_TAIL_BYTES - FILE_START;
  if (length <= 0 || length > Math.min(MAX_METADATA_BYTES, room)) throw new Error(`a footer of ${length} bytes`);
  return fileBytes - FILE_TAIL_BYTES - length;
}
