// SPDX-License-Identifier: Apache-2.0
// The card of a run says what the run did: base, data, settings, curriculum, figures and terms; and names that hold markup add
// none.
import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { parseRecipe } from '../../recipes/index.js';
import { modelCard, RunFigureCounter, writeModelCard } from '../../tasks/model-card.js';
import { train } from '../../tasks/train.js';
import { suite } from '../support/harness.js';
import { inFolder, writeTinyModel, writeTokens } from '../support/tiny.js';

const test = suite('tasks/model-card');

test('the card of a run, from what lies in its folder', () =>
  inFolder(async (folder) => {
    const model = await writeTinyModel(join(folder, 'base'));
    const tokens = writeTokens(join(folder, 'tokens.jsonl'), 16);
    const output = join(folder, 'run');
    const recipe = {
      model,
      adapter: { rank: 4, alpha: 8, targets: ['q', 'v'] },
      batch: { context: 32, rows: 2 },
      stages: [
        { name: 'first', steps: 2, data: [{ tokens }] },
        { name: 'second', steps: 3, data: [{ tokens }] },
      ],
    };
    for await (const _ of train(recipe, { output }));
    appendFileSync(join(output, 'log.jsonl'), '{"step":6,"stage":"sec'); // as a killed process leaves it
    assert.is(await writeModelCard(output), join(output, 'README.md'));
    const card = readFileSync(join(output, 'README.md'), 'utf8');
    assert.match(card, /^---\nbase_model: "base"\nlibrary_name: peft\n/);
    assert.match(card, /rank 4, alpha 8 \(scaled by alpha\/rank\), dropout 0\.05/);
    assert.match(card, /\| on \| q, v \|/);
    assert.match(card, /\| first \| `tokens\.jsonl` \| 2 \| \d\.\d{4} → \d\.\d{4} \| – \| 2 steps done \|/);
    assert.match(card, /\| second \| `tokens\.jsonl` \| 3 \| .* \| 3 steps done \|/);
    assert.match(card, /\| steps \| 5 \|/);
    assert.match(card, /terms of the base model/);
    assert.match(card, /CC BY-NC/);
    assert.match(card, /```yaml\nmodel: /);
    assert.is(await writeModelCard(output), join(output, 'README.md'));
    assert.is(readFileSync(join(output, 'README.md'), 'utf8'), card, 'the same run gives the same card');
  }));

test('figures: skipped steps have no loss, the last measurement counts', () => {
  const counter = new RunFigureCounter();
  const step = (loss: number | null) => ({
    ...{ type: 'step' as const, step: 1, stage: 's', gradNorm: 1, learningRate: 1, tokens: 10, targetTokens: 4 },
    ...{ stepMs: 500, tokensPerSecond: 1, loss },
  });
  for (const loss of [4, null, 2]) counter.add(step(loss));
  for (const heldOutLoss of [3, 2.5])
    counter.add({ type: 'evaluation', stage: 's', step: 1, heldOutLoss, targetTokens: 1 });
  assert.equal(counter.figures, {
    ...{ steps: 3, skippedSteps: 1, tokens: 30, targetTokens: 12, seconds: 1.5 },
    stages: [{ name: 's', steps: 3, firstLoss: 3, lastLoss: 3, heldOutLoss: 2.5, end: undefined }],
  });
});

test('names cannot add markup, lines or keys', () => {
  const recipe = parseRecipe({
    model: 'base"\nlicense: mit\n# `x`',
    stages: [{ name: 'a | b\n<script>', steps: 1, data: [{ rows: 'x`|y.json', language: '[Nepali](http://x)' }] }],
  });
  const card = modelCard('run\n# other', recipe, new RunFigureCounter().figures);
  const header = card.slice(0, card.indexOf('\n---\n'));
  assert.match(header, 'base_model: "base\\"\\nlicense: mit\\n# `x`"');
  assert.equal(header.match(/^license: .*$/gm), ['license: other']);
  assert.equal(card.match(/^# .*$/gm), ['# run \\# other']);
  assert.match(card, "| a \\| b \\<script\\> | `x'\\|y.json` (taco, \\[Nepali\\](http://x)) | 0 |");
});
