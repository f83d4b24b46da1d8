// SPDX-License-Identifier: Apache-2.0
// What a stored weight can become on its way into another file: the same bytes, another floating-point type, or NF4. A block
// at a time, so that a weight of any size costs little memory. Run its tests: `npm test -- checkpoints/model-writer`.
import { basename, dirname } from 'node:path';
import { UserError } from '../errors.js';
import { packedDeclarations, quantizePacked } from './bitsandbytes.js';
import { type FileLayer, Replacement, systemFiles } from './files.js';
import type { StoredTensor } from './model.js';
import type { Piece, WeightStream } from './model-writer.js';
import { SafetensorsWriter } from './safetensors.js';
import { BLOCK_BYTES, ELEMENT_TYPE, fromF32, toF32, type WeightType, weightType } from './tensor-file.js';

/** Cast at a time: what comes between stays in the processor's cache. */
const CAST_ELEMENTS = 1 << 16;

/** Tensors as they are. */
export function copyStream(tensors: readonly StoredTensor[]): WeightStream {
  return {
    declarations: tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape })),
    produce(put) {
      for (const tensor of tensors) copyValues(tensor, (piece) => put(tensor.name, piece));
    },
  };
}

/** A dense tensor in another floating-point type, under its name or a new one. @throws UserError where values do not fit it */
export function castStream(tensor: StoredTensor, to: WeightType, name = tensor.name): WeightStream {
  return {
    declarations: [{ name, dtype: ELEMENT_TYPE[to], shape: tensor.shape }],
    produce(put) {
      const from = weightType(tensor.dtype)!;
      if (from === to) return copyValues(tensor, (piece) => put(name, piece));
      for (const block of tensor.blocks() as Iterable<Float32Array | Uint16Array>) {
        for (let at = 0; at < block.length; at += CAST_ELEMENTS)
          put(name, cast(name, block.subarray(at, at + CAST_ELEMENTS), from, to));
      }
    },
  };
}

/** Values as they are: as a part of their file where they lie there so, which is the fastest to copy. */
function copyValues(tensor: StoredTensor, put: (piece: Piece) => void): void {
  const range = tensor.range?.();
  if (range) put(range);
  else for (const block of tensor.blocks()) put(block);
}

/** A dense tensor in NF4, double-quantised. */
export function quantizeStream(tensor: StoredTensor): WeightStream {
  return {
    declarations: packedDeclarations(tensor.name, tensor.shape),
    produce: (put) => quantizePacked(tensor.name, tensor.shape, weightType(tensor.dtype)!, blocksInF32(tensor), put),
  };
}

/** Writes one safetensors file of streams; an existing file stays until the new one is complete. */
export async function streamSafetensors(
  path: string,
  streams: readonly WeightStream[],
  layer: FileLayer = systemFiles,
): Promise<void> {
  const replacement = new Replacement(dirname(path), layer);
  try {
    const declarations = streams.flatMap((stream) => stream.declarations);
    const writer = new SafetensorsWriter(replacement.create(basename(path)), declarations);
    for (const { produce } of streams) await produce((name, data) => writer.write(name, data));
    writer.finish();
    replacement.commit();
  } finally {
    replacement.close();
  }
}

/** The values of a dense tensor in f32, block by block. */
export function* blocksInF32(tensor: StoredTensor): Generator<Float32Array> {
  const from = weightType(tensor.dtype)!;
  for (const block of tensor.blocks()) {
    yield from === 'f32' ? (block as Float32Array) : toF32(block as Uint16Array, from);
  }
}

/** The bits of infinity without their sign. */
const INFINITY = { bf16: 0x7f80, f16: 0x7c00 } as const;

/**
 * Values in another type, to nearest even; good until the next are cast. @param name for errors
 * @throws UserError where a finite value becomes infinite
 */
export function cast(
  name: string,
  data: Float32Array | Uint16Array,
  from: WeightType,
  to: WeightType,
): Float32Array | Uint16Array {
  if (from === to) return data;
  const wide = from === 'f32' ? (data as Float32Array) : toF32(data, from, spare('wide', Float32Array, data.length));
  if (to === 'f32') return wide;
  const out = fromF32(wide, to, spare('narrow', Uint16Array, data.length)) as Uint16Array;
  checkRange(name, wide, out, to);
  return out;
}

/** Fresh memory for every block costs more than casting it: the system clears each page. */
const spares: Record<string, Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>> = {};

function spare<A extends Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>>(
  use: string,
  type: new (length: number) => A,
  length: number,
): A {
  const known = spares[use] as A | undefined;
  if (known && known.length >= length) return known.subarray(0, length) as A;
  const fresh = new type(length);
  if (length <= BLOCK_BYTES) spares[use] = fresh; // others are of whole tensors
  return fresh;
}

/** Whether one of the values may be infinite; two at a time, since all of a model's go through here. @param values of a spare: aligned */
function mayHold(infinity: number, values: Uint16Array): boolean {
  const pairs = new Uint32Array(values.buffer, values.byteOffset, values.length >> 1);
  const both = infinity * 0x10001;
  for (let i = 0; i < pairs.length; i++) {
    // A half of 0 after the subtraction borrows from its highest bit, which is 0 in all others ("haszero" of Bit Twiddling Hacks).
    const rest = (pairs[i]! & 0x7fff7fff) ^ both;
    if (((rest - 0x00010001) & ~rest & 0x80008000) !== 0) return true;
  }
  return values.length % 2 === 1 && (values.at(-1)! & 0x7fff) === infinity;
}

function checkRange(name: string, wide: Float32Array, out: Uint16Array, to: 'bf16' | 'f16'): void {
  const infinity = INFINITY[to];
  if (!mayHold(infinity, out)) return;
  for (let i = 0; i < out.length; i++) {
    if ((out[i]! & 0x7fff) !== infinity || !Number.isFinite(wide[i]!)) continue;
    throw new UserError({
      expected: `values of '${name}' that ${to} can hold`,
      found: `${wide[i]}`,
      where: name,
      remedy: to === 'f16' ? 'choose bf16, which has the range of f32' : 'choose f32',
    });
  }
}
