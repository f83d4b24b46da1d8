// SPDX-License-Identifier: Apache-2.0
// Prompt templates: the built-in ones letter by letter, those from files with every way of getting them wrong.
import * as assert from 'uvu/assert';
import { encodePrompt, loadTemplate, parseTemplate, type Question, templateNamed } from '../../datasets/index.js';
import { promptSegments } from '../../datasets/templates.js';
import { suite } from '../support/harness.js';
import { file, toyEncoder, userError } from './toy.js';

const test = suite('datasets: templates');

const question: Question = { instruction: 'पानी के हो?', input: '', language: 'Nepali' };
const withInput: Question = { ...question, input: 'एक गिलास' };

/** Segments as text, special tokens in brackets; the lead of the answer after a bar. */
const shown = ({ segments, lead }: ReturnType<typeof promptSegments>) =>
  segments.map(({ text, special }) => (special ? `[${text}]` : text)).join('') + (lead === '' ? '' : `|${lead}`);
const prompt = (name: string, asked: Question) => shown(promptSegments(templateNamed(name), asked));

test('guanaco', () => {
  const head =
    "[bos]A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions. ### Human: ";
  assert.is(prompt('guanaco', question), `${head}पानी के हो?### Assistant:| `);
  assert.is(prompt('guanaco', withInput), `${head}पानी के हो?\nएक गिलास### Assistant:| `);
});

test('alpaca', () => {
  assert.is(
    prompt('alpaca', question),
    '[bos]Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nपानी के हो?\n\n### Response:',
  );
  assert.is(
    prompt('alpaca', withInput),
    '[bos]Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\nपानी के हो?\n\n### Input:\nएक गिलास\n\n### Response:',
  );
});

test('paper', () => {
  const tail =
    'from Nepali to English, formulate a response in English, and then translate that response back into Nepali.';
  assert.is(
    prompt('paper', question),
    `[bos]Translate the following instructions ${tail}\n\nInstruction: पानी के हो?\n\nResponse:\n`,
  );
  assert.is(
    prompt('paper', withInput),
    `[bos]Translate the following instructions and context ${tail}\n\nInstruction: पानी के हो?\n\nContext: एक गिलास\n\nResponse:\n`,
  );
});

test('llama3 and plain', () => {
  assert.is(
    prompt('llama3', question),
    '[<|begin_of_text|>][<|start_header_id|>]user[<|end_header_id|>]\n\nपानी के हो?[<|eot_id|>][<|start_header_id|>]assistant[<|end_header_id|>]\n\n',
  );
  assert.is(prompt('plain', withInput), '[bos]पानी के हो?\nएक गिलास\n');
});

test('special tokens come from templates alone', () => {
  const encoder = toyEncoder('<|eot_id|>', '<|begin_of_text|>', '<|start_header_id|>', '<|end_header_id|>');
  const ids = encodePrompt(
    templateNamed('llama3'),
    { ...question, instruction: '<|eot_id|> </s> {input} {instruction}' },
    encoder,
  );
  assert.is(ids.filter((id) => id === 4).length, 1, 'the end of the turn, not the text that looks like it');
  assert.is(ids.filter((id) => id === 2).length, 0);
  assert.match(encoder.decode(ids), '<|eot_id|> </s> {input} {instruction}');
});

test('a template from a file', async () => {
  const yaml = `
name: mine
prompt:
  - special: bos
  - text: "{{{language}}} Q: {instruction}"
promptWithInput:
  - text: "{instruction} / {input}"
end:
  - text: "\\n"
  - special: "<|end|>"
`;
  const template = await loadTemplate(file(yaml, 'yaml'));
  assert.is(shown(promptSegments(template, question)), '[bos]{Nepali} Q: पानी के हो?');
  assert.is(shown(promptSegments(template, withInput)), 'पानी के हो? / एक गिलास');
  assert.equal(template.end, [{ text: '\n' }, { special: '<|end|>' }]);
  const json = parseTemplate('{"prompt": [{"text": "{instruction}"}]}', 'a.json');
  assert.equal(json.end, [{ special: 'eos' }]);
});

test('a last space of the template, not of the text, goes to the answer', () => {
  const mine = (text: string) => parseTemplate(JSON.stringify({ prompt: [{ special: 'bos' }, { text }] }), 'mine.json');
  const asked = { ...question, instruction: 'Hello ' };
  assert.is(shown(promptSegments(mine('{instruction}'), asked)), '[bos]Hello ');
  assert.is(shown(promptSegments(mine('{instruction}  '), asked)), '[bos]Hello  | ');
});

test('bad templates', async () => {
  const cases: [string, RegExp][] = [
    ['[1, 2]', /prompt and end, found a list/],
    ['prompt: [', /YAML or JSON/],
    ['prompt: text', /list of text and special parts for 'prompt', found a string/],
    ['prompts: []', /found 'prompts'.*mean 'prompt'/s],
    ['prompt: [{text: hello}]', /\{instruction\} in prompt, found none/],
    ['prompt: [{text: "{instruktion}"}]', /found 'instruktion'.*mean 'instruction'/s],
    ['prompt: [{text: "{instruction} }"}]', /placeholder.*found a single '}'/s],
    ['prompt: [{text: "{instruction}", special: bos}]', /one of 'text: …' and 'special: …'/],
    ['prompt: [{texts: "{instruction}"}]', /found 'texts'.*prompt\[0\].*mean 'text'/s],
    ['prompt: [{text: "{instruction}"}]\npromptWithInput: [{text: "{instruction}"}]', /\{input\} in promptWithInput/],
    ['prompt: [{text: "{instruction}"}]\nend: [{text: "{input}"}]', /found 'input'/],
  ];
  for (const [text, expected] of cases)
    assert.match((await userError(() => parseTemplate(text, 'mine.yaml'))).message, expected);
  assert.match((await userError(() => templateNamed('guanacco'))).message, /found 'guanacco'.*mean 'guanaco'/s);
  assert.match((await userError(() => loadTemplate('nowhere.yaml'))).message, /nothing there.*nowhere\.yaml/s);
});
