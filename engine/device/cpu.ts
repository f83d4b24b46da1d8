// SPDX-License-Identifier: Apache-2.0
// The cpu device: tensors are typed arrays over memory outside the JavaScript heap, and ops run when they are called. Freed
// memory is kept by size for the next tensor of that size, because a step asks for the same sizes again and fresh pages
// cost a page fault each.
import { type Native, native, STORAGE_TYPE } from '../../kernels/index.js';
import {
  type Compute,
  type Dense,
  type DType,
  ELEMENT_BYTES,
  elementsOf,
  type F32,
  type MemoryKind,
  NESTED_BLOCK,
  NF4_BLOCK,
  type Nf4,
  type Nf4Values,
  type Tensor,
  type U8,
  type Values,
  type WeightValues,
} from './device.js';
import { KernelDevice, type KernelOps } from './kernel-device.js';
import { BufferPool } from './pool.js';

interface NativeTensor<D extends DType = DType> extends Tensor<D> {
  readonly storage: Values;
  /** The memory is someone else's. */
  readonly adopted?: true;
}

export interface CpuDeviceOptions {
  compute: Compute;
  /** Fill new memory with NaN, so that a read of what was never written shows. For tests. */
  poison?: boolean;
}

const EMPTY = new Float32Array(0);

/** Elements that are quantised at a time: bounds the f32 copy of a weight; a multiple of the quantisation block. */
const QUANTIZE_CHUNK = 1 << 22;

export class CpuDevice extends KernelDevice {
  readonly name = 'cpu';
  readonly #ops: Native = native();
  readonly #poison: boolean;
  readonly #pool = new BufferPool<ArrayBuffer>(
    (bytes) => this.#ops.allocate(bytes),
    (buffer) => this.#ops.release(buffer),
  );

  constructor(options: CpuDeviceOptions) {
    super(options.compute, native() as KernelOps, EMPTY);
    this.#poison = options.poison ?? false;
  }

  allocate<D extends DType = 'f32'>(kind: MemoryKind, shape: readonly number[], dtype?: D): Tensor<D> {
    const type = dtype ?? ('f32' as D);
    const size = elementsOf(shape);
    const buffer = this.#pool.take(size * ELEMENT_BYTES[type]);
    if (this.#poison) new Uint8Array(buffer).fill(0xff); // NaN as f32, -1 as i32
    return { dtype: type, shape, size, kind, storage: arrayOver(type, buffer, 0, size) } as NativeTensor<D>;
  }

  free(tensor: Tensor): void {
    if ((tensor as NativeTensor).adopted) return;
    this.#pool.give(valuesOf(tensor).buffer as ArrayBuffer);
  }

  view<D extends DType>(tensor: Tensor<D>, offset: number, shape: readonly number[]): Tensor<D> {
    const { dtype, kind } = tensor;
    const values = valuesOf(tensor);
    const size = elementsOf(shape);
    const storage = arrayOver(
      dtype,
      values.buffer as ArrayBuffer,
      values.byteOffset + offset * ELEMENT_BYTES[dtype],
      size,
    );
    return { dtype, shape, size, kind, storage } as NativeTensor<D>;
  }

  trim(): void {
    this.#pool.trim();
  }

  upload(tensor: Tensor, values: Values): void {
    valuesOf(tensor).set(values);
  }

  download(tensor: F32): Promise<Float32Array>;
  download(tensor: Tensor): Promise<Values>;
  async download(tensor: Tensor): Promise<Values> {
    return valuesOf(tensor).slice();
  }

  adoptWeight(values: WeightValues): Dense {
    return adopted(values.dtype, values.shape, values.data);
  }

  adoptNf4({ shape, codes, absmaxCodes, absmax, absmaxOffset }: Nf4Values): Nf4 {
    return {
      dtype: 'nf4',
      shape,
      codes: adopted('u8', [codes.length], codes),
      absmaxCodes: adopted('u8', [absmaxCodes.length], absmaxCodes),
      absmax: adopted('f32', [absmax.length], absmax),
      absmaxOffset,
    };
  }

  uploadWeight(tensor: F32, values: WeightValues): void {
    this.#ops.toF32(f32(tensor), values.data, STORAGE_TYPE[values.dtype], tensor.size);
  }

  quantizeWeight(values: WeightValues): Nf4 {
    const [N, K] = values.shape as [number, number];
    const n = N * K;
    const blocks = Math.ceil(n / NF4_BLOCK);
    const codes = this.allocate('weights', [Math.ceil(n / 2)], 'u8');
    const absmaxCodes = this.allocate('weights', [blocks], 'u8');
    const absmax = this.allocate('weights', [Math.ceil(blocks / NESTED_BLOCK)]);
    const blockAbsmax = this.allocate('scratch', [blocks]);
    const chunk = this.allocate('scratch', [Math.min(n, QUANTIZE_CHUNK)]);
    for (let start = 0; start < n; start += QUANTIZE_CHUNK) {
      const count = Math.min(QUANTIZE_CHUNK, n - start);
      const dense = f32(chunk).subarray(0, count);
      this.#ops.toF32(dense, values.data.subarray(start, start + count), STORAGE_TYPE[values.dtype], count);
      this.#ops.nf4Quantize(
        u8(codes).subarray(start / 2, start / 2 + Math.ceil(count / 2)),
        f32(blockAbsmax).subarray(start / NF4_BLOCK, start / NF4_BLOCK + Math.ceil(count / NF4_BLOCK)),
        dense,
        count,
      );
    }
    const offset = new Float32Array(1);
    this.#ops.nf4DoubleQuantize(u8(absmaxCodes), f32(absmax), offset, f32(blockAbsmax), blocks);
    this.free(chunk);
    this.free(blockAbsmax);
    return { dtype: 'nf4', shape: [N, K], codes, absmaxCodes, absmax, absmaxOffset: offset[0]! };
  }
}

function arrayOver(dtype: DType, buffer: ArrayBuffer, byteOffset: number, size: number): Values {
  switch (dtype) {
    case 'f32':
      return new Float32Array(buffer, byteOffset, size);
    case 'i32':
      return new Int32Array(buffer, byteOffset, size);
    case 'u8':
      return new Uint8Array(buffer, byteOffset, size);
    default:
      return new Uint16Array(buffer, byteOffset, size);
  }
}

/** A tensor over values that someone else owns. */
function adopted<D extends DType>(dtype: D, shape: readonly number[], values: Values): Tensor<D> {
  return { dtype, shape, size: values.length, kind: 'weights', storage: values, adopted: true } as NativeTensor<D>;
}

const valuesOf = (tensor: Tensor): Values => (tensor as NativeTensor).storage;
const f32 = (tensor: F32): Float32Array => (tensor as NativeTensor).storage as Float32Array;
const u8 = (tensor: U8): Uint8Array => (tensor as NativeTensor).storage as Uint8Array;

/** The fastest compute type that loses no more than bf16 does: bf16 where the processor multiplies bf16 pairs, else f32. */
export function preferredCompute(): { compute: Compute; reason: string } {
  const set = native().instructionSet();
  if (set === 'avx512bf16') return { compute: 'bf16', reason: 'the processor multiplies bf16 pairs (AVX-512 BF16)' };
  return { compute: 'f32', reason: `the instruction set ${set} has no bf16 products` };
}
