// SPDX-License-Identifier: Apache-2.0
// The chain as text: composing and parsing are inverses, and on the published responses the parser finds exactly what a count
// by hand found: which files keep strictly to the format, and which have no final answer.
import { readFileSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { composeTaco, parseTaco, TACO_FORMATS, type TacoChain } from '../../datasets/index.js';
import { shared, suite } from '../support/harness.js';

const test = suite('datasets: taco');

const chain: TacoChain = { instruction: 'What is rain?', response: 'Water.\n\nIt falls.', answer: ' पानी। ' };

test('the released format, byte for byte', () => {
  const indent = ' '.repeat(24);
  assert.is(
    composeTaco(chain, 'Nepali', 'released'),
    `Instruction in English:  What is rain?.\n${indent}Response in English: Water.\n\nIt falls.. \n${indent}Response in Nepali:  पानी। `,
  );
});

test('the clean format', () => {
  assert.is(
    composeTaco(chain, 'Nepali', 'clean'),
    'Instruction in English: What is rain?\nResponse in English: Water.\n\nIt falls.\nResponse in Nepali:  पानी। ',
  );
});

test('parsing gives back what was composed, with and without the language', () => {
  for (const format of TACO_FORMATS) {
    for (const language of ['Nepali', 'Kurdish (Kurmanji)', 'C++']) {
      const text = composeTaco(chain, language, format);
      const expected = { complete: true, format, language, chain };
      assert.equal(parseTaco(text, language), expected);
      assert.equal(parseTaco(text), expected);
    }
  }
});

test('labels are enough, whatever stands between', () => {
  const text = ' \nInstruction in English:What is rain? Response in English:\n\n  Water.\nResponse in Nepali:पानी।\n';
  const parsed = parseTaco(text, 'Nepali');
  assert.equal(parsed, {
    complete: true,
    format: 'loose',
    language: 'Nepali',
    chain: { instruction: 'What is rain?', response: 'Water.', answer: 'पानी।' },
  });
  assert.equal(parseTaco(text), parsed);
});

test('what is missing is named, what is there is given, nothing is made up', () => {
  const text = composeTaco(chain, 'Nepali', 'released');
  const cut = (label: string) => text.slice(0, text.indexOf(label));
  const found = { instruction: 'What is rain?.', response: 'Water.\n\nIt falls..' };
  assert.equal(parseTaco(cut('Response in Nepali'), 'Nepali'), { complete: false, missing: ['answer'], found });
  assert.equal(parseTaco(cut('Response in Nepali')), { complete: false, missing: ['answer'], found });
  assert.equal(
    parseTaco(cut(' पानी'), 'Nepali'),
    { complete: false, missing: ['answer'], found },
    'a label without text',
  );
  assert.equal(parseTaco(cut('Response in English'), 'Nepali'), {
    complete: false,
    missing: ['response', 'answer'],
    found: { instruction: found.instruction },
  });
  assert.equal(parseTaco('पानी।', 'Nepali'), {
    complete: false,
    missing: ['instruction', 'response', 'answer'],
    found: {},
  });
  assert.equal(parseTaco('Response in Nepali: पानी।', 'Nepali'), {
    complete: false,
    missing: ['instruction', 'response'],
    found: { answer: 'पानी।' },
  });
  assert.equal(parseTaco(text, 'Hindi'), {
    complete: false,
    missing: ['answer'],
    found: { ...found, response: 'Water.\n\nIt falls.. \n                        Response in Nepali:  पानी।' },
  });
});

// What a count over the published files found: 80 answers a language; these have no final section, all others keep strictly
// to the format.
const published = [
  { language: 'Nepali', unfinished: [42, 65, 66] },
  { language: 'Sanskrit', unfinished: [53] },
];

for (const { language, unfinished } of published) {
  test(`published ${language} responses`, () => {
    const judgements: { answer: string }[] = JSON.parse(
      readFileSync(shared('data', 'taco', `judgements-${language.toLowerCase()}.json`), 'utf8'),
    );
    const without: number[] = [];
    let strict = 0;
    for (let n = 1; n <= 80; n++) {
      const text = readFileSync(shared('data', 'taco', 'responses', language.toLowerCase(), `${n}.txt`), 'utf8');
      const parsed = parseTaco(text, language);
      if (!parsed.complete) {
        without.push(n);
        assert.equal(parsed.missing, ['answer'], `${n}`);
        continue;
      }
      assert.is(parsed.format, 'released', `${n}`);
      assert.is(composeTaco(parsed.chain, language, 'released'), text, `${n}`);
      assert.is(parsed.chain.answer.trim(), judgements[n - 1]?.answer, `${n}: the answer that was judged`);
      assert.is(parsed.chain.answer.includes('\n'), false, `${n}: line structure is lost in the answers`);
      strict++;
    }
    assert.equal(without, unfinished);
    assert.is(strict, 80 - unfinished.length);
  });
}

test('134 of the 160 published instructions end in two full stops, 16 in ?.', () => {
  let doubled = 0;
  let asked = 0;
  for (const { language } of published) {
    for (let n = 1; n <= 80; n++) {
      const text = readFileSync(shared('data', 'taco', 'responses', language.toLowerCase(), `${n}.txt`), 'utf8');
      const parsed = parseTaco(text, language);
      const instruction = parsed.complete ? `${parsed.chain.instruction}.` : (parsed.found.instruction ?? '');
      if (instruction.endsWith('..')) doubled++;
      if (instruction.endsWith('?.')) asked++;
    }
  }
  assert.equal([doubled, asked], [134, 16]);
});
