// SPDX-License-Identifier: Apache-2.0
// NF4 against bitsandbytes: bytes, scales, 8-bit codes and dequantised values must be equal, not close, on every instruction
// set. What the reference data leave open (the order of the sum behind `offset`) has the tolerance that their README names.
import { readFileSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { native, STORAGE_TYPE } from '../kernels/index.js';
import { shared, suite } from './support/harness.js';

const test = suite('nf4');
const addon = native();

type Tensors = Map<string, { type: string; bytes: Uint8Array }>;

/** The tensors of a small .safetensors file. */
function readTensors(name: string): Tensors {
  const file = readFileSync(shared('goldens', 'nf4', name));
  const headerLength = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerLength)) as Record<
    string,
    { dtype: string; data_offsets: [number, number] }
  >;
  const tensors: Tensors = new Map();
  for (const [key, { dtype, data_offsets }] of Object.entries(header)) {
    if (key === '__metadata__') continue;
    const [start, end] = data_offsets;
    // A copy, so that the bytes are aligned for any element type.
    tensors.set(key, {
      type: dtype,
      bytes: new Uint8Array(file.subarray(8 + headerLength + start, 8 + headerLength + end)),
    });
  }
  return tensors;
}

function bytesOf(tensors: Tensors, name: string): Uint8Array {
  const tensor = tensors.get(name);
  if (!tensor) throw new Error(`no tensor ${name}`);
  return tensor.bytes;
}

/** A floating-point tensor as f32. */
function floatsOf(tensors: Tensors, name: string): Float32Array {
  const type = tensors.get(name)?.type;
  const bytes = bytesOf(tensors, name);
  if (type === 'F32') return new Float32Array(bytes.buffer);
  const out = new Float32Array(bytes.length / 2);
  addon.toF32(out, bytes, type === 'BF16' ? STORAGE_TYPE.bf16 : STORAGE_TYPE.f16, out.length);
  return out;
}

function sameBytes(got: Uint8Array | Float32Array, want: Uint8Array | Float32Array, what: string): void {
  assert.is(got.length, want.length, `${what}: length`);
  for (let i = 0; i < want.length; i++) {
    if (!Object.is(got[i], want[i]) && got[i] !== want[i])
      assert.unreachable(`${what}: [${i}] got ${got[i]}, want ${want[i]}`);
  }
}

function near(got: number, want: number, tolerance: number, what: string): void {
  assert.ok(Math.abs(got - want) <= tolerance, `${what}: got ${got}, want ${want} ± ${tolerance}`);
}

const NO_CODES = new Uint8Array(0);
const blocksOf = (n: number, size: number) => Math.ceil(n / size);

/** Runs `body` on every instruction set of this processor. */
function onEveryInstructionSet(name: string, body: () => void): void {
  for (const set of addon.instructionSets()) {
    test(`${name} (${set})`, () => {
      const before = addon.instructionSet();
      addon.selectInstructionSet(set);
      try {
        body();
      } finally {
        addon.selectInstructionSet(before);
      }
    });
  }
}

const CASES = [
  'bf16_64x128',
  'normal_128x256',
  'normal_96x192',
  'outliers_64x128',
  'rows_64x96',
  'single_block_4x16',
  'tail_50x30',
  'zero_block_24x64',
];

