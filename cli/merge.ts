// SPDX-License-Identifier: Apache-2.0
// tacotune merge: a base model and an adapter as one model.
import { z } from 'zod';
import { merge } from '../tasks/merge.js';
import { command } from './command.js';
import { outputText, watched, writingOptions } from './writing.js';

export default command({
  options: z.strictObject({
    model: z.string().min(1).describe('the original base model, in 16 or 32 bits'),
    adapter: z.string().min(1).describe('adapter directory, as train writes it or PEFT'),
    output: z.string().min(1).describe('folder for the merged model'),
    dtype: z.enum(['f32', 'bf16', 'f16']).optional().describe('type of the weights; default: that of the model'),
    dequantize: z
      .boolean()
      .default(false)
      .describe('merge into the values that a 4-bit model stands for, where the original is not to be had'),
    ...writingOptions,
  }),
  examples: [
    ['merge --model models/base --adapter runs/first --output models/first', 'one model that needs no adapter'],
    ['merge --model models/base --adapter runs/first --output models/first --dtype f32 --verify', 'without rounding'],
  ],
  async run({ model, ...options }) {
    const { end, ...watch } = watched();
    const result = await merge({ model, ...options, ...watch }).finally(end);
    console.error(`${result.merged} weights merged: ${outputText(result)}`);
    console.error(
      `Merged into the weights of ${model}. They are the right ones also where training held them in 4 bits: the adapter was\n` +
        'trained beside an approximation of them, and merging into that would round every weight again.',
    );
    if (result.trainedOn !== undefined && result.trainedOn !== model) {
      console.error(`The adapter names '${result.trainedOn}' as its base: make sure that this is the same model.`);
    }
    for (const file of result.files) console.log(file);
  },
});
