// SPDX-License-Identifier: Apache-2.0
// Tasks, loss masks and the fit into a context, read back as text: which words count, which are gone.
import * as assert from 'uvu/assert';
import {
  composer,
  type Encoder,
  type ExampleOptions,
  encodePrompt,
  examples,
  fit,
  IGNORED,
  parseTemplate,
  type Row,
  type TokenExample,
  tableOf,
  templateNamed,
  tokenize,
} from '../../datasets/index.js';
import { suite } from '../support/harness.js';
import { toyEncoder, userError } from './toy.js';

const test = suite('datasets: examples');

const row: Row = {
  id: '7',
  instruction: 'पानी के हो?',
  input: 'छोटो',
  output: 'तरल हो।',
  language: 'Nepali',
  english: { instruction: 'What is water?', input: 'Short', output: 'A liquid.' },
};
const plain = templateNamed('plain');
const encoder = toyEncoder();

function made(options: ExampleOptions, of: Row = row): TokenExample {
  const example = composer(options)(of);
  if (typeof example === 'string') throw new Error(example);
  return tokenize(example, encoder);
}

const text = (example: TokenExample) => encoder.decode(example.ids);
/** The counted tokens as text. */
const counted = (example: TokenExample) => encoder.decode(example.labels.filter((label) => label !== IGNORED));

test('each task asks and answers its own', () => {
  const answers = {
    taco: [
      'पानी के हो?\nछोटो\n',
      'Instruction in English: What is water?\nShort\nResponse in English: A liquid.\nResponse in Nepali: तरल हो।',
    ],
    'translate-to-english': ['Translate from Nepali to English.\nपानी के हो?\nछोटो\n', 'What is water?\nShort'],
    'translate-from-english': ['Translate from English to Nepali.\nA liquid.\n', 'तरल हो।'],
    instruction: ['पानी के हो?\nछोटो\n', 'तरल हो।'],
    english: ['What is water?\nShort\n', 'A liquid.'],
  } as const;
  for (const [task, [asked, answered]] of Object.entries(answers)) {
    const example = made({ task: task as keyof typeof answers, template: plain });
    assert.is(text(example), `<s>${asked}${answered}</s>`, task);
    assert.is(counted(example), `${answered}</s>`, task);
  }
});

test('English rows serve the English task without a counterpart', () => {
  const english: Row = { id: '1', instruction: 'Hello', input: '', output: 'Hi', language: 'English' };
  assert.is(text(made({ task: 'english', template: plain }, english)), '<s>Hello\nHi</s>');
});

test('loss parts: tokens that touch what counts', () => {
  const options: ExampleOptions = { task: 'taco', template: plain, format: 'released' };
  assert.is(counted(made({ ...options, loss: 'finalAnswerOnly' })), 'तरल हो।</s>');
  assert.match(
    counted(made({ ...options, loss: 'withoutTranslation' })),
    /^Short\.\n {24}Response in English: A liquid\.\. \n {24}Response in Nepali: तरल हो।<\/s>$/,
  );
  const everything = made({ ...options, countPrompt: true });
  assert.is(counted(everything), text(everything).slice('<s>'.length), 'all but the first token');
  assert.is(everything.labels[0], IGNORED);
});

test('a token that begins with the space before the answer counts', () => {
  // In the released format the answer follows a space, which the toy encoder, like SentencePiece, puts into the answer's token.
  const latin: Row = { ...row, output: 'ek taral ho' };
  assert.is(
    counted(made({ task: 'taco', template: plain, format: 'released', loss: 'finalAnswerOnly' }, latin)),
    ' ek taral ho</s>',
  );
});

test('the final answer is found in tokens', () => {
  const example = made({ task: 'taco', template: plain });
  const { start, end } = example.finalAnswer!;
  assert.is(encoder.decode(example.ids.slice(start, end)), 'तरल हो।');
  assert.is(end, example.ids.length - 1, 'the end of text stands after it');
});

test('a prompt is encoded in training as when the model is asked', () => {
  for (const name of ['plain', 'guanaco', 'alpaca', 'paper']) {
    const template = templateNamed(name);
    const asked = encodePrompt(template, row, encoder);
    assert.equal(made({ task: 'taco', template }).ids.slice(0, asked.length), asked, name);
  }
});

