// SPDX-License-Identifier: Apache-2.0
// Unpacks an LZ4 frame (lz4_Frame_format.md) into a buffer of its size. Blocks may refer to those before them, which the decoder
// of hyparquet-compressors cannot follow. Every copy lies within input and output, or it throws. Checksums are passed over.

const MAGIC = 0x184d2204;
const STORED_BLOCK = 0x80000000;
const MIN_MATCH = 4;
const LONG_MATCH = 32;

/** @throws Error where the bytes are no frame, or not of as many bytes as `output` has */
export function unpackLz4(frame: Uint8Array, output: Uint8Array): void {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  if (frame.length < 7 || view.getUint32(0, true) !== MAGIC) throw new Error('no LZ4 frame');
  const flags = frame[4]!;
  if (flags >> 6 !== 1 || (flags & 1) !== 0) throw new Error('an LZ4 frame of an unknown kind');
  const blockChecksum = flags & 0x10 ? 4 : 0;
  let at = 6 + (flags & 0x08 ? 8 : 0) + 1; // the size of the content and a checksum of this header
  let filled = 0;
  for (;;) {
    const word = at + 4 <= frame.length ? view.getUint32(at, true) : undefined;
    if (word === undefined) throw new Error('an LZ4 frame that is cut short');
    at += 4;
    if (word === 0) break;
    const bytes = word % STORED_BLOCK;
    if (at + bytes > frame.length) throw new Error('an LZ4 block that is cut short');
    const block = frame.subarray(at, at + bytes);
    if (word < STORED_BLOCK) filled = unpackBlock(block, output, filled);
    else {
      if (filled + bytes > output.length) throw tooLarge(output);
      output.set(block, filled);
      filled += bytes;
    }
    at += bytes + blockChecksum;
  }
  if (filled !== output.length) throw new Error(`${filled} bytes in an LZ4 frame, not ${output.length}`);
}

/** Appends a block's contents to what is there; gives the new end. */
function unpackBlock(block: Uint8Array, output: Uint8Array, start: number): number {
  let at = 0;
  let end = start;
  /** A length of 15 goes on in the bytes that follow. */
  const lengthFrom = (nibble: number): number => {
    let length = nibble;
    if (nibble !== 15) return length;
    for (let byte = 255; byte === 255; length += byte) {
      if (at >= block.length) throw new Error('an LZ4 block that is cut short');
      byte = block[at++]!;
    }
    return length;
  };
  while (at < block.length) {
    const token = block[at++]!;
    const literals = lengthFrom(token >> 4);
    if (at + literals > block.length) throw new Error('an LZ4 block that is cut short');
    if (end + literals > output.length) throw tooLarge(output);
    output.set(block.subarray(at, at + literals), end);
    at += literals;
    end += literals;
    if (at === block.length) return end; // the last sequence has literals only
    if (at + 2 > block.length) throw new Error('an LZ4 block that is cut short');
    const distance = block[at]! | (block[at + 1]! << 8);
    at += 2;
    const length = lengthFrom(token & 15) + MIN_MATCH;
    if (distance === 0 || distance > end) throw new Error(`an LZ4 match ${distance} bytes back of ${end}`);
    if (end + length > output.length) throw tooLarge(output);
    // A match may repeat what it writes itself; short ones are copied before a call would have begun.
    if (distance >= length && length >= LONG_MATCH) output.copyWithin(end, end - distance, end - distance + length);
    else for (let i = 0; i < length; i++) output[end + i] = output[end - distance + i]!;
    end += length;
  }
  return end;
}

const tooLarge = (output: Uint8Array) => new Error(`more than ${output.length} bytes in an LZ4 frame`);
