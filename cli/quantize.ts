// SPDX-License-Identifier: Apache-2.0
// tacotune quantize: the 4-bit copy of a model.
import { z } from 'zod';
import { quantize } from '../tasks/quantize.js';
import { command } from './command.js';
import { outputText, watched, writingOptions } from './writing.js';

export default command({
  options: z.strictObject({
    model: z.string().min(1).describe('model directory: config.json and weights in 16 or 32 bits'),
    output: z.string().min(1).describe('folder for the 4-bit copy'),
    ...writingOptions,
  }),
  examples: [
    ['quantize models/base --output models/base-nf4', 'loads here, and in transformers with bitsandbytes'],
    ['quantize models/base --output models/base-nf4 --verify', 'and compares every tensor afterwards'],
  ],
  async run({ model, ...options }) {
    const { end, ...watch } = watched();
    const result = await quantize({ model, ...options, ...watch }).finally(end);
    console.error(`${result.quantized} weights in NF4, ${result.kept} as they were: ${outputText(result)}`);
    console.error(
      'To train on it, name it as the model of a recipe. To merge an adapter, take the original model: rounding to 4 bits is not undone.',
    );
    for (const file of result.files) console.log(file);
  },
});
