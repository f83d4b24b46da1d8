// SPDX-License-Identifier: Apache-2.0
// Makes GGUF files byte by byte for tests, well-formed or not.

export function u32(number: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number);
  return bytes;
}

export function u64(number: bigint | number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(number));
  return bytes;
}

export const text = (value: string) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);

/** A key with a value of that type number, as bytes. */
export const value = (key: string, type: number, bytes: Uint8Array) => Buffer.concat([text(key), u32(type), bytes]);

/** @param dimensions in the file's order, the fastest first */
export const tensorInfo = (name: string, dimensions: number[], type: number, offset: number) =>
  Buffer.concat([text(name), u32(dimensions.length), ...dimensions.map(u64), u32(type), u64(offset)]);

/** A file of these keys and tensors, and so many bytes of data. */
export function ggufBytes(
  keys: readonly Uint8Array[],
  tensors: readonly Uint8Array[],
  dataBytes: number,
  claims: { version?: number; tensors?: bigint; keys?: bigint } = {},
): Buffer {
  const header = Buffer.concat([
    Buffer.from('GGUF'),
    u32(claims.version ?? 3),
    u64(claims.tensors ?? tensors.length),
    u64(claims.keys ?? keys.length),
    ...keys,
    ...tensors,
  ]);
  const start = Math.ceil(header.length / 32) * 32;
  return Buffer.concat([header, Buffer.alloc(start - header.length), Buffer.alloc(dataBytes, 1)]);
}
