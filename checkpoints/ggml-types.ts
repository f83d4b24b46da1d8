// SPDX-License-Identifier: Apache-2.0
// The storage types of ggml that GGUF files of LLaMA models use: how many bytes a block of each has, and what its values are.
// Layouts are drawn beside each function; products are rounded to f32 one by one, as ggml's reference does, so that values are
// its own to the bit. Knows no files. Run its tests: `npm test -- checkpoints/gguf`.
import { native, STORAGE_TYPE } from '../kernels/index.js';
import type { ElementType } from './tensor-file.js';

export interface GgmlType {
  name: string;
  /** Its number in files. */
  id: number;
  /** Values of a row are stored in blocks of so many elements … */
  elements: number;
  /** … that take so many bytes. */
  bytes: number;
  /** What is handed out: the values themselves, or f32 for packed ones. */
  dtype: ElementType;
  /** Packed blocks to f32. */
  unpack?: (bytes: Uint8Array, out: Float32Array) => void;
}

/** All that is read. The other types that ggml knows are refused by the name below. */
export const GGML_TYPES: readonly GgmlType[] = [
  { name: 'F32', id: 0, elements: 1, bytes: 4, dtype: 'F32' },
  { name: 'F16', id: 1, elements: 1, bytes: 2, dtype: 'F16' },
  { name: 'BF16', id: 30, elements: 1, bytes: 2, dtype: 'BF16' },
  { name: 'Q8_0', id: 8, elements: 32, bytes: 34, dtype: 'F32', unpack: unpackQ8_0 },
  { name: 'Q4_0', id: 2, elements: 32, bytes: 18, dtype: 'F32', unpack: unpackQ4_0 },
  { name: 'Q4_K', id: 12, elements: 256, bytes: 144, dtype: 'F32', unpack: unpackQ4_K },
  { name: 'Q6_K', id: 14, elements: 256, bytes: 210, dtype: 'F32', unpack: unpackQ6_K },
];

const OTHER_NAMES: Readonly<Record<number, string>> = {
  ...{ 3: 'Q4_1', 6: 'Q5_0', 7: 'Q5_1', 9: 'Q8_1', 10: 'Q2_K', 11: 'Q3_K', 13: 'Q5_K', 15: 'Q8_K' },
  ...{ 16: 'IQ2_XXS', 17: 'IQ2_XS', 18: 'IQ3_XXS', 19: 'IQ1_S', 20: 'IQ4_NL', 21: 'IQ3_S', 22: 'IQ2_S', 23: 'IQ4_XS' },
  ...{ 24: 'I8', 25: 'I16', 26: 'I32', 27: 'I64', 28: 'F64', 29: 'IQ1_M', 34: 'TQ1_0', 35: 'TQ2_0', 39: 'MXFP4' },
};

export const ggmlType = (id: number): GgmlType | undefined => GGML_TYPES.find((type) => type.id === id);
export const ggmlTypeName = (id: number): string => ggmlType(id)?.name ?? OTHER_NAMES[id] ?? `type ${id}`;
export const ggmlTypeOf = (name: string): GgmlType => GGML_TYPES.find((type) => type.name === name)!;

let halves: Float32Array | undefined;

/** The value of every f16, by its bits. */
function halfValues(): Float32Array {
  if (!halves) {
    halves = new Float32Array(1 << 16);
    native().toF32(
      halves,
      Uint16Array.from({ length: 1 << 16 }, (_, bits) => bits),
      STORAGE_TYPE.f16,
      1 << 16,
    );
  }
  return halves;
}

/**
 * 32 elements: f16 scale, 32 signed bytes.
 *     value[i] = scale · quant[i]
 */
function unpackQ8_0(bytes: Uint8Array, out: Float32Array): void {
  const half = halfValues();
  for (let at = 0, to = 0; to < out.length; at += 34, to += 32) {
    const scale = half[bytes[at]! | (bytes[at + 1]! << 8)]!;
    for (let i = 0; i < 32; i++) out[to + i] = scale * ((bytes[at + 2 + i]! << 24) >> 24);
  }
}

/**
 * 32 elements: f16 scale, 16 bytes that hold elements i (low half) and i + 16 (high half), 8 too large.
 *     value[i] = scale · (quant[i] - 8)
 */
