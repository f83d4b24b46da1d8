// SPDX-License-Identifier: Apache-2.0
// tacotune export: models and adapters for other programs.
import { z } from 'zod';
import { exportGguf, GGUF_TYPES } from '../tasks/export-gguf.js';
import { command } from './command.js';
import { bytes, duration } from './format.js';
import { Progress } from './progress.js';

export default command({
  options: z.strictObject({
    format: z.enum(['gguf']).describe('gguf: for llama.cpp and what is built on it'),
    model: z.string().min(1).describe('base model; for an adapter alone its config is read'),
    adapter: z.string().min(1).optional().describe('adapter directory: written alone, or merged'),
    merge: z.boolean().default(false).describe('write the model with the adapter merged into it'),
    output: z.string().min(1).describe('file to write, *.gguf'),
    type: z.enum(GGUF_TYPES).optional().describe('type of the matrices; default: f16, for an adapter alone f32'),
    tokenizer: z.string().min(1).optional().describe("tokenizer.model or tokenizer.json, if not the model's own"),
  }),
  examples: [
    ['export gguf --model models/base --adapter runs/first --output first-lora.gguf', 'the adapter alone'],
    ['export gguf --model models/base --adapter runs/first --merge --type q8_0 --output first.gguf', 'a whole model'],
  ],
  async run({ format: _, ...options }) {
    const progress = new Progress();
    const onProgress = (done: number, total: number) =>
      progress.update(`written ${bytes(done)} of ${bytes(total)}`, done === total);
    const result = await exportGguf({ ...options, onProgress }).finally(() => progress.end());
    console.error(
      `${result.kind === 'model' ? 'a model' : 'an adapter'} of ${result.tensors} tensors, ${bytes(result.bytes)} in ${duration(result.seconds)}`,
    );
    if (result.widened.length > 0) {
      console.error(`in f16, as their rows are no whole blocks of 32: ${result.widened.slice(0, 8).join(', ')}`);
    }
    console.log(result.path);
  },
});
