// SPDX-License-Identifier: Apache-2.0
// Languages: all of MITS, with the codes and scripts that CLDR gives them, found by any spelling, never by a wrong one.
import { readFileSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { findLanguage, LANGUAGES, languageNamed } from '../../datasets/index.js';
import { languageInName } from '../../datasets/languages.js';
import { shared, suite } from '../support/harness.js';
import { userError } from './toy.js';

const test = suite('datasets: languages');

test('the 132 of MITS', () => {
  assert.is(LANGUAGES.length, 132);
  assert.is(new Set(LANGUAGES.map(({ code }) => code)).size, 132);
  const published = readFileSync(shared('reference', 'languages.txt'), 'utf8').trim().split('\n');
  assert.equal(
    LANGUAGES.map(({ name }) => name.toLowerCase().replaceAll(' ', '')),
    published,
  );
  for (const name of published) assert.is(findLanguage(name)?.name.toLowerCase().replaceAll(' ', ''), name);
});

/** CLDR's scripts of these are groups of scripts. */
const GROUPS: Record<string, string> = { 'zh-Hant': 'Hani', 'zh-Hans': 'Hani', ja: 'Hira', ko: 'Hang' };

test("codes and scripts are CLDR's", () => {
  const names = new Intl.DisplayNames('en', { type: 'language' });
  for (const { name, code, scripts } of LANGUAGES) {
    // MITS has Kurdish twice, and means Sorani by the name alone; CLDR's name for Meitei in its own script is its description.
    const own = code === 'ku' ? 'Kurmanji' : names.of(code.replace('-Mtei', ''))!;
    assert.is(findLanguage(own)?.name, name, `${code}: ${own}`);
    assert.is(findLanguage(code)?.name, name);
    assert.ok(scripts.includes(GROUPS[code] ?? new Intl.Locale(code).maximize().script!), `${name}: ${scripts}`);
    for (const script of scripts) new RegExp(`\\p{Script=${script}}`, 'u'); // known to regular expressions
  }
});

test('any spelling', () => {
  for (const [text, name] of [
    ['Haitian_Creole', 'Haitian Creole'],
    ['haitiancreole', 'Haitian Creole'],
    [' HAITIAN  creole ', 'Haitian Creole'],
    ['Kurdish_Kurmanji', 'Kurdish Kurmanji'],
    ['Kurdish_Sorani', 'Kurdish'],
    ['Meiteilon (Manipuri)', 'Meiteilon Manipuri'],
    ['meiteilonmanipuri', 'Meiteilon Manipuri'],
    ['Chinese (Traditional)', 'Chinese Traditional'],
    ['zh-Hant', 'Chinese Traditional'],
    ['Māori', 'Maori'],
    ['Odia', 'Oriya'],
    ['ne', 'Nepali'],
    ['english', 'English'],
    ['Tibetan', 'Tibetan'],
    ['bo', 'Tibetan'],
  ] as const) {
    assert.is(findLanguage(text)?.name, name, text);
  }
  for (const text of ['Nepalese Food', 'train', '', 'x']) assert.is(findLanguage(text), undefined, text);
});

test('an unknown one is told with the nearest', async () => {
  const { message } = await userError(() => languageNamed('Nepalli', 'FILE, line 3'));
  assert.match(message, /name of a language, or its code, found 'Nepalli'.*FILE, line 3.*did you mean 'Nepali'/s);
  assert.match((await userError(() => languageNamed('qqqqqqqqqq'))).message, /for example 'Nepali' or 'ne'/);
});

test('files and folders named after languages', () => {
  for (const [file, name] of [
    ['taco-Nepali.json', 'Nepali'],
    ['Haitian_Creole.json', 'Haitian Creole'],
    ['Sanskrit_vicuna_benchmark_questions.xlsx', 'Sanskrit'],
    ['alpaca-nepali-cleaned', 'Nepali'],
    ['alpaca_scottish_gaelic_taco', 'Scottish Gaelic'],
    ['Chinese_Traditional.jsonl.gz', 'Chinese Traditional'],
    ['train-00000-of-00001.parquet', undefined],
    ['is.json', undefined],
    ['multilingual-alpaca-52k-gpt-4', undefined],
  ] as const) {
    assert.is(languageInName(file)?.name, name, file);
  }
});
