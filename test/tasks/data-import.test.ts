// SPDX-License-Identifier: Apache-2.0
// Importing: what files hold comes out as rows with ids that agree between languages; a failure at any moment leaves nothing
// that could pass for an import.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import * as assert from 'uvu/assert';
import { type FileLayer, systemFiles } from '../../checkpoints/index.js';
import { composeTaco, openRows, type Row, readRows } from '../../datasets/index.js';
import { importData } from '../../tasks/data-import.js';
import { collect, file, jsonLines, newFolder, userError } from '../datasets/toy.js';
import { suite } from '../support/harness.js';

const test = suite('tasks: data import');

function put(root: string, path: string, rows: unknown): string {
  const full = join(root, path);
  mkdirSync(dirname(full), { recursive: true });
  writeFileSync(full, JSON.stringify(rows));
  return full;
}

const plain = (text: string, input = '') => ({ instruction: `${text} प्रश्न`, input, output: `${text} उत्तर` });
const chain = { instruction: 'What?', response: 'That.', answer: 'त्यो।' };
const readyMade = (output: string) => ({ instruction: 'के?', input: '', output });

/** MITS in small: Alpaca and Dolly in two languages beside their English, and ready-made chains. */
function mits(): string {
  const root = newFolder();
  const alpaca = 'multilingual-instruction-tuning-dataset /multilingual-alpaca-52k-gpt-4';
  const dolly = 'multilingual-instruction-tuning-dataset /multilinugal-dolly-15k';
  for (const language of ['English', 'Nepali', 'Haitian_Creole']) {
    put(root, `${alpaca}/${language}/${language}.json`, [plain(`${language} 0`), plain(`${language} 1`, 'x')]);
    put(root, `${dolly}/${language}.json`, [plain(`${language} dolly`)]);
  }
  put(root, 'taco-datasets/taco-Nepali.json', [
    readyMade(composeTaco(chain, 'Nepali', 'released')),
    readyMade('लेबल बिना'),
    readyMade(composeTaco(chain, 'Nepali', 'released').slice(0, 80)),
  ]);
  return root;
}

const output = () => join(newFolder(), 'import');
const byId = (rows: Row[]) => Object.fromEntries(rows.map((row) => [row.id, row]));

test('MITS: languages beside their English, ids that agree, chains taken apart, unlabelled rows apart', async () => {
  const path = output();
  const report = await importData({ sources: [mits()], output: path });
  assert.equal(report.rows, {
    'Haitian Creole': { alpaca: 2, dolly: 1 },
    English: { alpaca: 2, dolly: 1 },
    Nepali: { alpaca: 2, dolly: 1, taco: 2 },
  });
  assert.equal(report.unlabelled, { Nepali: { taco: 1 } });
  assert.equal([report.withEnglish, report.incomplete, report.bad], [7, 1, 0]);
  const nepali = byId(await collect(readRows({ path, language: 'Nepali' })));
  assert.equal(Object.keys(nepali), ['alpaca-0', 'alpaca-1', 'dolly-0', 'taco-0', 'taco-2']);
  assert.equal(nepali['alpaca-1'], {
    id: 'alpaca-1',
    source: 'alpaca',
    language: 'Nepali',
    ...plain('Nepali 1', 'x'),
    english: plain('English 1', 'x'),
  });
  assert.equal([nepali['taco-0']?.output, nepali['taco-0']?.english?.output], ['त्यो।', 'That.']);
  assert.equal([nepali['taco-2']?.output, nepali['taco-2']?.english], ['', undefined]);
  const creole = await openRows({ path, language: 'haitiancreole' });
  const english = await openRows({ path, language: 'English' });
  assert.is(creole.key(1), english.key(1), 'a row has one id in all languages');
  await Promise.all([creole.close(), english.close()]);
  assert.equal(
    (await collect(readRows({ path: join(path, 'unlabelled') }))).map(({ id, output: text }) => [id, text]),
    [['taco-1', 'लेबल बिना']],
  );
  assert.equal(
    readdirSync(path).filter((name) => name.startsWith('.')),
    [],
  );
});

