// SPDX-License-Identifier: Apache-2.0
// Reads protocol buffer messages field by field (wire format: protobuf.dev/programming-guides/encoding). Knows no message
// type. Every length is checked against the bytes that are there before anything is made of it, so a hostile file costs no
// more than its own size.
import { UserError } from '../errors.js';

export interface Field {
  number: number;
  /** Byte offset in the file, for messages. */
  offset: number;
  /** A varint (unsigned, exact below 2^53), or the bytes of anything else. */
  value: number | Uint8Array;
}

/** The fields of the message `bytes`; `where` names the file and `base` is the message's offset in it. */
export function* fieldsOf(bytes: Uint8Array, where: string, base = 0): Generator<Field> {
  let at = 0;
  const broken = (expected: string, found: string, offset: number): UserError =>
    new UserError({
      expected,
      found,
      where: `${where}, byte ${base + offset}`,
      remedy: 'The file is damaged or of another kind; fetch it again.',
    });

  const varint = (): number => {
    let value = 0;
    for (let shift = 0, start = at; ; shift += 7) {
      if (at === bytes.length) throw broken('a whole number', 'the end of the data', start);
      if (shift > 63) throw broken('a number of at most 10 bytes', 'more', start);
      const byte = bytes[at++]!;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  };
  const take = (length: number, start: number): Uint8Array => {
    if (length > bytes.length - at) {
      throw broken(`at most ${bytes.length - at} more bytes`, `a field that claims ${length}`, start);
    }
    at += length;
    return bytes.subarray(at - length, at);
  };

  while (at < bytes.length) {
    const start = at;
    const tag = varint();
    const number = Math.floor(tag / 8);
    if (number === 0) throw broken('a field number ≥ 1', '0', start);
    switch (tag % 8) {
      case 0:
        yield { number, offset: base + start, value: varint() };
        break;
      case 1:
        yield { number, offset: base + start, value: take(8, start) };
        break;
      case 2: {
        const length = varint();
        yield { number, offset: base + at, value: take(length, start) };
        break;
      }
      case 5:
        yield { number, offset: base + start, value: take(4, start) };
        break;
      default:
        throw broken('a field of wire type 0, 1, 2 or 5', `wire type ${tag % 8}`, start);
    }
  }
}
