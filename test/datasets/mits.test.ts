// SPDX-License-Identifier: Apache-2.0
// MITS as it lies on disk, with every quirk of its names, columns and values, in a small copy; and the ready-made chains among
// its rows, taken apart.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { parquetWriteBuffer } from 'hyparquet-writer';
import * as assert from 'uvu/assert';
import { composeTaco, openRows, type ReadRow, readRowFiles, readRows, TACO_FORMATS } from '../../datasets/index.js';
import { shared, suite } from '../support/harness.js';
import { xlsx } from './files/archives.js';
import { collect, jsonLines, newFolder, userError } from './toy.js';

const test = suite('datasets: MITS');

const INSTRUCTIONS = 'multilingual-instruction-tuning-dataset ';
const ALPACA = 'multilingual-alpaca-52k-gpt-4';
const DOLLY = 'multilinugal-dolly-15k';

function put(root: string, path: string, content: string | Uint8Array): string {
  const full = join(root, path);
  mkdirSync(dirname(full), { recursive: true });
  writeFileSync(full, content);
  return full;
}

const chain = { instruction: 'What is water?', response: 'A liquid.', answer: 'तरल।' };
const row = (output: string, extra: object = {}) => ({ instruction: 'पानी के हो?', input: 'nan', output, ...extra });

/** The published tree, one or two rows a file. */
function tree(): string {
  const root = newFolder();
  put(root, `${INSTRUCTIONS}/${ALPACA}/Nepali/Nepali.json`, JSON.stringify([row('तरल'), row('ठोस', { input: 'हिउँ' })]));
  put(root, `${INSTRUCTIONS}/${ALPACA}/Haitian_Creole/Haitian_Creole.json`, JSON.stringify([row('dlo')]));
  put(
    root,
    `${INSTRUCTIONS}/${DOLLY}/Nepali.json`,
    JSON.stringify([{ instruction: 'q', context: 'c', response: 'r', category: 'qa' }]),
  );
  put(
    root,
    'multilingual-vicuna-benchmark-dataset/Nepali_vicuna_benchmark_questions.xlsx',
    xlsx(
      '<row><c t="inlineStr"><is><t>प्रश्न_आईडी</t></is></c><c t="inlineStr"><is><t> पाठ</t></is></c></row>' +
        '<row><c><v>1</v></c><c t="inlineStr"><is><t> समय?</t></is></c></row>',
    ),
  );
  put(
    root,
    'taco-datasets/taco-Nepali.json',
    JSON.stringify([row(composeTaco(chain, 'Nepali', 'released')), row('लेबल बिना')]),
  );
  put(root, '.gitattributes', 'x');
  put(root, 'README.md', 'x');
  put(root, 'dataset_info.json', '{}');
  return root;
}

const facts = (rows: ReadRow[]) =>
  rows.map(({ item: { id, source, language, instruction, input, output } }) =>
    [source, language, id, instruction, input, output].join('|'),
  );

test('the published tree: sources, languages and columns by path', async () => {
  const root = tree();
  assert.equal(facts(await collect(readRowFiles({ path: root }))), [
    'alpaca|Haitian Creole|0|पानी के हो?||dlo',
    'alpaca|Nepali|0|पानी के हो?||तरल',
    'alpaca|Nepali|1|पानी के हो?|हिउँ|ठोस',
    'dolly|Nepali|0|q|c|r',
    'vicuna|Nepali|1|समय?||',
    'taco|Nepali|0|पानी के हो?||तरल।',
    'taco|Nepali|1|पानी के हो?||लेबल बिना',
  ]);
});

test('names as people write them: without the trailing space, with the right spelling', async () => {
  const root = tree();
  const plain = join(root, 'multilingual-instruction-tuning-dataset', 'multilingual-dolly-15k', 'Nepali.json');
  assert.equal(facts(await collect(readRowFiles({ path: plain }))), ['dolly|Nepali|0|q|c|r']);
  const rows = await openRows({ path: plain });
  assert.is((await rows.read(0)).input, 'c');
  await rows.close();
  const missing = join(root, 'multilingual-instruction-tuning-dataset', 'multilingual-dolly-15k', 'Nepal.json');
  assert.match((await userError(() => openRows({ path: missing }))).message, /nothing there.*Nepal\.json/s);
});

test('the later parquet repositories, and names that are told', async () => {
  const root = newFolder();
  const data = [row('क'), row('ख')];
  const columns = (['instruction', 'input', 'output'] as const).map((name) => ({
    name,
    data: data.map((r) => r[name]),
    type: 'STRING' as const,
  }));
  const bytes = new Uint8Array(parquetWriteBuffer({ columnData: columns }));
  const path = put(root, 'alpaca-nepali-cleaned/data/train-00000-of-00001.parquet', bytes);
  assert.equal(facts(await collect(readRowFiles({ path }))), [
    'alpaca|Nepali|0|पानी के हो?||क',
    'alpaca|Nepali|1|पानी के हो?||ख',
  ]);
  assert.match(
    (await userError(() => openRows({ path }))).message,
    /read by position, found a file in the format parquet.*tacotune data import/s,
  );
  const taco = put(root, 'alpaca_khmer_taco/data/test-00000-of-00001.jsonl.gz', gzipSync(jsonLines([row('x')])));
  const [read] = await collect(readRowFiles({ path: taco }));
  assert.equal([read?.item.language, read?.item.source, read?.unlabelled], ['Khmer', 'taco', true]);
  const told = await collect(readRowFiles({ path, language: 'sa', source: 'mine' }));
  assert.equal([told[0]?.item.language, told[0]?.item.source], ['Sanskrit', 'mine']);
});

