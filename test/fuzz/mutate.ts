// SPDX-License-Identifier: Apache-2.0
// Damage to files, from a seed: flipped bits, numbers at their limits, pieces cut, doubled, moved, and for JSON values of other
// kinds in the place of good ones. The same seed damages the same bytes on every machine.

export type Random = (below: number) => number;

/** Numbers at which arithmetic goes wrong. */
const NUMBERS = [
  0n,
  1n,
  0x7fn,
  0x80n,
  0xffn,
  0x7fffn,
  0xffffn,
  0x7fffffffn,
  0xffffffffn,
  1n << 53n,
  1n << 63n,
  (1n << 64n) - 1n,
];
const TEXTS = [
  ...['0', '-1', '0.5', '1e308', '1e999', '9007199254740993', '18446744073709551616', 'null', 'true', '""', '[]', '{}'],
  ...['"__proto__"', '"../../x"', '"\\u0000"', '[[[[[[]]]]]]', '[0,0]', '{"a":{"a":{}}}', '"F32"', ',', ':', '}', ']'],
];

/** A damaged copy. @param kind what the bytes are: text is damaged by whole values as well */
export function damaged(source: Uint8Array, kind: 'binary' | 'text', random: Random): Buffer {
  let bytes = Buffer.from(source);
  for (let edits = 1 + random(3); edits > 0 && bytes.length > 0; edits--) {
    bytes = kind === 'text' && random(2) === 0 ? withText(bytes, random) : withBytes(bytes, random);
  }
  return bytes;
}

function withBytes(bytes: Buffer, random: Random): Buffer<ArrayBuffer> {
  const at = random(bytes.length);
  const other = random(bytes.length);
  const [start, end] = [Math.min(at, other), Math.max(at, other)];
  const copy = Buffer.from(bytes);
  switch (random(8)) {
    case 0:
    case 1:
      copy[at]! ^= 1 << random(8);
      return copy;
    case 2:
      copy[at] = random(256);
      return copy;
    case 3: {
      const number = Buffer.alloc(8);
      number.writeBigUInt64LE(NUMBERS[random(NUMBERS.length)]!);
      number.copy(copy, at, 0, [1, 2, 4, 8][random(4)]!);
      return copy;
    }
    case 4:
      return Buffer.from(copy.subarray(0, at)); // cut
    case 5:
      return Buffer.concat([copy.subarray(0, start), copy.subarray(Math.min(end, start + 64))]); // a piece lost
    case 6:
      return Buffer.concat([copy.subarray(0, end), copy.subarray(Math.max(start, end - 64))]); // a piece doubled
    default:
      copy.copyWithin(at, other, Math.min(bytes.length, other + 1 + random(32))); // a piece moved
      return copy;
  }
}

/** A number, text or word of JSON replaced by something else. */
function withText(bytes: Buffer, random: Random): Buffer<ArrayBuffer> {
  const text = bytes.toString('latin1');
  const tokens = [...text.matchAll(/-?\d+(?:\.\d+)?|"(?:[^"\\]|\\.)*"|true|false|null|[[\]{},:]/g)];
  if (tokens.length === 0) return Buffer.from(bytes);
  const token = tokens[random(tokens.length)]!;
  const other = random(4) === 0 ? tokens[random(tokens.length)]![0] : TEXTS[random(TEXTS.length)]!;
  const start = token.index;
  return Buffer.from(text.slice(0, start) + other + text.slice(start + token[0].length), 'latin1');
}
