// SPDX-License-Identifier: Apache-2.0
// Hashes and a shuffle that are pure functions: the same on every machine and in every run, with nothing stored. Not for
// secrets. Changing any of them changes every training order and every held-out split, so they stay as they are.

/** Mixes 32 bits so that each input bit reaches each output bit (the finaliser of MurmurHash3, Appleby). */
export function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** A 32-bit hash of a text: FNV-1a over its UTF-16 units, then mixed, since FNV alone leaves the high bits poor. */
export function hashText(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return mix(h);
}

/** The hash of the text that UTF-8 bytes spell. ASCII, which ids mostly are, needs no text for it. */
export function hashUtf8(bytes: Uint8Array): number {
  let h = 0x811c9dc5;
  for (const byte of bytes) {
    if (byte >= 0x80) return hashText(Buffer.from(bytes).toString());
    h = Math.imul(h ^ byte, 0x01000193);
  }
  return mix(h);
}

/** One 32-bit key from several numbers; their order matters. */
export function hashNumbers(...values: number[]): number {
  let h = 0x9e3779b9;
  for (const value of values) {
    h = mix(h ^ mix(value));
    h = mix(h ^ mix(Math.floor(value / 2 ** 32))); // seeds beyond 32 bits count whole
  }
  return h;
}

const ROUNDS = 8;
/** 4 bits a half: with fewer, a Feistel network reaches only a small part of all orders of a small set. */
const MIN_HALF_BITS = 4;

/**
 * Where the element at `position` of 0 … count−1 stands after the shuffle named by `key`: a bijection computed in place of a
 * stored order. A Feistel network permutes the next power of four; walking its cycle until the value is below `count` keeps
 * the bijection (Black and Rogaway 2002).
 */
export function permute(position: number, count: number, key: number): number {
  if (!(position >= 0 && position < count && count <= 2 ** 30))
    throw new RangeError(`position ${position} of ${count}`);
  const halfBits = Math.max(MIN_HALF_BITS, Math.ceil(Math.log2(count) / 2));
  const mask = (1 << halfBits) - 1;
  let value = position;
  do {
    let left = value >>> halfBits;
    let right = value & mask;
    for (let round = 0; round < ROUNDS; round++) {
      [left, right] = [right, left ^ (mix(right ^ mix(key + round)) & mask)];
    }
    value = (left << halfBits) | right;
  } while (value >= count);
  return value;
}
