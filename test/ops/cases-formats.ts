// SPDX-License-Identifier: Apache-2.0
// Number formats: NF4 byte for byte; 16-bit types with subnormals, infinities, NaN and ties.
import { given, type OpTable, type Tolerance, table, written, writtenBytes } from './op-table.js';
import type { Random } from './random.js';

const exact: Tolerance = { error: 0, floor: 0, reason: 'defined bit for bit' };
const lengths = [0, 1, 2, 31, 63, 64, 65, 127, 1000, 16_384, 100_003];

/** A short block, one of zeros, one with an outlier, one of subnormals. */
function weights(n: number, random: Random): Float32Array {
  const values = random.normal(n).fill(0, 64, 128);
  if (n > 200) values[200] = -300;
  for (let i = 256; i < Math.min(n, 320); i++) values[i]! *= 2 ** -130;
  return values;
}

/** Any bits: every class of number, and both ties and their neighbours when rounded to 16 bits. */
function anyF32(n: number, random: Random): Float32Array {
  const bits = new Uint32Array(n);
  for (let i = 0; i < n; i++) {
    const word = random.integer(0, 2 ** 32);
    const nearTie = [0x8000, 0x7fff, 0x8001, 0x18000][random.integer(0, 4)]!; // of bf16; of f16 after a shift by 3
    if (i % 4 === 0) bits[i] = word;
    else if (i % 4 === 1) bits[i] = ((word & 0xffff0000) | nearTie) >>> 0;
    else if (i % 4 === 2)
      bits[i] = ((word & 0x80ffe000) + ((0x33 + random.integer(0, 0x15)) << 23) + (nearTie >> 3)) >>> 0;
    else
      bits[i] =
        (word & 0x80000000) |
        [0, 0x7f800000, 0x7f800001, 0x7fc00000, 1, 0x7f7fffff, 0x477fefff, 0x477ff000][random.integer(0, 8)]!;
  }
  return new Float32Array(bits.buffer);
}

const typed = lengths.flatMap((n) => [0, 1, 2].map((type) => ({ n, type })));

export const formatTables = {
  nf4Quantize: table({
    shapes: lengths.map((n) => ({ n })),
    typical: { n: 4096 * 4096 },
    make: ({ n }, random) => ({
      codes: writtenBytes(Math.ceil(n / 2)),
      absmax: written(Math.ceil(n / 64)),
      inp: given(weights(n, random)),
      n,
    }),
    tolerance: exact,
  }),
  nf4DoubleQuantize: table({
    shapes: [0, 1, 2, 255, 256, 257, 1000, 5000].map((blocks) => ({ blocks })),
    typical: { blocks: 262_144 },
    make: ({ blocks }, random) => ({
      absmax_codes: writtenBytes(blocks),
      nested: written(Math.ceil(blocks / 256)),
      offset: written(1),
      absmax: given(random.uniform(blocks, 0.5, 2)),
      blocks,
    }),
    tolerance: {
      error: 2e-6,
      floor: 1,
      codes: 0.005,
      reason: 'the mean may be summed in another order; a value on the boundary of two codes then takes either',
    },
  }),
  nf4Dequantize: table({
    shapes: lengths.flatMap((n) => [0, 1].map((nested) => ({ n, nested }))),
    typical: { n: 4096 * 4096, nested: 1 },
    make: ({ n, nested }, random) => {
      const blocks = Math.ceil(n / 64);
      return {
        out: written(n),
        codes: given(random.bytes(Math.ceil(n / 2))),
        absmax_codes: given(nested ? random.bytes(blocks) : new Uint8Array(0)),
        absmax: given(random.uniform(nested ? Math.ceil(blocks / 256) : blocks, 0.5, 1)),
        absmax_offset: nested ? 1.25 : 0,
        n,
      };
    },
    tolerance: exact,
  }),
  toF32: table({
    shapes: typed,
    typical: { n: 4096 * 4096, type: 1 },
    make: ({ n, type }, random) => ({
      out: written(n),
      inp: given(type === 0 ? anyF32(n, random) : Uint16Array.from({ length: n }, () => random.integer(0, 65536))),
      type,
      n,
    }),
    tolerance: exact,
  }),
  fromF32: table({
    shapes: typed,
    typical: { n: 4096 * 4096, type: 1 },
    make: ({ n, type }, random) => ({
      out: type === 0 ? written(n) : { role: 'out', values: new Uint16Array(n).fill(0xffff) },
      inp: given(anyF32(n, random)),
      type,
      n,
    }),
    tolerance: exact,
  }),
} satisfies Record<string, OpTable>;