for (const name of CASES) {
  onEveryInstructionSet(`${name}: quantised as bitsandbytes does`, () => {
    const tensors = readTensors(`${name}.safetensors`);
    const weight = floatsOf(tensors, 'weight');
    const n = weight.length;
    const blocks = blocksOf(n, 64);
    const codes = new Uint8Array(blocksOf(n, 2)).fill(0xff);
    const absmax = new Float32Array(blocks);
    addon.nf4Quantize(codes, absmax, weight, n);
    sameBytes(codes, bytesOf(tensors, 'nf4.packed'), 'codes');
    sameBytes(absmax, floatsOf(tensors, 'nf4.absmax'), 'absmax');

    const absmaxCodes = new Uint8Array(blocks);
    const nested = new Float32Array(blocksOf(blocks, 256));
    const offset = new Float32Array(1);
    addon.nf4DoubleQuantize(absmaxCodes, nested, offset, absmax, blocks);
    const wantOffset = floatsOf(tensors, 'dq.offset')[0]!;
    near(offset[0]!, wantOffset, 1e-6 * wantOffset, 'offset');
    const wantNested = floatsOf(tensors, 'dq.nested_absmax');
    for (const [i, want] of wantNested.entries()) near(nested[i]!, want, 1e-6 * want, `nested absmax ${i}`);
    // With a single block absmax is its own mean, and the code of 0/0 means nothing.
    if (blocks > 1) sameBytes(absmaxCodes, bytesOf(tensors, 'dq.absmax_codes'), 'absmax codes');
  });

  onEveryInstructionSet(`${name}: dequantised as bitsandbytes does`, () => {
    const tensors = readTensors(`${name}.safetensors`);
    const n = floatsOf(tensors, 'weight').length;
    const out = new Float32Array(n);
    addon.nf4Dequantize(out, bytesOf(tensors, 'nf4.packed'), NO_CODES, floatsOf(tensors, 'nf4.absmax'), 0, n);
    sameBytes(out, floatsOf(tensors, 'nf4.dequant_f32'), 'single');
    addon.nf4Dequantize(
      out,
      bytesOf(tensors, 'nf4.packed'),
      bytesOf(tensors, 'dq.absmax_codes'),
      floatsOf(tensors, 'dq.nested_absmax'),
      floatsOf(tensors, 'dq.offset')[0]!,
      n,
    );
    sameBytes(out, floatsOf(tensors, 'dq.dequant_f32'), 'double');
    if (!tensors.has('dq.dequant_bf16')) return;
    const rounded = new Uint16Array(n);
    addon.fromF32(rounded, out, STORAGE_TYPE.bf16, n);
    sameBytes(new Uint8Array(rounded.buffer), bytesOf(tensors, 'dq.dequant_bf16'), 'double, as bf16');
  });
}

for (const name of ['linear4bit_dq', 'linear4bit_dq_bias', 'linear4bit_single']) {
  onEveryInstructionSet(`${name}: a layer as bitsandbytes writes it`, () => {
    const layer = readTensors(`${name}.safetensors`);
    const want = readTensors(`${name}.dequant.safetensors`);
    const state = JSON.parse(
      new TextDecoder().decode(bytesOf(layer, 'layer.weight.quant_state.bitsandbytes__nf4')),
    ) as {
      nested_offset?: number;
    };
    const isDouble = state.nested_offset !== undefined;
    const n = floatsOf(want, 'weight_f32').length;
    const out = new Float32Array(n);
    addon.nf4Dequantize(
      out,
      bytesOf(layer, 'layer.weight'),
      isDouble ? bytesOf(layer, 'layer.weight.absmax') : NO_CODES,
      floatsOf(layer, isDouble ? 'layer.weight.nested_absmax' : 'layer.weight.absmax'),
      state.nested_offset ?? 0,
      n,
    );
    sameBytes(out, floatsOf(want, 'weight_f32'), 'weight');
    // The map that the file carries is the one that the kernels compute for themselves: index i of it is the scale of code i.
    if (!isDouble) return;
    const map = floatsOf(layer, 'layer.weight.nested_quant_map');
    const units = new Float32Array(256 * 64);
    const everyScale = Uint8Array.from({ length: 256 }, (_, i) => i);
    addon.nf4Dequantize(
      units,
      new Uint8Array(units.length / 2).fill(0xff),
      everyScale,
      new Float32Array([1]),
      0,
      units.length,
    );
    for (let i = 0; i < 256; i++) assert.is(units[64 * i], map[i]);
  });
}

onEveryInstructionSet('any number of elements: a short last block, an odd last byte', () => {
  for (const n of [0, 1, 2, 63, 64, 65, 127, 129, 16383 * 4 + 1, 65536 + 65]) {
    const inp = Float32Array.from({ length: n }, (_, i) => Math.sin(i * 0.7) * (1 + (i % 97)));
    const codes = new Uint8Array(blocksOf(n, 2)).fill(0xff);
    const absmax = new Float32Array(blocksOf(n, 64));
    addon.nf4Quantize(codes, absmax, inp, n);
    const out = new Float32Array(n + 1).fill(7);
    addon.nf4Dequantize(out.subarray(0, n), codes, NO_CODES, absmax, 0, n);
    assert.is(out[n], 7, 'nothing is written past the end');
    if (n % 2) assert.is(codes.at(-1)! & 15, 0, 'the unused half of the last byte is 0');
    for (let i = 0; i < n; i++) {
      // The widest gap of the code is 0.304 between -1 and -0.696: half of it is the largest error.
      near(out[i]!, inp[i]!, 0.16 * absmax[Math.floor(i / 64)]!, `n ${n}, element ${i}`);
    }
  }
});
