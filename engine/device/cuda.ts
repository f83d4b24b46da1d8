// SPDX-License-Identifier: Apache-2.0
// The cuda device: tensors are GPU memory, ops only enqueue kernels, and results arrive through `download`. Frozen weights go
// up in the form they are kept in (4-bit or 16-bit); quantising is done by the CPU's kernels, so a weight has the same bits
// on every device. Freed memory is kept by size for the next tensor of that size; the GPU runs ops in the order of their
// calls, so memory may be used again before they have run.
import { CUBLASLT_LEAST, type GpuSpan, type NativeGpu, native, openGpu, STORAGE_TYPE } from '../../kernels/index.js';
import { CpuDevice } from './cpu.js';
import {
  type Compute,
  type Dense,
  type DType,
  ELEMENT_BYTES,
  elementsOf,
  type F32,
  type MemoryKind,
  type Nf4,
  type Nf4Values,
  type Tensor,
  type U8,
  type Values,
  type WeightValues,
} from './device.js';
import { KernelDevice, type KernelOps } from './kernel-device.js';
import { BufferPool } from './pool.js';

/** A piece of GPU memory. */
interface GpuBuffer {
  readonly address: number;
  readonly byteLength: number;
  readonly paged: boolean;
}

interface GpuStorage extends GpuSpan {
  readonly buffer: GpuBuffer;
}

interface GpuTensor<D extends DType = DType> extends Tensor<D> {
  readonly storage: GpuStorage;
}

export interface CudaDeviceOptions {
  compute: Compute;
  /** Which of the machine's GPUs; default 0. */
  ordinal?: number;
  /** Optimizer states in memory that the driver moves between host and GPU as it is used. */
  pagedOptimizer?: boolean;
  /** Large products go to cuBLASLt where it is found. The latest device of the process decides. */
  cublasLt?: boolean;
  /** Fill new memory with NaN. For tests. */
  poison?: boolean;
}

/** Memory that could not be had, and what the device held then, by purpose. */
export class OutOfGpuMemory extends Error {
  constructor(
    readonly wantedBytes: number,
    readonly kind: MemoryKind,
    readonly held: ReadonlyMap<MemoryKind, number>,
    readonly freeBytes: number,
    readonly totalBytes: number,
  ) {
    super(`out of GPU memory: ${wantedBytes} bytes for ${kind}, ${freeBytes} of ${totalBytes} are free`);
  }
}

/** Elements that are converted at a time on the way up. */
const CONVERT_CHUNK = 1 << 22;

export class CudaDevice extends KernelDevice {
  readonly name = 'cuda';
  readonly gpu: NativeGpu;
  readonly cublasLt: boolean;
  readonly #poison: boolean;
  readonly #pagedOptimizer: boolean;
  readonly #held = new Map<MemoryKind, number>();
  #kind: MemoryKind = 'activations';
  readonly #pool = this.#poolOf(false);
  readonly #paged = this.#poolOf(true);

  constructor(options: CudaDeviceOptions) {
    const gpu = openGpu(options.ordinal);
    super(options.compute, gpu as unknown as KernelOps, { address: 0, count: 0, elementBytes: 4 } satisfies GpuSpan);
    this.gpu = gpu;
    this.cublasLt = options.cublasLt ?? false;
    gpu.useCublasLt(this.cublasLt ? CUBLASLT_LEAST : 0);
    this.#poison = options.poison ?? false;
    this.#pagedOptimizer = options.pagedOptimizer ?? false;
  }