test('without the English beside them, or with one that is named', async () => {
  const rows = [plain('a'), plain('b')];
  const root = newFolder();
  const nepali = put(root, 'Nepali.json', rows);
  put(root, 'English.json', [plain('A'), plain('B')]);
  const alone = output();
  assert.is((await importData({ sources: [nepali], output: alone, english: 'none' })).withEnglish, 0);
  const named = output();
  const english = put(newFolder(), 'original.json', [plain('C'), plain('D')]);
  await importData({ sources: [nepali], output: named, english });
  assert.equal(
    (await collect(readRows({ path: named }))).map((row) => row.english?.output),
    ['C उत्तर', 'D उत्तर'],
  );
  const otherNames = (text: string) => ({ q: `${text} प्रश्न`, a: text });
  const columns = { instruction: 'q', output: 'a' };
  const renamed = output();
  const sources = [put(newFolder(), 'Nepali.json', [otherNames('n')])];
  await importData({ sources, english: put(newFolder(), 'e.json', [otherNames('e')]), columns, output: renamed });
  assert.is((await collect(readRows({ path: renamed })))[0]?.english?.output, 'e', 'columns of the same names');
  put(root, 'English.json', [plain('A')]);
  const path = output();
  assert.match(
    (await userError(() => importData({ sources: [nepali], output: path }))).message,
    /2 rows in the translation and 1 in English/,
  );
  assert.not.ok(existsSync(join(path, 'import.json')));
});

test('several files and formats, columns and language told; ids stay apart', async () => {
  const path = output();
  const sources = [
    file(jsonLines([{ q: 'a', a: 'b' }])),
    file(gzipSync(JSON.stringify([{ q: 'c', a: 'd' }]))),
    file(jsonLines([{ q: 'e', a: 'f', id: 'own' }])),
  ];
  await importData({
    sources,
    output: path,
    language: 'ne',
    source: 'mine',
    columns: { instruction: 'q', output: 'a' },
  });
  assert.equal(
    (await collect(readRows({ path }))).map(({ id, output: text }) => [id, text]),
    [
      ['mine-0', 'b'],
      ['mine-1', 'd'],
      ['own', 'f'],
    ],
  );
  const again = output();
  await importData({ sources: [path], output: again });
  assert.equal(await collect(readRows({ path: again })), await collect(readRows({ path })), 'an import of an import');
});

test('bad rows: the first ends the import and nothing is left; or they are left out and reported', async () => {
  const bad = file(
    `[${JSON.stringify(plain('a'))},\n{"instruction": "x"},\n{"instruction": NaN},\n${JSON.stringify(plain('d'))}]`,
    'json',
  );
  const path = output();
  assert.match(
    (await userError(() => importData({ sources: [bad], output: path, language: 'ne' }))).message,
    /a column 'output'.*line 2/s,
  );
  assert.equal(readdirSync(path), []);
  const report = await importData({ sources: [bad], output: path, language: 'ne', skipBadRows: true });
  assert.equal([report.bad, report.faults.length, report.rows], [2, 2, { Nepali: { '': 2 } }]);
  assert.match(report.faults[1]!, /found 'NaN'.*line 3/s);
  assert.equal(
    (await collect(readRows({ path }))).map(({ id }) => id),
    ['0', '3'],
    'rows keep their positions',
  );
});

