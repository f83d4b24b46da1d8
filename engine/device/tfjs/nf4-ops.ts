// SPDX-License-Identifier: Apache-2.0
// Frozen 4-bit weights over our own TensorFlow ops (kernels/tfjs/), which are there after `npm run build:tfjs` on a native
// backend. Bytes lie in tensors of bool, the only type of one byte that TensorFlow.js has, and on a GPU the only one that
// TensorFlow would not hold in the host's memory; TensorFlow's own ops must not see them.
import { registerTfjsOps, TFJS_OPS } from '../../../kernels/index.js';
import type { LoadedTensorFlow } from './load.js';
import { PackedBytes, type T, type Tf } from './memory.js';
import type { Nf4Codec, Nf4Parts } from './nf4.js';

/** What the native backend has beyond the interface of backends. */
interface NativeBackend {
  readonly isUsingGpuDevice: boolean;
  readonly binding: { readonly TF_ATTR_INT: number };
  executeSingleOutput(name: string, attributes: { name: string; type: number; value: unknown }[], inputs: T[]): T;
}

/**
 * Up to so many rows a weight is decoded within the product. Measured on 2048 × 2048: one row takes 3.2 ms instead of 5.0; from
 * two rows on TensorFlow's product of the decoded matrix is as quick or quicker.
 */
const FEW_ROWS = 1;

/** The codec over our ops, or nothing where they are not built or the backend is none of TensorFlow's. */
export function customOpCodec({ tf, backend }: LoadedTensorFlow): Nf4Codec | undefined {
  if (backend !== 'tensorflow') return undefined;
  const { built, hasCuda } = registerTfjsOps();
  const native = tf.backend() as unknown as NativeBackend;
  return built && (hasCuda || !native.isUsingGpuDevice) ? new CustomOpCodec(tf, native) : undefined;
}

class CustomOpCodec implements Nf4Codec {
  constructor(
    private readonly tf: Tf,
    private readonly backend: NativeBackend,
  ) {}

  pack(bytes: Uint8Array, unit: number): PackedBytes {
    const padded = new Uint8Array(Math.ceil(bytes.length / unit) * unit);
    padded.set(bytes);
    const tensor = this.tf.keep(this.tf.tensor1d(padded, 'bool'));
    return new PackedBytes(tensor, bytes.length, () => Uint8Array.from(tensor.dataSync().subarray(0, bytes.length)));
  }

  decode(parts: Nf4Parts): T {
    return this.#run(TFJS_OPS.decode, parts, []);
  }

  product(inp: T, parts: Nf4Parts): T | undefined {
    if (inp.shape[0]! > FEW_ROWS || this.backend.isUsingGpuDevice) return undefined;
    return this.#run(TFJS_OPS.product, parts, [inp]);
  }

  #run(op: string, { shape, codes, absmaxCodes, absmax, absmaxOffset }: Nf4Parts, more: T[]): T {
    const type = this.backend.binding.TF_ATTR_INT;
    const attributes = ['N', 'K'].map((name, i) => ({ name, type, value: shape[i] }));
    const inputs = [codes.tensor, absmaxCodes.tensor, absmax, this.tf.scalar(absmaxOffset), ...more];
    return this.backend.executeSingleOutput(op, attributes, inputs);
  }
}
