// SPDX-License-Identifier: Apache-2.0
// Number formats on the host: what 16-bit weights decode to, NF4 quantisation and the dynamic 8-bit maps, byte for byte as
// kernels/quant.h draws them but written anew, so that agreement of the two says something. Each product and sum that quant.h
// rounds to f32 is a Math.fround here.
import { NESTED_BLOCK, NF4_BLOCK, type WeightValues } from '../device.js';

const f32 = Math.fround;

/** The sixteen values; every one is an f32. */
export const NF4_VALUES: readonly number[] = [
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
];
const NF4_THRESHOLDS = Array.from({ length: 15 }, (_, i) => f32(f32(NF4_VALUES[i]! + NF4_VALUES[i + 1]!) / 2));

/** The signed map has 127 negative codes, zero and 128 positive ones; the unsigned map zero and 255 positive ones. */
function dynamicMap(signed: boolean): Float32Array {
  const map = new Float32Array(256);
  let next = signed ? 128 : 1;
  for (let decade = 0; decade < 7; decade++) {
    const parts = 2 ** (signed ? decade : decade + 1);
    const step = f32(f32(1 - f32(0.1)) / parts);
    // torch.linspace(0.1, 1, parts + 1): counted from the nearer end, rounded once.
    const boundary = (i: number) => f32(i < (parts + 1) >> 1 ? f32(0.1) + step * i : 1 - step * (parts - i));
    for (let i = 0; i < parts; i++, next++) {
      const middle = f32(f32(boundary(i) + boundary(i + 1)) / 2);
      map[next] = f32(f32(10 ** (decade - 6)) * middle);
      if (signed) map[254 - next] = -map[next]!;
    }
  }
  map[255] = 1;
  return map;
}
export const SIGNED_DYNAMIC_MAP = dynamicMap(true);
export const UNSIGNED_DYNAMIC_MAP = dynamicMap(false);

/** The code whose value is nearest to x, the lower one of two; NaN takes code 0. */
export function nearestCode(map: Float32Array, x: number): number {
  if (Number.isNaN(x)) return 0;
  let [low, high] = [0, 255];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (map[middle]! <= x) low = middle;
    else high = middle;
  }
  const distance = (code: number) => Math.abs(f32(map[code]! - x));
  return distance(high) < distance(low) ? high : low;
}

const largestSize = (values: Float32Array): number => values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);

export interface QuantizedNf4 {
  codes: Uint8Array; // (⌈n/2⌉)
  absmaxCodes: Uint8Array; // (⌈n/64⌉)
  absmax: Float32Array; // (⌈⌈n/64⌉/256⌉)
  absmaxOffset: number;
}

/** NF4 with double quantisation of n values. */
export function quantizeNf4(values: Float32Array): QuantizedNf4 {
  const codes = new Uint8Array(Math.ceil(values.length / 2));
  const blocks = new Float32Array(Math.ceil(values.length / NF4_BLOCK));
  for (let block = 0; block < blocks.length; block++) {
    const start = block * NF4_BLOCK;
    const end = Math.min(start + NF4_BLOCK, values.length);
    const absmax = largestSize(values.subarray(start, end));
    blocks[block] = absmax;
    const scale = absmax > 0 ? f32(1 / absmax) : 0;
    for (let i = start; i < end; i++) {
      const x = f32(values[i]! * scale);
      let code = 0;
      while (code < 15 && x > NF4_THRESHOLDS[code]!) code++;
      codes[i >> 1]! |= i % 2 ? code : code << 4;
    }
  }
  return { codes, ...quantizeAbsmax(blocks) };
}

function quantizeAbsmax(blocks: Float32Array): Omit<QuantizedNf4, 'codes'> {
  const absmaxOffset = blocks.length ? f32(blocks.reduce((sum, x) => sum + x, 0) / blocks.length) : 0;
  const absmaxCodes = new Uint8Array(blocks.length);
  const absmax = new Float32Array(Math.ceil(blocks.length / NESTED_BLOCK));
  for (let nested = 0; nested < absmax.length; nested++) {
    const start = nested * NESTED_BLOCK;
    const centred = blocks.slice(start, start + NESTED_BLOCK).map((x) => x - absmaxOffset);
    const largest = largestSize(centred);
    absmax[nested] = largest;
    const scale = largest > 0 ? f32(1 / largest) : 0;
    centred.forEach((x, i) => {
      absmaxCodes[start + i] = nearestCode(SIGNED_DYNAMIC_MAP, f32(x * scale));
    });
  }
  return { absmaxCodes, absmax, absmaxOffset };
}

/** A copy of a weight's values as f32: TensorFlow.js has no 16-bit floating type. */
export function decodeWeight({ dtype, data }: WeightValues): Float32Array {
  if (dtype === 'f32') return (data as Float32Array).slice();
  if (dtype === 'f16') return Float32Array.from(data as Uint16Array, f16Value);
  const words = new Uint32Array(data.length);
  for (let i = 0; i < data.length; i++) words[i] = data[i]! << 16;
  return new Float32Array(words.buffer);
}

function f16Value(bits: number): number {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}
