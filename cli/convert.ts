// SPDX-License-Identifier: Apache-2.0
// tacotune convert: models, adapters and files of tensors as safetensors.
import { z } from 'zod';
import { type Conversion, convert } from '../tasks/convert.js';
import { command, jsonOption } from './command.js';
import { table } from './format.js';
import { outputText, watched, writingOptions } from './writing.js';

export default command({
  options: z.strictObject({
    input: z.string().min(1).describe('folder of a model or adapter, GGUF file of a model, or .bin file of tensors'),
    output: z.string().min(1).describe('folder for the result; for a file of tensors: *.safetensors'),
    dtype: z.enum(['f32', 'bf16', 'f16']).optional().describe('type of the values; default: as they are'),
    ...writingOptions,
    json: jsonOption,
  }),
  examples: [
    ['convert taco-nepali-33b taco-nepali', "an adapter's .bin as safetensors, names as PEFT has them now"],
    ['convert models/base models/base-f16 --dtype f16 --verify', 'a model in another type, compared afterwards'],
    ['convert model.q8_0.gguf models/base', 'a GGUF model as a Hugging Face folder'],
    ['convert pytorch_model.bin model.safetensors', 'one file of tensors, whatever they are'],
  ],
  async run({ json, ...options }) {
    const { end, ...watch } = watched();
    const result = await convert({ ...options, ...watch }).finally(end);
    console.error(conversionText(result));
    if (json) console.log(JSON.stringify(result, null, 2));
    else for (const file of result.files) console.log(file);
  },
});

/** A few tensors by name, more by number. */
const MAX_LISTED = 20;

function conversionText(result: Conversion): string {
  const { kind, tensors, renamed, dropped } = result;
  const names = renamed.length > 0 ? 'renamed:' : 'names as they were';
  const parts = [
    `${kind === 'tensors' ? 'a file of' : `${kind},`} ${tensors} tensors, ${names}`.replace('adapter,', 'adapter:'),
  ];
  if (renamed.length > 0)
    parts.push(
      table(
        renamed.map(({ from, to, count }) => [from, '→', to, `× ${count}`]),
        '<<<>',
        2,
      ),
    );
  if (dropped.length > 0) {
    parts.push('left behind:', ...dropped.slice(0, MAX_LISTED).map((name) => `  ${name}`));
    if (dropped.length > MAX_LISTED) parts.push(`  … and ${dropped.length - MAX_LISTED} more`);
  }
  return [...parts, outputText(result)].join('\n');
}
