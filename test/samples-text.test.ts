// SPDX-License-Identifier: Apache-2.0
// The bundled text: the committed files are what the sources expand to, the languages run in step and each in its own script,
// and what is held out is met nowhere in training or pre-training, though all its words are.
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { expand, type Language, languages, type Row, sampleFiles } from '../samples/text/index.js';
import { projectRoot, suite } from './support/harness.js';

const test = suite('sample text');
const expansion = expand();
const heldOut = new Set(expansion.heldOut);

function committed(name: string): string {
  return readFileSync(join(projectRoot, 'samples', name), 'utf8');
}

function fields(row: Row): string[] {
  return [row.instruction, row.input, row.output];
}

function asked(row: Row): string {
  return row.input === '' ? row.instruction : `${row.instruction} ${row.input}`;
}

/** The share of letters that a script has among all letters and marks of the text. */
function share(text: string, script: RegExp): number {
  const letters = text.match(/[\p{L}\p{M}]/gu) ?? [];
  return letters.filter((letter) => script.test(letter)).length / letters.length;
}

test('the committed files are byte for byte what the sources expand to', () => {
  for (const [name, text] of Object.entries(sampleFiles(expansion))) {
    if (name.startsWith('mits/'))
      assert.ok(committed(name) === text, `samples/${name} is stale: run node dist/samples/text/build.js`);
  }
  assert.equal(sampleFiles(expand()), sampleFiles(expansion));
});

test('rows are aligned, ids unique, no field empty but the input', () => {
  const ids = expansion.rows.English.map((row) => row.id);
  assert.is(new Set(ids).size, ids.length);
  assert.ok(ids.length >= 1200);
  for (const language of languages) {
    assert.equal(
      expansion.rows[language].map((row) => row.id),
      ids,
    );
    for (const [index, row] of expansion.rows[language].entries()) {
      assert.ok(row.instruction !== '' && row.output !== '', row.id);
      assert.is(row.input === '', expansion.rows.English[index]?.input === '', row.id);
      for (const field of fields(row)) assert.not.match(field, /[{}|]|undefined| {2}|^ | $/, row.id);
    }
  }
});

test('no question is asked twice in a language with two answers', () => {
  for (const language of languages) {
    const answers = new Map<string, string>();
    for (const row of expansion.rows[language]) {
      assert.is(answers.get(asked(row)) ?? row.output, row.output, `${row.id}: ${asked(row)}`);
      answers.set(asked(row), row.output);
    }
  }
});

test('each language is written in its own script', () => {
  const scripts: Record<Language, RegExp> = {
    English: /[A-Za-z]/,
    Nepali: /\p{Script=Devanagari}/u,
    Persian: /\p{Script_Extensions=Arabic}/u,
  };
  for (const language of languages) {
    for (const row of expansion.rows[language]) {
      for (const field of fields(row)) {
        if (field !== '') assert.is(share(field, scripts[language]), 1, `${row.id}: ${field}`);
      }
    }
  }
  const persian = expansion.rows.Persian.flatMap(fields).join(' ');
  assert.not.match(persian, /[\u064a\u0643]/, 'Arabic yeh or kaf in Persian text');
  assert.ok(persian.includes('\u200c'), 'Persian text joins affixes with the zero-width non-joiner');
});

test('answers and instructions are short', () => {
  for (const row of expansion.rows.English) {
    assert.ok(row.instruction.split(' ').length <= 13, row.instruction);
    assert.ok(row.output.split(' ').length <= 20, row.output);
  }
});

test('held-out rows are a share of all and met nowhere else', () => {
  const total = expansion.rows.English.length;
  assert.ok(heldOut.size >= 0.06 * total && heldOut.size <= 0.1 * total);
  for (const language of languages) {
    const trained = expansion.rows[language].filter((row) => !heldOut.has(row.id)).map(asked);
    const text = [...Object.values(expansion.pretraining), ...trained].join('\n').replace(/\n/g, ' ');
    for (const row of expansion.rows[language]) {
      if (heldOut.has(row.id))
        assert.not.ok(text.includes(` ${asked(row)}`), `${row.id} is met in training: ${asked(row)}`);
    }
  }
});

test('every word of a held-out row is met in a training row', () => {
  const words = (text: string) => text.toLowerCase().match(/[\p{L}\p{M}\u200c]+/gu) ?? [];
  for (const language of languages) {
    const trained = expansion.rows[language].filter((row) => !heldOut.has(row.id)).flatMap(fields);
    const known = new Set(words(trained.join(' ')));
    for (const row of expansion.rows[language]) {
      if (heldOut.has(row.id))
        for (const word of words(fields(row).join(' '))) assert.ok(known.has(word), `${row.id}: ${word}`);
    }
  }
});

test('the questions shown by the demo are held out, at least two in each language', () => {
  assert.is(expansion.show.length, 6);
  assert.ok(expansion.show.every(({ id }) => heldOut.has(id)));
  for (const language of ['Nepali', 'Persian'])
    assert.ok(expansion.show.filter((shown) => shown.language === language).length >= 2);
  assert.is(new Set(expansion.show.map(({ id }) => id)).size, 6);
});

test('pre-training text keeps clear of the chain and of its labels', () => {
  for (const text of Object.values(expansion.pretraining))
    assert.not.match(text, /Instruction in English|Response in|undefined|[{}]/);
});

test('the committed text stays small', () => {
  const names = Object.keys(sampleFiles(expansion)).filter((name) => name.startsWith('mits/'));
  const sources = ['text/lexicon.txt', 'text/patterns.txt', 'text/written.txt'];
  const bytes = [...names, ...sources].reduce(
    (sum, name) => sum + statSync(join(projectRoot, 'samples', name)).size,
    0,
  );
  assert.ok(bytes <= 2_500_000, `${bytes} bytes`);
});
