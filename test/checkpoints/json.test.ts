// SPDX-License-Identifier: Apache-2.0
// Strict JSON: names once, fields of the right type, and errors that say where.
import * as assert from 'uvu/assert';
import { Fields, parseJsonObject } from '../../checkpoints/json.js';
import { suite } from '../support/harness.js';
import { throwsUserError } from './support.js';

const test = suite('checkpoints/json');
const parse = (text: string) => parseJsonObject(text, 'a config', 'x.json');

test('a name twice in one object is refused, wherever it stands and however it is written', () => {
  for (const text of [
    '{"a":1,"a":2}',
    '{"x":[{"b":1},{"a":1,"c":[],"a" \n : 2}]}',
    '{"a":1,"\\u0061":2}',
    '{"__proto__":1,"__proto__":2}',
  ]) {
    throwsUserError(() => parse(text), {
      expected: /a config: each name once/,
      found: /'(a|__proto__)' twice/,
      where: /x\.json/,
    });
  }
});

test('equal texts that are not names of one object pass', () => {
  const text = '{"a":"a","b":["a","a",{"a":{"a":"\\"a\\":"}}],"c":{"a":1},"\\"":"\\\\","{":"}","d":[]}';
  assert.equal(parse(text), JSON.parse(text));
});

test('a long text with many escapes is no problem', () => {
  const text = JSON.stringify({ a: '\n"\\'.repeat(1_000_000), b: 1 });
  assert.is(parse(text)['b'], 1);
});

test('what is no JSON object is refused with a short picture', () => {
  throwsUserError(() => parse('{"a":'), { expected: /JSON/, where: /x\.json/ });
  throwsUserError(() => parse('[1]'), { expected: /a JSON object/, found: /\[1\]/ });
  throwsUserError(() => parse(`"${'y'.repeat(500)}"`), { found: /^"y{1,80}…$/ });
});

test('fields: defaults for absent and null, errors with path and value', () => {
  const fields = new Fields(parse('{"n":3,"half":0.5,"t":"x","no":null,"b":false,"o":{"k":-1}}'), 'x.json');
  assert.is(fields.wholeNumber('n', { min: 1, max: 3 }), 3);
  assert.is(fields.wholeNumber('no', { min: 1, max: 9, default: 7 }), 7);
  assert.is(fields.number('half', { above: 0, below: 1 }), 0.5);
  assert.is(fields.string('t'), 'x');
  assert.is(fields.boolean('b', true), false);
  assert.is(fields.object('no'), undefined);
  assert.is(fields.get('constructor'), undefined);
  throwsUserError(() => fields.wholeNumber('n', { min: 4, max: 9 }), {
    expected: /^n: a whole number from 4 to 9$/,
    found: /^3$/,
  });
  throwsUserError(() => fields.wholeNumber('half', { min: 0, max: 9 }), { found: /0\.5/ });
  throwsUserError(() => fields.wholeNumber('absent', { min: 0, max: 9 }), { found: /^nothing$/ });
  throwsUserError(() => fields.number('half', { above: 0.5 }), { expected: /^half: a number > 0\.5$/ });
  throwsUserError(() => fields.boolean('t', true), { expected: /true or false/ });
  throwsUserError(() => fields.string('n'), { expected: /a text/ });
  throwsUserError(() => fields.object('t'), { expected: /an object/ });
  const inner = fields.object('o')!;
  throwsUserError(() => inner.number('k', { min: 0 }), {
    expected: /^o\.k: a number ≥ 0$/,
    found: /-1/,
    where: /x\.json/,
  });
});
