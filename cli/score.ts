// SPDX-License-Identifier: Apache-2.0
// tacotune score: the loss of every token of given texts.
import { z } from 'zod';
import { openForInference, readScoreInputs, type Score, score, writeScores } from '../tasks/index.js';
import { command, modelOptions } from './command.js';
import { digits, quantity } from './format.js';
import { interruptSignal } from './interrupt.js';

export default command({
  options: z.strictObject({
    input: z.string().min(1).describe('JSONL of {"text": …} or {"ids": […], "labels": […]}, -100 = not counted'),
    output: z.string().min(1).optional().describe('JSONL with a line for each of the input; default: the terminal'),
    ...modelOptions,
  }),
  groups: { Model: ['model', 'adapter', 'tokenizer', 'quantize', 'compute', 'device', 'threads'] },
  examples: [
    ['score --model models/base --input texts.jsonl', 'a line {"tokens", "meanNll", "tokenNll"} for each text'],
    ['score --model models/base --adapter runs/first --input texts.jsonl --output scores.jsonl', 'with an adapter'],
  ],
  async run({ input, output, ...options }) {
    const model = await openForInference(options);
    try {
      const signal = interruptSignal('Stopping');
      const scores = score(model, readScoreInputs(input), signal);
      await summarize(output === undefined ? printed(scores) : writeScores(output, scores, signal), output);
    } finally {
      model.close();
    }
  },
});

async function* printed(scores: AsyncIterable<Score>): AsyncGenerator<Score> {
  for await (const item of scores) {
    if (!process.stdout.write(`${JSON.stringify(item)}\n`)) await new Promise((go) => process.stdout.once('drain', go));
    yield item;
  }
}

async function summarize(scores: AsyncIterable<Score>, output: string | undefined): Promise<void> {
  const start = performance.now();
  let lines = 0;
  let tokens = 0;
  let sum = 0;
  for await (const item of scores) {
    lines++;
    tokens += item.tokens;
    sum += item.tokens * (item.meanNll ?? 0);
  }
  const mean = sum / tokens;
  const speed = quantity((1000 * tokens) / (performance.now() - start));
  console.error(
    `${lines} texts, ${tokens} tokens: mean NLL ${mean.toFixed(4)}, perplexity ${digits(Math.exp(mean))}, ${speed} tokens/s`,
  );
  if (output !== undefined) console.error(`written: ${output}`);
}