  #poolOf(paged: boolean): BufferPool<GpuBuffer> {
    return new BufferPool<GpuBuffer>(
      (byteLength) => ({ address: this.#allocate(byteLength, paged), byteLength, paged }),
      ({ address, byteLength }) => {
        if (byteLength > 0) this.gpu.release(address);
      },
    );
  }

  #allocate(bytes: number, paged: boolean): number {
    if (bytes === 0) return 0;
    try {
      return this.gpu.allocate(bytes, paged);
    } catch (error) {
      if ((error as { code?: string }).code !== 'CUDA_OUT_OF_MEMORY') throw error;
    }
    this.trim(); // what is held in other sizes may make room
    try {
      return this.gpu.allocate(bytes, paged);
    } catch (error) {
      if ((error as { code?: string }).code !== 'CUDA_OUT_OF_MEMORY') throw error;
      const { freeBytes, totalBytes } = this.gpu.memory();
      throw new OutOfGpuMemory(bytes, this.#kind, this.#held, freeBytes, totalBytes);
    }
  }

  allocate<D extends DType = 'f32'>(kind: MemoryKind, shape: readonly number[], dtype?: D): Tensor<D> {
    const type = dtype ?? ('f32' as D);
    const size = elementsOf(shape);
    this.#kind = kind;
    const pool = kind === 'optimizer' && this.#pagedOptimizer ? this.#paged : this.#pool;
    const buffer = pool.take(size * ELEMENT_BYTES[type]);
    this.#held.set(kind, (this.#held.get(kind) ?? 0) + buffer.byteLength);
    if (this.#poison) this.gpu.fillBytes(buffer.address, 0xff, buffer.byteLength); // NaN as f32, -1 as i32
    return tensorOver(type, shape, kind, buffer, buffer.address);
  }

  free(tensor: Tensor): void {
    const { buffer } = storageOf(tensor);
    this.#held.set(tensor.kind, (this.#held.get(tensor.kind) ?? 0) - buffer.byteLength);
    (buffer.paged ? this.#paged : this.#pool).give(buffer);
  }

  view<D extends DType>(tensor: Tensor<D>, offset: number, shape: readonly number[]): Tensor<D> {
    const { address, buffer } = storageOf(tensor);
    return tensorOver(tensor.dtype, shape, tensor.kind, buffer, address + offset * ELEMENT_BYTES[tensor.dtype]);
  }

  trim(): void {
    this.#pool.trim();
    this.#paged.trim();
    this.gpu.trim();
  }

  synchronize(): void {
    this.gpu.synchronize();
  }

  upload(tensor: Tensor, values: Values): void {
    this.gpu.upload(storageOf(tensor).address, values);
  }

  download(tensor: F32): Promise<Float32Array>;
  download(tensor: Tensor): Promise<Values>;
  async download({ dtype, size, storage }: Tensor): Promise<Values> {
    const { address } = storage as GpuStorage;
    const bytes = await this.gpu.download(address, size * ELEMENT_BYTES[dtype]);
    if (dtype === 'f32') return new Float32Array(bytes);
    if (dtype === 'i32') return new Int32Array(bytes);
    return dtype === 'u8' ? new Uint8Array(bytes) : new Uint16Array(bytes);
  }

  adoptWeight({ dtype, shape, data }: WeightValues): Dense {
    return this.#uploaded(dtype, shape, data);
  }

  adoptNf4({ shape, codes, absmaxCodes, absmax, absmaxOffset }: Nf4Values): Nf4 {
    return {
      dtype: 'nf4',
      shape,
      codes: this.#uploaded('u8', [codes.length], codes),
      absmaxCodes: this.#uploaded('u8', [absmaxCodes.length], absmaxCodes),
      absmax: this.#uploaded('f32', [absmax.length], absmax),
      absmaxOffset,
    };
  }

  uploadWeight(tensor: F32, { dtype, data }: WeightValues): void {
    const { address } = storageOf(tensor);
    if (dtype === 'f32') {
      this.gpu.upload(address, data);
      return;
    }
    const chunk = new Float32Array(Math.min(CONVERT_CHUNK, data.length));
    for (let start = 0; start < data.length; start += CONVERT_CHUNK) {
      const part = data.subarray(start, start + CONVERT_CHUNK);
      const values = chunk.subarray(0, part.length);
      native().toF32(values, part, STORAGE_TYPE[dtype], part.length);
      this.gpu.upload(address + start * ELEMENT_BYTES.f32, values);
    }
  }

  quantizeWeight(values: WeightValues): Nf4 {
    const host = new CpuDevice({ compute: 'f32' });
    const { shape, codes, absmaxCodes, absmax, absmaxOffset } = host.quantizeWeight(values);
    const up = <D extends 'u8' | 'f32'>(tensor: Tensor<D>): Tensor<D> => {
      const copy = this.#uploaded(tensor.dtype, tensor.shape, tensor.storage as Values);
      host.free(tensor);
      return copy;
    };
    const weight: Nf4 = {
      dtype: 'nf4',
      shape,
      codes: up(codes) as U8,
      absmaxCodes: up(absmaxCodes) as U8,
      absmax: up(absmax) as F32,
      absmaxOffset,
    };
    host.trim();
    return weight;
  }

  #uploaded<D extends DType>(dtype: D, shape: readonly number[], values: Values): Tensor<D> {
    const tensor = this.allocate('weights', shape, dtype);
    if (values.length > 0) this.upload(tensor, values);
    return tensor;
  }
}

function tensorOver<D extends DType>(
  dtype: D,
  shape: readonly number[],
  kind: MemoryKind,
  buffer: GpuBuffer,
  address: number,
): GpuTensor<D> {
  const size = elementsOf(shape);
  return { dtype, shape, size, kind, storage: { address, count: size, elementBytes: ELEMENT_BYTES[dtype], buffer } };
}

const storageOf = (tensor: Tensor): GpuStorage => (tensor as GpuTensor).storage;
