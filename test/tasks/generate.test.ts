// SPDX-License-Identifier: Apache-2.0
// Generation as text: the pieces join to the decoded tokens, prompts are framed as in training, stop tokens end it.
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { encodePrompt, templateNamed } from '../../datasets/index.js';
import { GREEDY, generateTokens } from '../../engine/index.js';
import { generate, type OpenedModel, openForInference } from '../../tasks/index.js';
import { suite } from '../support/harness.js';
import { TINY, withFolder, writeSmallModel } from '../support/small-model.js';

const test = suite('tasks/generate');

const NEW_TOKENS = 24;

async function textOf(request: Parameters<typeof generate>[0], signal?: AbortSignal): Promise<string> {
  let text = '';
  for await (const piece of generate(request, signal)) {
    assert.is.not(piece, '');
    text += piece;
  }
  return text;
}

/** The tokens that follow a prompt, straight from the engine. */
async function tokensAfter({ llama }: OpenedModel, prompt: ArrayLike<number>, temperature = 0): Promise<number[]> {
  const settings = { ...GREEDY, temperature, maxNewTokens: NEW_TOKENS, stopIds: [2], seed: 3 };
  const ids: number[] = [];
  for await (const id of generateTokens(llama, prompt, settings)) ids.push(id);
  return ids;
}

async function withModel(body: (model: OpenedModel, directory: string) => Promise<void>): Promise<void> {
  await withFolder(async (folder) => {
    const directory = await writeSmallModel(join(folder, 'model'), { ...TINY, maxPositions: 256 });
    const model = await openForInference({ model: directory });
    await body(model, directory);
    model.close();
  });
}

test('a prompt begins with bos, and the text goes on from it', async () => {
  await withModel(async (model, directory) => {
    const { tokenizer } = model;
    const prompt = 'the cat sees';
    const ids = await tokensAfter(model, [tokenizer.bosId!, ...tokenizer.encode(prompt)]);
    const want = tokenizer.decode(ids, { continuation: true });
    const request = { prompt, maxNewTokens: NEW_TOKENS };
    assert.is(await textOf({ ...request, model }), want);
    assert.is(await textOf({ ...request, model: directory }), want, 'the same from a directory');
  });
});

test("sampling is its seed's", async () => {
  await withModel(async (model) => {
    const { tokenizer } = model;
    const request = { model, prompt: 'the', maxNewTokens: NEW_TOKENS, temperature: 1.5 };
    const ids = await tokensAfter(model, [tokenizer.bosId!, ...tokenizer.encode('the')], 1.5);
    assert.is(await textOf({ ...request, seed: 3 }), tokenizer.decode(ids, { continuation: true }));
    assert.is.not(await textOf({ ...request, seed: 3 }), await textOf({ ...request, seed: 4 }));
  });
});

test('with a template the prompt is the question as in training, and the answer begins without space', async () => {
  await withModel(async (model) => {
    const question = { instruction: 'Name a bird.', input: 'It is black.', language: 'English' };
    const template = templateNamed('alpaca');
    const ids = await tokensAfter(model, encodePrompt(template, question, model.tokenizer));
    const text = await textOf({
      model,
      prompt: question.instruction,
      input: question.input,
      language: 'English',
      template: 'alpaca',
      maxNewTokens: NEW_TOKENS,
    });
    assert.is(text, model.tokenizer.decode(ids, { continuation: true }).trimStart());
  });
});

test('a stop token ends the text and is not shown', async () => {
  await withModel(async (model) => {
    const { tokenizer, files } = model;
    const ids = await tokensAfter(model, [tokenizer.bosId!, ...tokenizer.encode('the')]);
    files.config.eosTokenIds = [ids[5]!];
    const first = ids.indexOf(ids[5]!);
    const want = tokenizer.decode(ids.slice(0, first), { continuation: true });
    assert.is(await textOf({ model, prompt: 'the', maxNewTokens: NEW_TOKENS }), want);
  });
});

test('an abort ends it', async () => {
  await withModel(async (model) => {
    const stop = new AbortController();
    let pieces = 0;
    for await (const _ of generate({ model, prompt: 'the', maxNewTokens: 200 }, stop.signal))
      if (++pieces === 3) stop.abort();
    assert.ok(pieces <= 4, `${pieces} pieces`);
  });
});
