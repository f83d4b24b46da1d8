// SPDX-License-Identifier: Apache-2.0
// Tensors of the tfjs device: handles, what is allocated for them, and how ops read and rebind them. Everything that an op
// leaves over is freed by the `tf.tidy` of `run`.
import {
  type DType,
  elementsOf,
  type F32,
  type I32,
  lastOf,
  type MemoryKind,
  type Tensor,
  type Values,
} from '../device.js';
import { Floats, floatsOf, intsOf, offsetOf, PackedBytes, type T, type Tf, type TfjsTensor } from './memory.js';

export class TfjsMemory {
  constructor(protected readonly tf: Tf) {}

  allocate<D extends DType = 'f32'>(kind: MemoryKind, shape: readonly number[], dtype?: D): Tensor<D> {
    const type = dtype ?? ('f32' as D);
    const size = elementsOf(shape);
    return handle(type, kind, shape, this.#memory(type, size));
  }

  #memory(dtype: DType, size: number): Floats | Int32Array | Uint8Array {
    if (dtype === 'i32') return new Int32Array(size);
    if (dtype === 'u8') return new Uint8Array(size);
    if (dtype === 'f32') return new Floats(this.tf, size);
    throw new Error(`memory of type ${dtype} on the tfjs device, which decodes 16-bit weights`);
  }

  free(tensor: Tensor): void {
    const { storage } = tensor as TfjsTensor;
    if (storage instanceof Floats || storage instanceof PackedBytes) storage.dispose();
  }

  view<D extends DType>(tensor: Tensor<D>, offset: number, shape: readonly number[]): Tensor<D> {
    const { dtype, kind, storage, offset: start } = tensor as TfjsTensor<D>;
    const size = elementsOf(shape);
    if (storage instanceof Floats) return handle(dtype, kind, shape, storage, start + offset);
    if (storage instanceof PackedBytes) throw new Error('a view of packed 4-bit codes');
    return handle(dtype, kind, shape, storage.subarray(offset, offset + size));
  }

  trim(): void {}

  scope(): void {}

  upload(tensor: Tensor, values: Values): void {
    const { storage, shape } = tensor as TfjsTensor;
    if (storage instanceof PackedBytes) throw new Error('an upload into packed 4-bit codes');
    if (storage instanceof Floats) {
      const copy = values.slice() as Float32Array; // TensorFlow.js may share the array it is given
      this.run(() => this.write(tensor as F32, this.tf.tensor(copy, [...shape], 'float32')));
    } else {
      storage.set(values as Uint8Array);
    }
  }

  download(tensor: F32): Promise<Float32Array>;
  download(tensor: Tensor): Promise<Values>;
  async download(tensor: Tensor): Promise<Values> {
    const { storage } = tensor as TfjsTensor;
    if (storage instanceof PackedBytes) return storage.bytes();
    if (!(storage instanceof Floats)) return storage.slice();
    // A copy of the handle, because an op may rebind the tensor while this waits; a copy of the values, because backends
    // hand out their own.
    const values = this.tf.tidy(() => this.tf.keep(this.tf.clone(this.read(tensor as F32))));
    const data = (await values.data()) as Float32Array;
    values.dispose();
    return data.slice();
  }

  protected run(op: () => void): void {
    this.tf.tidy(op);
  }

  protected read(tensor: F32, shape = tensor.shape): T {
    return floatsOf(tensor).read(offsetOf(tensor), shape);
  }

  protected flat(tensor: F32): T {
    return this.read(tensor, [tensor.size]);
  }

  /** As a matrix of rows. */
  protected rows(tensor: F32, width = lastOf(tensor.shape)): T {
    return this.read(tensor, [width && tensor.size / width, width]);
  }

  /** A copy: TensorFlow.js may share an array it is given, and these change. */
  protected ints(tensor: I32): T {
    return this.tf.tensor(intsOf(tensor).slice(), [tensor.size], 'int32');
  }

  protected starts(tensor: I32): T {
    return this.tf.tensor(Float32Array.from(intsOf(tensor)), [...tensor.shape], 'float32');
  }

  /** `value` must be a tensor that an op has just made. */
  protected write(tensor: F32, value: T): void {
    floatsOf(tensor).write(offsetOf(tensor), value);
  }

  protected put(tensor: F32, value: T, accumulate = false): void {
    this.write(tensor, accumulate ? this.tf.add(this.read(tensor, value.shape), value) : value);
  }
}

export function handle<D extends DType>(
  dtype: D,
  kind: MemoryKind,
  shape: readonly number[],
  storage: TfjsTensor['storage'],
  offset = 0,
): TfjsTensor<D> {
  return { dtype, kind, shape, size: elementsOf(shape), storage, offset } as TfjsTensor<D>;
}
