// SPDX-License-Identifier: Apache-2.0
// tacotune inspect: what a path holds.
import { z } from 'zod';
import { type Inspection, inspect } from '../tasks/index.js';
import { command, jsonOption } from './command.js';
import { bytes, quantity, table } from './format.js';

export default command({
  options: z.strictObject({
    path: z.string().min(1).describe('folder of a model, adapter or run; tokenizer or safetensors file'),
    json: jsonOption,
  }),
  examples: [
    ['inspect models/base', 'shape, size and tensors of a model, and whether it can be used'],
    ['inspect runs/first --json', 'recipe and last step of a run, for programs'],
  ],
  async run({ path, json }) {
    const inspection = inspect(path);
    console.log(json ? JSON.stringify(inspection, null, 2) : inspectionText(inspection));
  },
});

function inspectionText({ kind, path, config, adapter, tokenizer, tensors, run, problem }: Inspection): string {
  const parts = [`${path}: ${kind === 'tensors' ? 'safetensors' : `a ${kind}`}`.replace('a adapter', 'an adapter')];
  const section = (title: string, facts: object) => parts.push(`\n${title}\n${factsText(facts)}`);
  if (run) {
    const { recipe, steps, lastStep } = run;
    section('run', { steps, ...lastStep });
    if (recipe) parts.push(`\nrecipe\n${recipe.trimEnd().replace(/^/gm, '  ')}`);
  }
  if (config) section('model', config);
  if (adapter) section('adapter', adapter);
  if (tokenizer) section('tokenizer', tokenizer);
  if (tensors) {
    const { parameters, bytes: size, dtypes, quantization, groups } = tensors;
    section('tensors', { parameters: quantity(parameters), size: bytes(size), types: dtypes, quantization });
    const rows = groups.map(({ name, dtype, shape, count }) => [name, dtype, `[${shape.join(', ')}]`, `× ${count}`]);
    parts.push(table(rows, '<<<>', 2));
  }
  if (problem) parts.push(`\ncannot be used as it is\n${problem.replace(/^/gm, '  ')}`);
  return parts.join('\n');
}

function factsText(facts: object): string {
  const rows = Object.entries(facts)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([name, value]) => [
      name,
      Array.isArray(value) ? value.join(', ') : typeof value === 'object' ? JSON.stringify(value) : String(value),
    ]);
  return table(rows, '<<', 2);
}
