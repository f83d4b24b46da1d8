// SPDX-License-Identifier: Apache-2.0
// The main job on real input: an adapter for a real trained model on the texts that the TaCo authors published. Its context of
// 128 tokens and 512 pieces holds an English answer's beginning and a line of Nepali, so the stages are made of those.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { parseTaco } from '../../datasets/index.js';
import { shared, suite } from '../support/harness.js';
import { inFolder, tacotune } from '../support/tiny.js';

const test = suite('aidreams');

/** English questions with their answers, and the responses in lines of some words, from the published Nepali files. */
function writePublished(folder: string): void {
  const responses = shared('data', 'taco', 'responses', 'nepali');
  const rows: object[] = [];
  const lines: object[] = [];
  for (const name of readdirSync(responses)) {
    const text = readFileSync(join(responses, name), 'utf8');
    const parsed = parseTaco(text, 'Nepali');
    if (!parsed.complete) continue;
    rows.push({ id: name, instruction: parsed.chain.instruction, input: '', output: parsed.chain.response });
    for (const [line] of text.matchAll(/\S(?:.{0,35}\S)?(?=\s|$)/g)) lines.push({ text: line });
  }
  assert.is(rows.length, 77);
  writeFileSync(join(folder, 'rows.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  writeFileSync(join(folder, 'lines.jsonl'), lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
}

test('an adapter for a real model on the published responses: the loss falls, also when the saved adapter is loaded again', async () => {
  const model = shared('models', 'aidreams-260k');
  await inFolder((folder) => {
    writePublished(folder);
    writeFileSync(
      join(folder, 'recipe.yaml'),
      `model: ${model}
quantize: nf4
adapter: { rank: 8, alpha: 16 }
optimizer: { learningRate: 3e-3, warmupSteps: 5 }
batch: { context: 128, rows: 8 }
data: { template: plain, tooLong: truncate, heldOutShare: 0.1 }
stages:
  - { name: english, steps: 40, data: [{ rows: rows.jsonl, language: English, task: instruction }] }
  - { name: chain, steps: 40, data: [{ text: lines.jsonl }] }
`,
    );
    const output = join(folder, 'run');
    const { status, stderr } = tacotune(['train', join(folder, 'recipe.yaml'), '--output', output]);
    assert.is(status, 0, stderr);
    const log = readFileSync(join(output, 'log.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { stage: string; loss: number });
    const mean = (stage: string, from: number, to: number) => {
      const losses = log
        .filter((line) => line.stage === stage)
        .slice(from, to)
        .map(({ loss }) => loss);
      return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
    };
    const falls = {
      english: [mean('english', 0, 5), mean('english', 35, 40)],
      chain: [mean('chain', 0, 5), mean('chain', 35, 40)],
    };
    console.log(`\n  mean loss of the first and last five steps: ${JSON.stringify(falls)}`);
    for (const [before, after] of Object.values(falls)) assert.ok(after! < 0.9 * before!, JSON.stringify(falls));

    // The same lines under the model with and without the adapter, through the files it left.
    const some = readFileSync(join(folder, 'lines.jsonl'), 'utf8').split('\n').slice(0, 40).join('\n');
    writeFileSync(join(folder, 'lines-40.jsonl'), some);
    const score = (...more: string[]) => {
      const run = tacotune(['score', '--model', model, '--input', join(folder, 'lines-40.jsonl'), ...more]);
      assert.is(run.status, 0, run.stderr);
      const scores = run.stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { tokens: number; meanNll: number });
      return (
        scores.reduce((sum, { tokens, meanNll }) => sum + tokens * meanNll, 0) /
        scores.reduce((sum, { tokens }) => sum + tokens, 0)
      );
    };
    const [plain, adapted] = [score(), score('--adapter', output)];
    assert.ok(adapted < 0.9 * plain, `${adapted} for ${plain}`);
    const text = tacotune([
      'generate',
      '--model',
      model,
      '--adapter',
      output,
      '--prompt',
      'The best way to',
      '--max-new-tokens',
      '20',
    ]);
    assert.is(text.status, 0, text.stderr);
    assert.ok(text.stdout.trim().length > 0);
  });
});
