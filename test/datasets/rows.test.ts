// SPDX-License-Identifier: Apache-2.0
// Rows from files: columns, quirks, folders, translations beside their English originals, ready token ids, and reading by
// position; each way of getting it wrong ends in an error that names the place.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import {
  IGNORED,
  openRows,
  openTexts,
  openTokenIds,
  type Row,
  type RowSourceOptions,
  readRows,
  tableOf,
} from '../../datasets/index.js';
import { suite } from '../support/harness.js';
import { collect, file, jsonLines, newFolder, toyEncoder, userError } from './toy.js';

const test = suite('datasets: rows');

const nepali = { language: 'Nepali' };
const plainRow = { instruction: 'पानी के हो?', output: 'तरल' };

async function all(options: RowSourceOptions): Promise<Row[]> {
  const table = await openRows(options);
  const rows: Row[] = [];
  for (let i = 0; i < table.count; i++) rows.push(await table.read(i));
  await table.close();
  return rows;
}

test('rows by stream and by position are the same, in JSONL and JSON', async () => {
  const raw = [
    { id: 'a', ...plainRow, input: 'x' },
    { id: 17, ...plainRow, input: null, language: 'Hindi' },
    { ...plainRow, english: { instruction: 'What is water?', output: 'A liquid' } },
  ];
  const expected: Row[] = [
    { id: 'a', ...plainRow, input: 'x', language: 'Nepali' },
    { id: '17', ...plainRow, input: '', language: 'Hindi' },
    {
      id: '2',
      ...plainRow,
      input: '',
      language: 'Nepali',
      english: { instruction: 'What is water?', input: '', output: 'A liquid' },
    },
  ];
  for (const path of [file(jsonLines(raw)), file(JSON.stringify(raw, null, 2), 'json')]) {
    assert.equal(await collect(readRows({ path, ...nepali })), expected);
    assert.equal(await all({ path, ...nepali }), expected);
  }
});

test('what stands for no input', async () => {
  const inputs = ['nan', 'NaN', 'None', null, '', '  ', ' nan\n'];
  const path = file(
    jsonLines([...inputs.map((input) => ({ ...plainRow, input })), plainRow, { ...plainRow, input: 'None of them' }]),
  );
  const rows = await all({ path, ...nepali });
  assert.equal(
    rows.map(({ input }) => input),
    [...inputs.map(() => ''), '', 'None of them'],
  );
  const [row] = await all({ path: file(jsonLines([{ instruction: 'None', output: 'nan' }])), ...nepali });
  assert.equal([row?.instruction, row?.output], ['None', 'nan'], 'true instructions and answers');
});

test('columns of other names', async () => {
  const dolly = file(jsonLines([{ instruction: 'q', context: 'c', response: 'r', category: 'qa' }]));
  const columns = { input: 'context', output: 'response' };
  assert.equal(await all({ path: dolly, columns, ...nepali }), [
    { id: '0', instruction: 'q', input: 'c', output: 'r', language: 'Nepali' },
  ]);
  const flat = file(jsonLines([{ ...plainRow, instruction_en: 'q', output_en: 'r' }]));
  const [row] = await all({
    path: flat,
    columns: { englishInstruction: 'instruction_en', englishOutput: 'output_en' },
    ...nepali,
  });
  assert.equal(row?.english, { instruction: 'q', input: '', output: 'r' });
});

test('a folder is its files in order, with ids by position in each', async () => {
  const folder = newFolder();
  mkdirSync(join(folder, 'b'));
  writeFileSync(
    join(folder, 'b', 'one.json'),
    JSON.stringify([
      { ...plainRow, output: '2' },
      { ...plainRow, output: '3' },
    ]),
  );
  writeFileSync(join(folder, 'a.jsonl'), jsonLines([{ ...plainRow, output: '1' }]));
  writeFileSync(join(folder, 'notes.txt'), 'not data');
  const table = await openRows({ path: folder, ...nepali });
  const rows = await all({ path: folder, ...nepali });
  assert.equal(
    rows.map(({ id, output }) => [id, output]),
    [
      ['0', '1'],
      ['0', '2'],
      ['1', '3'],
    ],
  );
  assert.match(table.where(2), /one\.json, line 1, byte 6\d$/);
  assert.is(table.key(0), table.key(1));
  await table.close();
  assert.match(
    (await userError(() => openRows({ path: newFolder() }))).message,
    /files ending in .*found none in the folder/,
  );
});

