// SPDX-License-Identifier: Apache-2.0
// tacotune generate: text that goes on from a prompt, printed as it comes.
import { z } from 'zod';
import { DEFAULT_NEW_TOKENS, generate } from '../tasks/index.js';
import { command, modelOptions } from './command.js';
import { interruptSignal } from './interrupt.js';

const OPTIONS = z.strictObject({
  prompt: z.string().describe('text to go on from; with --template, the instruction to answer'),
  template: z
    .string()
    .optional()
    .describe('frames the prompt as in training: guanaco, alpaca, paper, llama3, plain, or a file'),
  language: z.string().optional().describe('of the instruction, by its English name, for templates that name it'),
  input: z.string().optional().describe('what the instruction is about'),
  maxNewTokens: z.int().min(1).default(DEFAULT_NEW_TOKENS).describe('ends the text after so many tokens'),
  temperature: z.number().min(0).default(0).describe('0: the most likely token each time; higher: more variety'),
  topP: z.number().min(0).max(1).default(1).describe('samples among the likeliest tokens that hold this share'),
  topK: z.int().min(0).default(0).describe('samples among so many of the likeliest tokens; 0: all'),
  repetitionPenalty: z.number().positive().default(1).describe('above 1: less likely what was there already'),
  seed: z.int().min(0).default(0).describe('of the sampling'),
  ...modelOptions,
});

export default command({
  options: OPTIONS,
  groups: {
    Model: ['model', 'adapter', 'tokenizer', 'quantize', 'compute', 'device', 'threads'],
    Sampling: ['temperature', 'topP', 'topK', 'repetitionPenalty', 'seed'],
  },
  examples: [
    ['generate --model models/base --prompt "Once upon a time"', 'goes on from the text'],
    ['generate --model models/base --adapter runs/first --template guanaco --prompt "Name three rivers."', 'answers'],
  ],
  async run(request) {
    for await (const text of generate(request, interruptSignal('Stopping'))) process.stdout.write(text);
    process.stdout.write('\n');
  },
});