test('ready-made chains are taken apart, in either format, under any spelling of the label', async () => {
  const root = newFolder();
  const outputs = [
    ...TACO_FORMATS.map((format) => composeTaco(chain, 'Nepali', format)),
    composeTaco(chain, 'nepali', 'clean'),
    composeTaco({ ...chain, response: 'In French it is "Response in French: eau".' }, 'Nepali', 'clean'),
  ];
  const path = put(root, 'taco-Nepali.json', JSON.stringify(outputs.map((output) => row(output))));
  const rows = await collect(readRowFiles({ path }));
  for (const [i, { item, chain: state, unlabelled }] of rows.entries()) {
    assert.equal(
      [item.output, item.english?.instruction, item.english?.input],
      ['तरल।', 'What is water?', ''],
      outputs[i],
    );
    assert.equal([state, unlabelled], ['complete', undefined]);
  }
  const table = await openRows({ path });
  assert.equal(await table.read(0), rows[0]?.item, 'by position too');
  await table.close();
  const [unnamed] = await collect(readRows({ path: put(root, 'x/rows.jsonl', jsonLines([row(outputs[0]!)])) }));
  assert.is(unnamed?.language, 'Nepali', 'the label names the language');
});

test('chains that lack a part, or end in another language, give no answer', async () => {
  const root = newFolder();
  const whole = composeTaco(chain, 'Nepali', 'released');
  const outputs = [
    whole.slice(0, whole.indexOf('Response in Nepali')),
    whole.slice(0, whole.indexOf('Response in English')),
    whole.slice(0, -chain.answer.length),
    composeTaco(chain, 'Hindi', 'released'),
  ];
  const path = put(root, 'taco-Nepali.json', JSON.stringify(outputs.map((output) => row(output))));
  const rows = await collect(readRowFiles({ path }));
  assert.is(rows.length, 4);
  for (const [i, { item, chain: state }] of rows.entries()) {
    assert.equal([state, item.output, item.english], ['incomplete', '', undefined], outputs[i]);
  }
});

test('the published responses as rows: those without a final answer are exactly the four known ones', async () => {
  for (const [language, unfinished] of [
    ['Nepali', [42, 65, 66]],
    ['Sanskrit', [53]],
  ] as const) {
    const outputs = Array.from({ length: 80 }, (_, i) =>
      readFileSync(shared('data', 'taco', 'responses', language.toLowerCase(), `${i + 1}.txt`), 'utf8'),
    );
    const path = put(
      newFolder(),
      `taco-${language}.json`,
      JSON.stringify(outputs.map((output, i) => row(output, { id: i + 1 }))),
    );
    const rows = await collect(readRowFiles({ path }));
    const incomplete = rows.filter(({ chain: state }) => state === 'incomplete').map(({ id }) => Number(id));
    assert.equal(incomplete, [...unfinished]);
    const judged: { answer: string }[] = JSON.parse(
      readFileSync(shared('data', 'taco', `judgements-${language.toLowerCase()}.json`), 'utf8'),
    );
    for (const [i, { item, chain: state }] of rows.entries()) {
      if (state === 'complete') assert.is(item.output.trim(), judged[i]?.answer, `${language} ${i + 1}`);
    }
  }
});

test("FastChat's questions, in both versions", async () => {
  const root = newFolder();
  const questions = [
    { question_id: 1, category: 'generic', turns: ['How?'] },
    { question_id: 2, category: 'generic', turns: ['Why?'] },
  ];
  const path = put(root, 'English_vicuna_benchmark_questions.jsonl', jsonLines(questions));
  assert.equal(facts(await collect(readRowFiles({ path }))), ['vicuna|English|1|How?||', 'vicuna|English|2|Why?||']);
  const first = put(root, 'question.jsonl', jsonLines([{ question_id: 7, text: 'Who?', category: 'x' }]));
  assert.equal(facts(await collect(readRowFiles({ path: first, language: 'en' }))), ['|English|7|Who?||']);
  assert.is(
    (await collect(readRowFiles({ path: shared('data', 'taco', 'vicuna-questions-english.jsonl') }))).length,
    80,
  );
});

test('bad rows among good ones are counted, with their places', async () => {
  const root = newFolder();
  const path = put(
    root,
    'Nepali.json',
    '[{"instruction":"a","output":"b"},{"instruction":"a"},\n{"instruction":"","output":"b"},{"instruction":"a","output":NaN},{"instruction":"c","output":"d"}]',
  );
  const faults: string[] = [];
  const rows = await collect(readRowFiles({ path, onBad: ({ message }) => faults.push(message) }));
  assert.equal(
    rows.map(({ id }) => id),
    ['0', '4'],
  );
  assert.is(faults.length, 3);
  assert.match(faults[0]!, /a column 'output'/);
  assert.match(faults[1]!, /an instruction that is not empty.*line 2/s);
  assert.match(faults[2]!, /found 'NaN'/);
});