function unpackQ4_0(bytes: Uint8Array, out: Float32Array): void {
  const half = halfValues();
  for (let at = 0, to = 0; to < out.length; at += 18, to += 32) {
    const scale = half[bytes[at]! | (bytes[at + 1]! << 8)]!;
    for (let i = 0; i < 16; i++) {
      const pair = bytes[at + 2 + i]!;
      out[to + i] = scale * ((pair & 15) - 8);
      out[to + 16 + i] = scale * ((pair >> 4) - 8);
    }
  }
}

/**
 * 256 elements in 8 groups of 32: f16 scale d, f16 scale m, 12 bytes with a 6-bit scale and a 6-bit minimum for each group,
 * 128 bytes of which 32 hold group 2j (low halves) and group 2j + 1 (high halves).
 *     value[i] = d·scale[g] · quant[i] - m·minimum[g]
 * In the 12 bytes groups 0 to 3 have their scales in bytes 0–3 and minima in 4–7 (low 6 bits); groups 4 to 7 have four bits of
 * both in bytes 8–11 and their two high bits at the top of bytes 0–3 and 4–7.
 */
function unpackQ4_K(bytes: Uint8Array, out: Float32Array): void {
  const half = halfValues();
  for (let at = 0, to = 0; to < out.length; at += 144, to += 256) {
    const d = half[bytes[at]! | (bytes[at + 1]! << 8)]!;
    const m = half[bytes[at + 2]! | (bytes[at + 3]! << 8)]!;
    const scales = at + 4;
    for (let group = 0; group < 8; group++) {
      const j = group & 3;
      const [low, high, mixed] = [bytes[scales + j]!, bytes[scales + 4 + j]!, bytes[scales + 8 + j]!];
      const scale = Math.fround(d * (group < 4 ? low & 63 : (mixed & 15) | ((low >> 2) & 48)));
      const minimum = Math.fround(m * (group < 4 ? high & 63 : (mixed >> 4) | ((high >> 2) & 48)));
      const quants = at + 16 + 32 * (group >> 1);
      const shift = 4 * (group & 1);
      const first = to + 32 * group;
      for (let i = 0; i < 32; i++) {
        out[first + i] = Math.fround(scale * ((bytes[quants + i]! >> shift) & 15)) - minimum;
      }
    }
  }
}

/**
 * 256 elements in 16 groups of 16: 128 bytes with the low 4 bits, 64 bytes with the high 2 bits, 16 signed scales, f16 scale d.
 *     value[i] = d·scale[i / 16] · (quant[i] - 32)
 * Of each 128 elements, those at i and i + 64 share a byte of low bits (i < 64), those at i, i + 32, i + 64 and i + 96 one of
 * high bits (i < 32), lowest first.
 */
function unpackQ6_K(bytes: Uint8Array, out: Float32Array): void {
  const half = halfValues();
  for (let at = 0, to = 0; to < out.length; at += 210, to += 256) {
    const d = half[bytes[at + 208]! | (bytes[at + 209]! << 8)]!;
    for (let i = 0; i < 256; i++) {
      const part = i >> 7;
      const place = i & 127;
      const low = (bytes[at + 64 * part + (place & 63)]! >> (4 * (place >> 6))) & 15;
      const high = (bytes[at + 128 + 32 * part + (place & 31)]! >> (2 * (place >> 5))) & 3;
      const scale = Math.fround(d * ((bytes[at + 192 + (i >> 4)]! << 24) >> 24));
      out[to + i] = scale * ((low | (high << 4)) - 32);
    }
  }
}

/** f32 values as Q8_0, as ggml's reference quantises: scale = largest / 127, halves away from zero. */
export function packQ8_0(values: Float32Array): Uint8Array {
  const blocks = values.length / 32;
  const scales = new Float32Array(blocks);
  const out = new Uint8Array(34 * blocks);
  for (let block = 0; block < blocks; block++) {
    let largest = 0;
    for (let i = 32 * block; i < 32 * block + 32; i++) largest = Math.max(largest, Math.abs(values[i]!));
    const scale = Math.fround(largest / 127);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    scales[block] = scale;
    for (let i = 0; i < 32; i++) {
      const quant = Math.fround(values[32 * block + i]! * inverse);
      out[34 * block + 2 + i] = quant < 0 ? -Math.floor(0.5 - quant) : Math.floor(quant + 0.5);
    }
  }
  const bits = new Uint16Array(blocks);
  native().fromF32(bits, scales, STORAGE_TYPE.f16, blocks);
  for (let block = 0; block < blocks; block++) {
    out[34 * block] = bits[block]! & 255;
    out[34 * block + 1] = bits[block]! >> 8;
  }
  return out;
}
