// SPDX-License-Identifier: Apache-2.0
// The main job on what comes with the package: a TaCo adapter for the bundled tiny base model, trained through two stages on
// the bundled text, with the same held-out questions answered before and after.
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { encodePrompt, loadTemplate, openRows, parseTaco, type Row, type TacoParse } from '../datasets/index.js';
import { GREEDY, generateTokens } from '../engine/index.js';
import { loadRecipe, type Recipe } from '../recipes/index.js';
import { openForInference } from './open-model.js';
import { type RunEvent, train } from './train.js';

export interface DemoAnswer {
  language: string;
  question: string;
  /** The bundled answer. */
  expected: string;
  /** What the model wrote. */
  answer: string;
  chain: TacoParse;
}

export type DemoEvent = RunEvent | { type: 'answers'; when: 'before' | 'after'; answers: DemoAnswer[] };

/** Longest answer of the demo; a chain of its short sentences has about 70 tokens. */
const MAX_NEW_TOKENS = 120;

/** @param samples the package's samples folder */
export async function* demo(samples: string, output: string, signal?: AbortSignal): AsyncGenerator<DemoEvent> {
  const { recipe } = loadRecipe('demo');
  const questions = await showRows(samples);
  yield { type: 'answers', when: 'before', answers: await ask(recipe, questions, undefined, signal) };
  rmSync(output, { recursive: true, force: true }); // the demo's own folder, made anew each time
  yield* train(recipe, { output, signal });
  if (!signal?.aborted) yield { type: 'answers', when: 'after', answers: await ask(recipe, questions, output, signal) };
}

/** The held-out rows that the demo shows. */
async function showRows(samples: string): Promise<Row[]> {
  const wanted = JSON.parse(readFileSync(join(samples, 'mits', 'show.json'), 'utf8')) as {
    language: string;
    id: string;
  }[];
  const rows: Row[] = [];
  for (const language of new Set(wanted.map((row) => row.language))) {
    const table = await openRows({ path: join(samples, 'mits', `${language}.json`), language });
    for (let i = 0; i < table.count; i++) {
      const row = await table.read(i);
      if (wanted.some((want) => want.language === language && want.id === row.id)) rows.push(row);
    }
    await table.close();
  }
  return rows;
}

async function ask(
  recipe: Recipe,
  rows: readonly Row[],
  adapter: string | undefined,
  signal: AbortSignal | undefined,
): Promise<DemoAnswer[]> {
  const { model, quantize, compute, threads } = recipe;
  const opened = await openForInference({ model, adapter, quantize, compute, threads });
  try {
    const template = await loadTemplate(recipe.data.template);
    const { tokenizer, llama, files } = opened;
    const answers: DemoAnswer[] = [];
    for (const row of rows) {
      const ids: number[] = [];
      const settings = { ...GREEDY, maxNewTokens: MAX_NEW_TOKENS, stopIds: files.config.eosTokenIds, seed: 0 };
      for await (const id of generateTokens(llama, encodePrompt(template, row, tokenizer), settings, signal))
        ids.push(id);
      const answer = tokenizer.decode(ids).trim();
      answers.push({
        language: row.language,
        question: row.instruction,
        expected: row.output,
        answer,
        chain: parseTaco(answer, row.language),
      });
    }
    return answers;
  } finally {
    opened.close();
  }
}
