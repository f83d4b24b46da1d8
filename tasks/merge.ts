// SPDX-License-Identifier: Apache-2.0
// Merges an adapter into the dense weights of its base model: W + s·B·A, computed in f32 and rounded once to the type of the
// weights. Into the original model, also where training held a 4-bit copy of it: rounding to 4 bits a second time would move
// every weight by more than the adapter does, and the 4-bit copy itself is only an approximation of the original. One weight is
// in memory at a time.
import {
  type AdapterFile,
  castStream,
  castValues,
  checkAdapterFits,
  copyStream,
  ELEMENT_TYPE,
  isLinearWeight,
  type LinearName,
  type Model,
  type ModelWeight,
  openAdapter,
  openModel,
  type WeightName,
  type WeightStream,
  type WeightType,
} from '../checkpoints/index.js';
import { CpuDevice, mergedWeight } from '../engine/index.js';
import { UserError } from '../errors.js';
import { isPacked, type ModelOutput, type ModelOutputOptions, withDtype, writeModelOutput } from './model-output.js';

export interface MergeOptions extends ModelOutputOptions {
  /** The original model, in 16 or 32 bits. */
  model: string;
  adapter: string;
  /** Type of the merged weights; default: that of the model's. */
  dtype?: WeightType | undefined;
  /** Merge into the values that a 4-bit model stands for, where the original is not to be had. */
  dequantize?: boolean | undefined;
}

export interface Merge extends ModelOutput {
  /** Weights that the adapter changed. */
  merged: number;
  /** The model that the adapter says it was trained on. */
  trainedOn: string | undefined;
}

/** @throws UserError when the model is in 4 bits, the adapter is another model's, or the output folder holds a model */
export async function merge({ model: path, adapter: adapterPath, ...options }: MergeOptions): Promise<Merge> {
  const model = openModel(path);
  try {
    const adapter = openAdapter(adapterPath);
    try {
      checkAdapterFits(adapter, model.config, adapterPath);
      const packed = model.tensorNames.some((name) => isPacked(model.storedAs(name)));
      if (packed && !options.dequantize) throw packedBase(path);
      const { weights, merged } = mergedStreams(model, adapter, options.dtype);
      const { quantization_config: _, ...fields } = model.fields;
      const dtype = options.dtype ?? denseTypeOf(model, 'embedding');
      const job = { task: 'merge', adapter: adapter.path, dtype, dequantize: packed };
      const output = await writeModelOutput(model, path, weights, { config: withDtype(fields, dtype), job }, options);
      return { ...output, merged, trainedOn: adapter.baseModel };
    } finally {
      adapter.close();
    }
  } finally {
    model.close();
  }
}

/** Weights are merged some rows at a time, of about so many elements: what is in memory in f32 beside the adapter's factors. */
const ROWS_ELEMENTS = 1 << 22;

/** The weights of a model with an adapter merged into them. */
export function mergedStreams(
  model: Model,
  adapter: AdapterFile,
  dtype?: WeightType,
): { weights: WeightStream[]; merged: number } {
  const device = new CpuDevice({ compute: 'f32' });
  let merged = 0;
  const weights = model.tensorNames.map((name): WeightStream => {
    const to = dtype ?? denseTypeOf(model, name);
    const adapted = isAdapted(name, adapter);
    if (!adapted && !isPacked(model.storedAs(name))) {
      const [tensor] = model.stored(name);
      return to === model.storedAs(name) ? copyStream([tensor!]) : castStream(tensor!, to);
    }
    if (adapted) merged++;
    const { fileName, shape } = model.place(name);
    return {
      declarations: [{ name: fileName, dtype: ELEMENT_TYPE[to], shape }],
      async produce(put) {
        const weight = denseValues(model, name);
        const factors = adapted && { A: adapter.values(`${name}.A` as never), B: adapter.values(`${name}.B` as never) };
        const [N, K] = shape as [number, number];
        const step = Math.max(1, Math.floor(ROWS_ELEMENTS / K));
        for (let row = 0; row < N; row += step) {
          const rows = Math.min(step, N - row);
          const part = { ...weight, shape: [rows, K], data: weight.data.subarray(row * K, (row + rows) * K) };
          const R = adapter.rank;
          const { dtype: type, data } = factors
            ? await mergedWeight(
                device,
                part,
                { ...factors, B: factors.B.subarray(row * R, (row + rows) * R) },
                adapter,
              )
            : part;
          put(fileName, castValues(fileName, data, type, to));
        }
        model.done(name);
      },
    };
  });
  return { weights, merged };
}

/** Whether an adapter changes a weight. */
export const isAdapted = (name: WeightName, { targets }: AdapterFile): boolean =>
  isLinearWeight(name) && targets.includes(name.split('.')[2] as LinearName);

function denseValues(model: Model, name: WeightName): ModelWeight {
  if (!isPacked(model.storedAs(name))) return model.weight(name);
  return { dtype: 'f32', shape: model.place(name).shape, data: model.values(name) };
}

/** The type of a weight, or what a 4-bit one becomes: the type of the weights that were not quantised. */
function denseTypeOf(model: Model, name: WeightName): WeightType {
  const stored = model.storedAs(name);
  return isPacked(stored) ? denseTypeOf(model, 'embedding') : stored;
}

function packedBase(where: string): UserError {
  return new UserError({
    expected: 'a base model in 16 or 32 bits',
    found:
      'one in 4 bits: merging into it would round every weight to 4 bits again, and lose more than the adapter brings',
    where,
    remedy:
      'merge into the original model, which is right also for an adapter that was trained on its 4-bit copy, and quantise ' +
      "the result again if need be ('tacotune quantize'); where the original is not to be had, --dequantize merges into the " +
      'values that the 4 bits stand for, and writes 16 bits',
  });
}
