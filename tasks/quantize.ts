// SPDX-License-Identifier: Apache-2.0
// Makes the 4-bit copy of a model that transformers and bitsandbytes load: the linear layers of the blocks in NF4,
// double-quantised, everything else as it was. One weight is in memory at a time; an interrupted run goes on where it stopped.
import { copyStream, isLinearWeight, openModel, quantizationConfig, quantizeStream } from '../checkpoints/index.js';
import { UserError } from '../errors.js';
import { isPacked, type ModelOutput, type ModelOutputOptions, writeModelOutput } from './model-output.js';

export interface QuantizeOptions extends ModelOutputOptions {
  /** Model directory. */
  model: string;
}

export interface Quantized extends ModelOutput {
  /** Weights that became 4-bit, and those that stay. */
  quantized: number;
  kept: number;
}

/** @throws UserError when the model is in 4 bits already, or the output folder holds a model */
export async function quantize({ model: path, ...options }: QuantizeOptions): Promise<Quantized> {
  const model = openModel(path);
  try {
    const { tensorNames } = model;
    if (tensorNames.some((name) => isPacked(model.storedAs(name)))) {
      throw new UserError({
        expected: 'a model of 16-bit or 32-bit weights',
        found: 'one in 4 bits',
        where: path,
        remedy: 'it needs no quantising',
      });
    }
    const linears = new Set(tensorNames.filter(isLinearWeight));
    const weights = tensorNames.map((name) => {
      const tensors = model.stored(name);
      return linears.has(name) ? quantizeStream(tensors[0]!) : copyStream(tensors);
    });
    const stored = model.storedAs('layers.0.q') as 'f32' | 'bf16' | 'f16';
    const config = { ...model.fields, quantization_config: quantizationConfig(stored) };
    const output = await writeModelOutput(model, path, weights, { config, job: { task: 'quantize' } }, options);
    return { ...output, quantized: linears.size, kept: tensorNames.length - linears.size };
  } finally {
    model.close();
  }
}
