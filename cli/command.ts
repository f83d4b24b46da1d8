// SPDX-License-Identifier: Apache-2.0
// What a command is to the command line: options, examples, and a function that runs it. The name, the one-line description
// and the positional argument stand in main.ts, so that the list of commands is shown without loading any of them.
import { z } from 'zod';

export interface Command<S extends z.ZodObject = z.ZodObject> {
  /** One entry per option; the entry that bears the positional argument's name describes that. */
  readonly options: S;
  /** Headings over some of the options. */
  readonly groups?: Record<string, readonly (keyof z.infer<S>)[]>;
  /** A call and what it does. */
  readonly examples: readonly (readonly [call: string, meaning: string])[];
  /** Flags that stand for keys of a recipe. */
  readonly recipeFlags?: boolean;
  /** @param changes to the recipe, from its flags and `--set` */
  run(values: z.infer<S>, changes: string[]): Promise<void>;
}

/** Lets the options of a command decide the type of the values that it runs on. */
export function command<S extends z.ZodObject>(definition: Command<S>): Command {
  return definition as unknown as Command;
}

/** How the model is held and computed with: the same wherever one is loaded. */
export const loadingOptions = {
  quantize: z
    .enum(['nf4', 'none'])
    .default('none')
    .describe('how linear layers are held: as the files have them, or in 4 bits as training does by default'),
  compute: z
    .enum(['auto', 'f32', 'bf16'])
    .default('auto')
    .describe('what inputs of matrix products are rounded to; auto: bf16 where the device multiplies it'),
  device: z
    .enum(['auto', 'cpu', 'cuda', 'tfjs'])
    .default('auto')
    .describe(
      'where to compute; auto: on an NVIDIA GPU where one can be used, else on the processor; tfjs: over TensorFlow.js, which you install',
    ),
  threads: z.int().min(0).default(0).describe('threads of the kernels; 0: one per core'),
};

export const modelOptions = {
  model: z.string().min(1).describe('model directory: config.json, safetensors, tokenizer'),
  adapter: z.string().min(1).optional().describe('adapter directory, as train writes it or PEFT'),
  tokenizer: z.string().min(1).optional().describe("tokenizer file or directory, if not the model's own"),
  ...loadingOptions,
};

export const recipeArgument = z.string().min(1).describe('recipe file, or the name of one that comes with the package');
export const setOption = z
  .array(z.string())
  .optional()
  .describe('changes a key of the recipe: key=value, the value in YAML; may be repeated');
export const jsonOption = z.boolean().default(false).describe('print JSON');
