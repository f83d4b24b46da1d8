// SPDX-License-Identifier: Apache-2.0
// The published TaCo responses through the real LLaMA tokenizer: lengths as counted elsewhere, prompts that meet their answers
// as they would in one text, and packing of real lengths.
import { readFileSync } from 'node:fs';
import * as assert from 'uvu/assert';
import {
  batches,
  composer,
  examples,
  parseTaco,
  type Row,
  tableOf,
  templateNamed,
  tokenize,
} from '../../datasets/index.js';
import { loadTokenizer, type Tokenizer } from '../../tokenizer/index.js';
import { shared, suite } from '../support/harness.js';
import { collect } from './toy.js';

const test = suite('datasets: published responses');

let tokenizer: Promise<Tokenizer> | undefined;
const llama = () => (tokenizer ??= Promise.resolve(loadTokenizer(shared('tokenizers', 'llama.model'))));

const response = (language: string, n: number) =>
  readFileSync(shared('data', 'taco', 'responses', language.toLowerCase(), `${n}.txt`), 'utf8');

/** Rows made of the finished responses. */
function rows(language: string): Row[] {
  const judged: { id: number; question: string }[] = JSON.parse(
    readFileSync(shared('data', 'taco', `judgements-${language.toLowerCase()}.json`), 'utf8'),
  );
  return judged.flatMap(({ id, question }) => {
    const parsed = parseTaco(response(language, id), language);
    if (!parsed.complete) return [];
    const { instruction, response: output, answer } = parsed.chain;
    return [
      {
        id: String(id),
        instruction: question.trim(),
        input: '',
        output: answer,
        language,
        english: { instruction, input: '', output },
      },
    ];
  });
}

/** Counted with the same tokenizer when the responses were examined: median (the upper of the two), 90th percentile, longest. */
const LENGTHS = { Nepali: [760, 1369, 1999], Sanskrit: [749, 1349, 1999] };

test('lengths in tokens', async () => {
  const encoder = await llama();
  for (const [language, expected] of Object.entries(LENGTHS)) {
    const lengths = Array.from({ length: 80 }, (_, i) => encoder.encode(response(language, i + 1)).length).sort(
      (a, b) => a - b,
    );
    assert.equal([lengths[40], lengths[72], lengths[79]], expected, language);
  }
});

test('encoded apart, prompt and answer have the ids of the whole text', async () => {
  const encoder = await llama();
  for (const name of ['guanaco', 'paper']) {
    for (const format of ['released', 'clean'] as const) {
      const compose = composer({ task: 'taco', template: templateNamed(name), format });
      for (const row of [...rows('Nepali'), ...rows('Sanskrit')]) {
        const example = compose(row);
        if (typeof example === 'string') throw new Error(`${row.id}: ${example}`);
        const text = example.segments.filter((segment) => !segment.special).map((segment) => segment.text);
        const { ids } = tokenize(example, encoder);
        assert.equal(
          [...ids],
          [encoder.bosId, ...encoder.encode(text.join('')), encoder.eosId],
          `${name}, ${format}, row ${row.id}`,
        );
      }
    }
  }
});

test('final answers are found token by token, and cut ones counted', async () => {
  const encoder = await llama();
  const options = {
    task: 'taco',
    template: templateNamed('guanaco'),
    format: 'released',
    loss: 'finalAnswerOnly',
  } as const;
  const nepali = rows('Nepali');
  const source = examples(tableOf(nepali), options, encoder);
  for (let i = 0; i < source.count; i++) {
    const example = await source.read(i);
    if (typeof example === 'string') throw new Error(example);
    const { start, end } = example.finalAnswer!;
    assert.is(encoder.decode(example.ids.slice(start, end)).trim(), nepali[i]?.output.trim());
    const targets = example.labels.filter((label) => label !== -100);
    assert.equal([...targets], [...example.ids.slice(start, end), encoder.eosId]);
  }
  const feed = { B: 4, T: 1024, tooLong: 'truncate', seed: 1, shuffle: true, pack: true, epochs: 1 } as const;
  const fed = await collect(batches([{ source }], feed));
  const { truncated, cutFinalAnswers, lostFinalAnswers, read } = fed.at(-1)!.counts;
  assert.is(read, 77);
  assert.ok(
    truncated > 10 && truncated === cutFinalAnswers + lostFinalAnswers,
    `${truncated} = ${cutFinalAnswers} + ${lostFinalAnswers}`,
  );
  const used =
    fed.reduce((sum, { tokens }) => sum + tokens, 0) / fed.reduce((sum, { batch }) => sum + batch.B * batch.T, 0);
  assert.ok(used > 0.8, `${used}`);
});
