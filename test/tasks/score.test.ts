// SPDX-License-Identifier: Apache-2.0
// Scores against the reference's token losses, whatever stands beside a text, and as files.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import {
  openForInference,
  readScoreInputs,
  type Score,
  type ScoreInput,
  score,
  writeScores,
} from '../../tasks/index.js';
import { goldenPath, readGolden } from '../support/goldens.js';
import { suite } from '../support/harness.js';
import { TINY, withFolder, writeSmallModel } from '../support/small-model.js';

const test = suite('tasks/score');

/** The reference's tolerance for the loss of a token. */
const TOKEN_LOSS_TOLERANCE = 3e-5;

async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const list: Item[] = [];
  for await (const item of items) list.push(item);
  return list;
}

for (const name of ['mha', 'gqa', 'llama3rope'] as const) {
  test(`${name}: token losses equal the reference's`, async () => {
    const model = await openForInference({ model: goldenPath('models', name), compute: 'f32' });
    const inputs = readGolden('forward', name, 'inputs.safetensors');
    const [ids, labels, mask] = ['input_ids', 'labels', 'attention_mask'].map((key) =>
      Array.from(inputs.get(`right.${key}`)!.data),
    ) as [number[], number[], number[]];
    const want = readGolden('forward', name, 'no_adapter.safetensors').get('f32base.token_loss_right_f64')!;
    const T = 33;
    const length = (row: number) => mask.slice(row * T, (row + 1) * T).reduce((sum, one) => sum + one, 0);
    const cut = (list: number[], row: number) => list.slice(row * T, row * T + length(row));
    const rows = [0, 1].map((row) => ({ ids: cut(ids, row), labels: cut(labels, row) }));

    for (const [row, { tokens, meanNll, tokenNll }] of (await all(score(model, rows))).entries()) {
      assert.is(tokenNll.length, length(row) - 1);
      const counted = tokenNll.filter((nll) => nll !== null);
      assert.is(tokens, counted.length);
      assert.ok(Math.abs(meanNll! - counted.reduce((sum, nll) => sum + nll, 0) / tokens) < 1e-12);
      for (const [t, nll] of tokenNll.entries()) {
        const reference = want.data[row * (T - 1) + t]!;
        if (rows[row]!.labels[t + 1] === -100) assert.is(nll, null);
        else
          assert.ok(
            Math.abs(nll! - reference) <= TOKEN_LOSS_TOLERANCE,
            `${name} row ${row} position ${t}: ${nll}, not ${reference}`,
          );
      }
    }
    model.close();
  });
}

async function withModel(
  body: (model: Awaited<ReturnType<typeof openForInference>>, folder: string) => Promise<void>,
): Promise<void> {
  await withFolder(async (folder) => {
    const model = await openForInference({ model: await writeSmallModel(join(folder, 'model')) });
    await body(model, folder);
    model.close();
  });
}

test('a text scores the same bits alone and among others', async () => {
  await withModel(async (model) => {
    const texts: ScoreInput[] = Array.from({ length: 30 }, (_, i) => ({
      text: 'the cat sees the dog '.repeat(1 + (i % 7)) + i,
    }));
    const together = await all(score(model, texts));
    assert.is(together.length, texts.length);
    for (const i of [0, 6, 17, 29]) assert.equal(await all(score(model, [texts[i]!])), [together[i]]);
  });
});

test('a text begins with bos, and its tokens all count', async () => {
  await withModel(async (model) => {
    const { tokenizer } = model;
    const text = 'the river is wide';
    const ids = [tokenizer.bosId!, ...tokenizer.encode(text)];
    const [byText, byIds, unlabelled] = await all(
      score(model, [{ text }, { ids }, { ids, labels: ids.map(() => -100) }]),
    );
    assert.equal(byText, byIds);
    assert.is(byText!.tokens, ids.length - 1);
    assert.equal(unlabelled, { tokens: 0, meanNll: null, tokenNll: ids.slice(1).map(() => null) });
  });
});

test('what has no token to predict scores nothing', async () => {
  await withModel(async (model) => {
    const empty: Score = { tokens: 0, meanNll: null, tokenNll: [] };
    assert.equal(await all(score(model, [{ text: '' }, { ids: [5] }, { ids: [] }])), [empty, empty, empty]);
  });
});

test('faults name the line; the output is there only when it is whole', async () => {
  await withModel(async (model, folder) => {
    const [input, output] = [join(folder, 'in.jsonl'), join(folder, 'out.jsonl')];
    const run = () => all(writeScores(output, score(model, readScoreInputs(input))));
    const refused = async (line: string, pattern: RegExp) => {
      writeFileSync(input, `{"text":"one"}\n{"ids":[1,2,3]}\n${line}\n`);
      await run().then(
        () => assert.unreachable(line),
        (error: Error) => {
          assert.match(error.message, pattern);
          assert.match(error.message, /in\.jsonl, line 3/);
        },
      );
      assert.not.ok(existsSync(output));
    };
    await refused(`{"ids":[${TINY.vocabularySize}]}`, /0 … 1999 in 'ids', found 2000 at position 0/);
    await refused('{"ids":[1,2],"labels":[1]}', /as many labels as ids \(2\), found 1/);
    await refused('{"ids":[1,2],"labels":[-100,-1]}', /-100 or 0 … 1999 in 'labels', found -1 at position 1/);
    await refused('{"ids":"x"}', /a list in 'ids', found "x"/);
    await refused('{"text":3}', /text in 'text', found 3/);
    await refused('[1]', /"text".*"ids"|JSONL/);
    await refused(`{"ids":[${new Array(97).fill(1)}]}`, /at most 96 tokens.*found 97/);

    writeFileSync(input, '{"text":"one"}\n\n{"ids":[1,2,3]}\n');
    const scores = await run();
    assert.equal(
      readFileSync(output, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
      scores,
    );
  });
});

test('an abort ends with what was scored, and writes no file', async () => {
  await withModel(async (model, folder) => {
    const output = join(folder, 'out.jsonl');
    const stop = new AbortController();
    const endless = (function* () {
      for (let i = 0; ; i++) {
        if (i === 100) stop.abort();
        yield { text: 'the cat sees the dog '.repeat(6) };
      }
    })();
    const scores = await all(writeScores(output, score(model, endless, stop.signal), stop.signal));
    assert.ok(scores.length > 0 && scores.length <= 100);
    assert.not.ok(existsSync(output));
  });
});