test('a template that ends in a space: the answer begins with it, and learns it', () => {
  const example = made({ task: 'instruction', template: templateNamed('guanaco') }, { ...row, output: 'taral ho' });
  assert.match(text(example), /### Assistant: taral ho<\/s>$/);
  assert.is(counted(example), ' taral ho</s>');
  assert.is(counted(made({ task: 'instruction', template: templateNamed('guanaco') })), ' तरल हो।</s>');
});

test('a text goes on from the text before it, and begins anew after a special token', () => {
  const begun = (example: TokenExample) => example.ids.filter((id) => id === 3).length;
  assert.is(begun(made({ task: 'taco', template: plain })), 1);
  const chat = parseTemplate(
    '{"prompt": [{"text": "{instruction}"}, {"special": "eos"}, {"text": "\\n"}]}',
    'chat.json',
  );
  assert.is(begun(made({ task: 'taco', template: chat })), 2);
});

test('rows of no use say why', () => {
  const compose = (task: ExampleOptions['task'], of: Row) => composer({ task, template: plain })(of);
  const { english, ...alone } = row;
  for (const task of ['taco', 'translate-to-english', 'translate-from-english', 'english'] as const)
    assert.is(compose(task, alone), 'noEnglish', task);
  assert.is(compose('instruction', { ...row, output: ' \n' }), 'noAnswer');
  assert.is(compose('taco', { ...row, output: '' }), 'noAnswer');
  assert.is(compose('taco', { ...row, english: { ...english!, output: '' } }), 'noAnswer');
  assert.is(compose('translate-from-english', { ...row, english: { ...english!, output: '' } }), 'noAnswer');
  assert.is(compose('taco', { ...row, english: { ...english!, output: 'Response in Nepali: x' } }), 'labelInText');
});

test('options that make no sense', async () => {
  const error = await userError(() => composer({ task: 'instruction', template: templateNamed('paper') }));
  assert.match(error.message, /template for the task 'instruction', found 'paper', which asks for taco/);
  const missing = await userError(() =>
    examples(tableOf([row]), { task: 'taco', template: templateNamed('llama3') }, encoder),
  );
  assert.match(missing.message, /special token '<\|begin_of_text\|>', found none.*template llama3/s);
  const english = await userError(() => composer({ task: 'taco', template: plain })({ ...row, language: 'English' }));
  assert.match(english.message, /row '7' in English/);
});

test('too long: drop, truncate, error', async () => {
  const example = made({ task: 'taco', template: plain });
  const length = example.ids.length;
  const { start, end } = example.finalAnswer!;
  const at = (T: number) => fit(example, T, 'truncate', 'here');
  assert.equal(at(length), { example, finalAnswer: 'whole', truncated: false });
  assert.is(fit(example, length - 1, 'drop', 'here'), 'tooLong');
  assert.match(
    (await userError(() => fit(example, length - 1, 'error', 'a.jsonl, line 3'))).message,
    /at most \d+ tokens, found \d+ tokens in row '7'.*a\.jsonl, line 3/s,
  );

  const cases = [
    [length - 1, 'whole'], // only the end of text is gone
    [end - 1, 'cut'],
    [start + 1, 'cut'],
    [start, 'lost'],
  ] as const;
  for (const [T, finalAnswer] of cases) {
    const fitted = at(T);
    if (typeof fitted === 'string') throw new Error(fitted);
    assert.equal([fitted.finalAnswer, fitted.truncated, fitted.example.ids.length], [finalAnswer, true, T]);
    assert.is(fitted.example.ids.includes(2), false, 'no end of text where the text does not end');
  }
  assert.is(at(10), 'noTarget', 'nothing but the prompt is left');
});

test('a fingerprint changes with all that changes an example', () => {
  const base: ExampleOptions = { task: 'taco', template: plain };
  const print = (rows: Row[], options: ExampleOptions, by: Encoder = encoder) =>
    examples(tableOf(rows), options, by).fingerprint;
  const prints = [
    print([row], base),
    print([{ ...row, output: 'x' }], base),
    print([row], { ...base, task: 'english' }),
    print([row], { ...base, template: templateNamed('alpaca') }),
    print([row], { ...base, format: 'released' }),
    print([row], { ...base, loss: 'finalAnswerOnly' }),
    print([row], base, { ...encoder, fingerprint: 'other' }),
  ];
  assert.is(new Set(prints).size, prints.length);
  assert.is(print([{ ...row }], { ...base }), prints[0]);
});