test('bad rows', async () => {
  const cases: [unknown, RegExp][] = [
    [{ output: 'x' }, /a column 'instruction', found the columns output.*line 2/s],
    [{ Instruction: 'x', output: 'x' }, /a column 'instruction'.*did you mean 'Instruction'/s],
    [{ ...plainRow, output: 5 }, /text for 'output', found a number: 5.*line 2, byte \d+/s],
    [{ ...plainRow, output: null }, /text for 'output', found null/],
    [{ ...plainRow, input: ['x'] }, /text or null for 'input', found a list: \["x"\]/],
    [{ ...plainRow, instruction: ' ' }, /an instruction that is not empty/],
    [{ ...plainRow, id: {} }, /text or a whole number for 'id', found an object/],
    [{ ...plainRow, language: 7 }, /the row's language in 'language'.*found a number: 7/],
    [{ ...plainRow, english: 'x' }, /an object for 'english', found a string/],
    [{ ...plainRow, english: { instruction: 'x' } }, /a column 'english.output'/],
  ];
  for (const [row, expected] of cases) {
    assert.match(
      (await userError(() => openRows({ path: file(jsonLines([plainRow, row])), ...nepali }))).message,
      expected,
    );
  }
  const lone = file(`{"instruction": "x", "output": "ab\\ud83d", "language": "Hindi"}\n`);
  assert.match(
    (await userError(() => openRows({ path: lone }))).message,
    /half of a surrogate pair \(\\ud83d\) at character 2/,
  );
  assert.match(
    (await userError(() => openRows({ path: file(jsonLines([plainRow])) }))).message,
    /found neither.*by its English name/s,
  );
  const unmapped = { path: file(jsonLines([plainRow])), columns: { input: 'contxt' }, ...nepali };
  assert.match((await userError(() => openRows(unmapped))).message, /a column 'contxt'/);
  assert.match(
    (await userError(() => openRows({ path: file('[]', 'json'), ...nepali }))).message,
    /at least one row, found none/,
  );
});

test('a file that changes while it is in use is noticed', async () => {
  const path = file(
    jsonLines([
      { id: 'a', ...plainRow },
      { id: 'b', ...plainRow },
    ]),
  );
  const table = await openRows({ path, ...nepali });
  assert.is((await table.read(1)).id, 'b');
  writeFileSync(
    path,
    jsonLines([
      { id: 'x', ...plainRow },
      { id: 'y', ...plainRow },
    ]),
  );
  assert.match((await userError(() => table.read(1))).message, /the row that stood here.*line 2/s);
  writeFileSync(path, '');
  assert.match((await userError(() => table.read(0))).message, /the row that stood here/);
  await table.close();
});

test('fingerprints follow content and reading', async () => {
  const print = async (options: RowSourceOptions) => (await openRows(options)).fingerprint;
  const content = jsonLines([plainRow]);
  const base = await print({ path: file(content), ...nepali });
  assert.is(await print({ path: file(content), ...nepali }), base, 'not the name of the file');
  assert.is.not(await print({ path: file(`${content}\n`), ...nepali }), base);
  assert.is.not(await print({ path: file(content), language: 'Hindi' }), base);
  assert.is.not(tableOf([{ id: 'a' }]).fingerprint, tableOf([{ id: 'b' }]).fingerprint);
});

const translated = [0, 1, 2, 3].map((i) => ({ instruction: `n${i}`, input: i % 2 ? `i${i}` : '', output: `o${i}` }));
const original = translated.map((row, i) => ({ ...row, instruction: `e${i}`, output: `r${i}` }));
const withIds = (rows: object[]) => rows.map((row, i) => ({ id: `k${i}`, ...row }));

test('a translation beside its English original, by position', async () => {
  const rows = await all({
    path: file(jsonLines(translated)),
    english: file(JSON.stringify(original), 'json'),
    ...nepali,
  });
  assert.equal(
    rows.map(({ instruction, english }) => [instruction, english?.instruction, english?.input, english?.output]),
    translated.map(({ input }, i) => [`n${i}`, `e${i}`, input, `r${i}`]),
  );
});

test('an English original needs no column for its language', async () => {
  const nepaliRows = translated.map((row) => ({ ...row, tongue: 'Nepali' }));
  const columns = { language: 'tongue' };
  const rows = await all({ path: file(jsonLines(nepaliRows)), english: file(jsonLines(original)), columns });
  assert.equal([rows[0]?.language, rows[0]?.english?.instruction], ['Nepali', 'e0']);
});

test('by id, whatever the order, where both have ids; by position where one has none', async () => {
  const shuffled = withIds(original).reverse();
  const rows = await all({ path: file(jsonLines(withIds(translated))), english: file(jsonLines(shuffled)), ...nepali });
  assert.equal(
    rows.map(({ id, instruction, english }) => [id, instruction, english?.instruction]),
    [0, 1, 2, 3].map((i) => [`k${i}`, `n${i}`, `e${i}`]),
  );
  const oneSided = await all({
    path: file(jsonLines(translated)),
    english: file(jsonLines(withIds(original))),
    ...nepali,
  });
  assert.equal(
    oneSided.map(({ english }) => english?.instruction),
    ['e0', 'e1', 'e2', 'e3'],
  );
});

test('files that are not translations of each other', async () => {
  const refusal = async (t: object[], e: object[]) =>
    (await userError(() => openRows({ path: file(jsonLines(t)), english: file(jsonLines(e)), ...nepali }))).message;
  assert.match(
    await refusal(translated, original.slice(1)),
    /found 4 rows in the translation and 3 in English.*first differing rows:\n {4}line 1 \| line 1\n {4}line 2 \| line 2\n {4}line 4 \| no row\n/s,
  );
  const otherId = withIds(original).map((row, i) => (i === 2 ? { ...row, id: 'z' } : row));
  assert.match(
    await refusal(withIds(translated), otherId),
    /found 1 ids only in the translation and 1 only in English.*\n {4}id 'k2', line 3 \| no row\n {4}no row \| id 'z', line 3\n/s,
  );
  assert.match(await refusal(withIds(translated), withIds(original).slice(0, 3)), /id 'k3', line 4 \| no row/);
  const twice = withIds(original).map((row) => ({ ...row, id: 'k0' }));
  assert.match(await refusal(withIds(translated), twice), /each id once, found 'k0' on line 1 and again.*line 2/s);
  // As many rows, but off by one: inputs stand on the wrong rows.
  const shifted = [...original.slice(1), original[0]!];
  assert.match(
    await refusal(translated, shifted),
    /4 of 4 rows where only one of the two has an input.*line 1 \| line 1/s,
  );
});

test('ready token ids', async () => {
  const lines = [
    { ids: [1, 5, 6], labels: [IGNORED, IGNORED, 6] },
    { ids: [1, 7], id: 'x' },
  ];
  const source = await openTokenIds(file(jsonLines(lines)), { vocabularySize: 8 });
  assert.equal(await source.read(0), {
    id: '0',
    ids: Int32Array.of(1, 5, 6),
    labels: Int32Array.of(IGNORED, IGNORED, 6),
  });
  assert.equal(await source.read(1), { id: 'x', ids: Int32Array.of(1, 7), labels: Int32Array.of(IGNORED, 7) });
  await source.close();
  const cases: [unknown, RegExp][] = [
    [{ labels: [1] }, /a list of token ids in 'ids', found nothing.*line 2/s],
    [{ ids: [] }, /at least one token in 'ids'/],
    [{ ids: [1, 8] }, /whole numbers 0 … 7 in 'ids', found a number: 8 at position 1.*line 2.*tokenizer of the model/s],
    [{ ids: [1, -1] }, /found a number: -1/],
    [{ ids: [1, 2.5] }, /found a number: 2.5/],
    [{ ids: [1, '2'] }, /found a string: "2"/],
    [{ ids: [1, 2], labels: [1] }, /as many labels as ids \(2\), found 1/],
    [{ ids: [1, 2], labels: [1, -1] }, /-100 or 0 … 7 in 'labels', found a number: -1/],
    [{ ids: [1, 2], labels: [1, IGNORED] }, /at least one target after the first token/],
    [{ ids: [1] }, /at least one target after the first token/],
    [{ ids: 5 }, /a list of token ids in 'ids', found a number/],
  ];
  for (const [line, expected] of cases) {
    const path = file(jsonLines([lines[0], line]));
    assert.match((await userError(() => openTokenIds(path, { vocabularySize: 8 }))).message, expected);
  }
});

test('plain text', async () => {
  const encoder = toyEncoder();
  const source = await openTexts(file(jsonLines([{ text: 'A dog </s>.' }, { id: 5, text: 'पानी' }])), encoder);
  const [first, second] = [await source.read(0), await source.read(1)];
  if (typeof first === 'string' || typeof second === 'string') throw new Error('unusable');
  assert.is(encoder.decode(first.ids), '<s>A dog </s>.</s>');
  assert.is(first.ids.filter((id) => id === 2).length, 1, 'one end of text, not the text that looks like it');
  assert.equal([...first.labels], [IGNORED, ...first.ids.slice(1)]);
  assert.is(second.id, '5');
  await source.close();
  for (const [bad, expected] of [
    [{ text: '' }, /text in 'text', found none.*line 2/s],
    [{ txt: 'x' }, /found nothing/],
    [{ text: 5 }, /found a number: 5/],
  ] as const) {
    const path = file(jsonLines([{ text: 'x' }, bad]));
    assert.match((await userError(() => openTexts(path, encoder))).message, expected);
  }
});