test('encodings: a byte order mark is none of the text, half a character pair and other encodings are told', async () => {
  const good = JSON.stringify(plain('a'));
  const path = output();
  const lone = '{"instruction": "x", "output": "ab\\ud83d"}';
  const mixed = file(
    Buffer.concat([
      Buffer.from(`\ufeff${good}\n${lone}\n`),
      Buffer.from('{"instruction": "caf\xe9", "output": "x"}\n', 'latin1'),
      Buffer.from(`${good}\n`),
    ]),
  );
  assert.match(
    (await userError(() => importData({ sources: [mixed], output: path, language: 'ne' }))).message,
    /half of a surrogate pair.*line 2/s,
  );
  const report = await importData({ sources: [mixed], output: path, language: 'ne', skipBadRows: true });
  assert.equal([report.bad, report.rows], [2, { Nepali: { '': 2 } }]);
  assert.match(report.faults[1]!, /UTF-8, found byte 0xe9.*line 3/s);
  const utf16 = file(Buffer.from(`${good}\n`, 'utf16le'));
  assert.match(
    (await userError(() => importData({ sources: [utf16], output: output(), language: 'ne', skipBadRows: true })))
      .message,
    /UTF-8, found UTF-16/,
  );
});

test('bad rows on either side of a pair leave the others in step', async () => {
  const root = newFolder();
  const rows = (prefix: string) => [0, 1, 2, 3].map((i) => plain(`${prefix}${i}`));
  const nepali: unknown[] = rows('n');
  nepali[1] = { instruction: '' };
  const english: unknown[] = rows('e');
  english[2] = 5;
  const path = output();
  const sources = [put(root, 'Nepali.json', nepali)];
  put(root, 'English.json', english);
  const report = await importData({ sources, output: path, skipBadRows: true });
  assert.equal([report.bad, report.withEnglish], [2, 2]);
  assert.equal(
    (await collect(readRows({ path }))).map(({ id, english: e }) => [id, e?.instruction]),
    [
      ['0', 'e0 प्रश्न'],
      ['2', undefined],
      ['3', 'e3 प्रश्न'],
    ],
  );
});

test('a folder that holds something is left as it is', async () => {
  const path = output();
  const source = file(jsonLines([plain('a')]));
  await importData({ sources: [source], output: path, language: 'ne' });
  const before = readFileSync(join(path, 'import.json'), 'utf8');
  assert.match(
    (await userError(() => importData({ sources: [source], output: path, language: 'ne' }))).message,
    /found an earlier import/,
  );
  assert.is(readFileSync(join(path, 'import.json'), 'utf8'), before);
  const other = newFolder();
  writeFileSync(join(other, 'notes.txt'), 'mine');
  assert.match(
    (await userError(() => importData({ sources: [source], output: other, language: 'ne' }))).message,
    /found 1 files/,
  );
  assert.equal(readdirSync(other), ['notes.txt']);
});

test('a disk that is full, whenever it happens: nothing passes for an import', async () => {
  const root = mits();
  const full = () => Object.assign(new Error('no space'), { code: 'ENOSPC' });
  let n = 0;
  for (let done = false; !done; n += n < 20 ? 1 : 17) {
    let calls = 0;
    const failing: FileLayer = { ...systemFiles };
    for (const name of ['create', 'write', 'sync', 'rename'] as const) {
      failing[name] = ((...args: never[]) => {
        // Taking names back needs no space.
        const call = calls++;
        if (call === n || (call > n && name !== 'rename')) throw full();
        return (systemFiles[name] as (...args: never[]) => unknown)(...args);
      }) as never;
    }
    const path = output();
    try {
      await importData({ sources: [root], output: path }, failing);
      done = true;
    } catch (fault) {
      assert.match((fault as Error).message, /found no space left on the device/, `call ${n}`);
      assert.not.ok(existsSync(join(path, 'import.json')), `call ${n}`);
      await userError(() => openRows({ path, language: 'Nepali' }));
      assert.equal(
        (await importData({ sources: [root], output: path })).withEnglish,
        7,
        `after call ${n} it works again`,
      );
    }
  }
  assert.ok(n > 40, `${n} calls`);
});

test('stopped from outside', async () => {
  const path = output();
  const stop = new AbortController();
  stop.abort();
  await userError(() => importData({ sources: [mits()], output: path, signal: stop.signal }));
  assert.equal(readdirSync(path), []);
});
