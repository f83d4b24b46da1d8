// SPDX-License-Identifier: Apache-2.0
// The buffers of an Arrow batch: each within the body, unpacked where they are compressed (as one LZ4 or Zstandard frame each, behind
// their unpacked length). No buffer is larger than what can come out of its bytes, nor a batch than a named limit. Knows nothing
// of what the bytes mean.
import type { BatchHeader } from './arrow-metadata.js';
import { unpackLz4 } from './lz4.js';

/** A batch is held whole, so that its rows can be given; libraries write thousands of rows to a batch. */
export const MAX_BATCH_BYTES = 1 << 30;
/** What a compressed byte can become at most: 128 KB from a block of 4 bytes, and 255 bytes from one more of a length. */
const MAX_RATIO = { zstd: 1 << 15, lz4: 255 };
/** Stands in the place of a length where a buffer is not compressed after all. */
const STORED = -1n;
const LENGTH_BYTES = 8;

/** Unpacks Zstandard into a buffer of the content's size. */
export type UnpackZstd = (bytes: Uint8Array, output: Uint8Array) => unknown;

export class BatchBuffers {
  /** Of all buffers, unpacked. */
  readonly bytes: number;
  private next = 0;

  /** @param unzstd where the batch may be compressed with Zstandard: its decoder is loaded on demand */
  constructor(
    private readonly header: BatchHeader,
    private readonly body: Uint8Array,
    private readonly unzstd?: UnpackZstd,
  ) {
    let total = 0;
    for (let i = 0; i < header.buffers.length; i++) total += this.unpackedBytes(this.stored(i));
    if (total > MAX_BATCH_BYTES) throw new Error(`a batch of ${total} bytes, more than ${MAX_BATCH_BYTES}`);
    this.bytes = total;
  }

  /** The next buffer. */
  take(): Uint8Array {
    if (this.next >= this.header.buffers.length) throw new Error('too few buffers for the columns');
    const stored = this.stored(this.next++);
    const { codec } = this.header;
    if (!codec || stored.length === 0) return stored;
    const packed = stored.subarray(LENGTH_BYTES);
    if (lengthBefore(stored) === STORED) return packed;
    const output = new Uint8Array(this.unpackedBytes(stored));
    if (output.length === 0) return output;
    if (codec === 'lz4') unpackLz4(packed, output);
    else this.unpackZstd(packed, output);
    return output;
  }

  /** Checks that all were asked for. */
  end(): void {
    if (this.next !== this.header.buffers.length) throw new Error('more buffers than the columns have');
  }

  private stored(index: number): Uint8Array {
    const { offset, bytes } = this.header.buffers[index]!;
    if (offset + bytes > this.body.length)
      throw new Error(`a buffer at bytes ${offset} to ${offset + bytes} of ${this.body.length}`);
    return this.body.subarray(offset, offset + bytes);
  }

  private unpackedBytes(stored: Uint8Array): number {
    const { codec } = this.header;
    if (!codec || stored.length === 0) return stored.length;
    const length = lengthBefore(stored);
    if (length === STORED) return stored.length - LENGTH_BYTES;
    const packed = stored.length - LENGTH_BYTES;
    if (length < 0n || length > packed * MAX_RATIO[codec]) throw new Error(`${length} bytes packed into ${packed}`);
    return Number(length);
  }

  private unpackZstd(packed: Uint8Array, output: Uint8Array): void {
    if (!this.unzstd) throw new Error('a batch that is compressed with Zstandard');
    const content = zstdContentBytes(packed);
    if (content !== BigInt(output.length))
      throw new Error(`a Zstandard frame of ${content ?? 'unknown'} bytes, not ${output.length}`);
    this.unzstd(packed, output);
  }
}

function lengthBefore(stored: Uint8Array): bigint {
  return new DataView(stored.buffer, stored.byteOffset, stored.length).getBigInt64(0, true);
}

/** What a Zstandard frame says of its content's size (RFC 8878, 3.1.1.1); undefined where it says nothing. */
function zstdContentBytes(frame: Uint8Array): bigint | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  if (view.getUint32(0, true) !== 0xfd2fb528) throw new Error('no Zstandard frame');
  const flags = view.getUint8(4);
  const single = (flags & 0x20) !== 0;
  const at = 5 + (single ? 0 : 1) + [0, 1, 2, 4][flags & 3]!;
  switch (flags >> 6) {
    case 0:
      return single ? BigInt(view.getUint8(at)) : undefined;
    case 1:
      return BigInt(view.getUint16(at, true) + 256);
    case 2:
      return BigInt(view.getUint32(at, true));
    default:
      return view.getBigUint64(at, true);
  }
}
