// SPDX-License-Identifier: Apache-2.0
// Prompt templates: what stands before an answer and what ends it. A template yields segments; special tokens come from its
// `special` parts alone, so text of a data set can never become one. Knows nothing of tokens and tasks. Placeholders are
// filled in one pass: braces inside a row's text stay text.
import { readFile } from 'node:fs/promises';
import { parseDocument } from 'yaml';
import { nearest, UserError } from '../errors.js';
import type { TaskName } from './examples.js';
import { describe } from './rows.js';

/** A stretch of text that is encoded by itself, or one special token. */
export interface Segment {
  /** The text; of a special token its name: `bos` and `eos` are the model's own, others as spelled in the vocabulary. */
  text: string;
  special?: true;
}

export type TemplatePart = { text: string } | { special: string };

export interface Template {
  name: string;
  /** Up to the answer. Text may hold {instruction}, {input} and {language}; {{ and }} are braces. */
  prompt: TemplatePart[];
  /** The prompt of a question that has an input; without it the input follows the instruction on a new line. */
  promptWithInput?: TemplatePart[];
  /** After the answer; counts in the loss, since it teaches the model to stop. */
  end: TemplatePart[];
  /** The only tasks it makes sense for; without it all of them. */
  tasks?: TaskName[];
}

/** What a prompt asks. */
export interface Question {
  instruction: string;
  /** Empty where there is none. */
  input: string;
  language: string;
}

const PLACEHOLDERS = ['instruction', 'input', 'language'] as const;

const BOS: TemplatePart = { special: 'bos' };
const EOS: TemplatePart = { special: 'eos' };

const GUANACO =
  "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions. ";
const ALPACA = 'Below is an instruction that describes a task';
const PAPER =
  'from {language} to English, formulate a response in English, and then translate that response back into {language}.';

const header = (role: string): TemplatePart[] => [
  { special: '<|start_header_id|>' },
  { text: role },
  { special: '<|end_header_id|>' },
];

const builtIn: Template[] = [
  {
    name: 'guanaco', // artidoro/qlora, examples/guanaco_generate.py: no line feed between the turns
    prompt: [BOS, { text: `${GUANACO}### Human: {instruction}### Assistant: ` }],
    end: [EOS],
  },
  {
    name: 'alpaca', // tatsu-lab/stanford_alpaca, train.py
    prompt: [
      BOS,
      {
        text: `${ALPACA}. Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:`,
      },
    ],
    promptWithInput: [
      BOS,
      {
        text: `${ALPACA}, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:`,
      },
    ],
    end: [EOS],
  },
  {
    name: 'paper', // the sentence of the figure in UNHSAILLab/TaCo; how it was wrapped is not published, the lines are ours
    prompt: [
      BOS,
      { text: `Translate the following instructions ${PAPER}\n\nInstruction: {instruction}\n\nResponse:\n` },
    ],
    promptWithInput: [
      BOS,
      {
        text: `Translate the following instructions and context ${PAPER}\n\nInstruction: {instruction}\n\nContext: {input}\n\nResponse:\n`,
      },
    ],
    end: [EOS],
    tasks: ['taco'],
  },
  {
    name: 'llama3', // Meta's chat format
    prompt: [
      { special: '<|begin_of_text|>' },
      ...header('user'),
      { text: '\n\n{instruction}' },
      { special: '<|eot_id|>' },
      ...header('assistant'),
      { text: '\n\n' },
    ],
    end: [{ special: '<|eot_id|>' }],
  },
  { name: 'plain', prompt: [BOS, { text: '{instruction}\n' }], end: [EOS] },
];

export const TEMPLATES: ReadonlyMap<string, Template> = new Map(builtIn.map((template) => [template.name, template]));

/** A template by the name of a built-in one. */
export function templateNamed(name: string): Template {
  const template = TEMPLATES.get(name);
  if (template) return template;
  const near = nearest(name, TEMPLATES.keys());
  throw new UserError({
    expected: `a template (${[...TEMPLATES.keys()].join(', ')})`,
    found: `'${name}'`,
    remedy:
      near === undefined
        ? 'a template of your own is named by its file, ending in .yaml, .yml or .json'
        : `did you mean '${near}'?`,
  });
}

/** A built-in template by name, or one from a file ending in .yaml, .yml or .json. */
export async function loadTemplate(nameOrPath: string): Promise<Template> {
  if (!/\.(ya?ml|json)$/.test(nameOrPath)) return templateNamed(nameOrPath);
  const text = await readFile(nameOrPath, 'utf8').catch((cause) => {
    throw new UserError({
      expected: 'a readable template file',
      found: cause.code === 'ENOENT' ? 'nothing there' : cause.code,
      where: nameOrPath,
      cause,
    });
  });
  return parseTemplate(text, nameOrPath);
}

/** A template from YAML or JSON text, checked. `where` names it in errors. */
export function parseTemplate(text: string, where: string): Template {
  const document = parseDocument(text);
  const [error] = document.errors;
  if (error)
    throw new UserError({
      expected: 'YAML or JSON',
      found: error.message.split('\n')[0] ?? 'broken text',
      where,
      cause: error,
    });
  const value: unknown = document.toJS();
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new UserError({ expected: 'a template with prompt and end', found: describe(value), where });
  }
  const fields = value as Record<string, unknown>;
  const known = ['name', 'prompt', 'promptWithInput', 'end'];
  for (const key of Object.keys(fields)) if (!known.includes(key)) throw unknownKey(key, known, where);
  const name = fields['name'] ?? where;
  if (typeof name !== 'string') throw new UserError({ expected: "text for 'name'", found: describe(name), where });
  const template: Template = {
    name,
    prompt: parts(fields['prompt'], 'prompt', where),
    end: fields['end'] === undefined ? [EOS] : parts(fields['end'], 'end', where),
  };
  if (fields['promptWithInput'] !== undefined)
    template.promptWithInput = parts(fields['promptWithInput'], 'promptWithInput', where);
  checkPlaceholders(template, where);
  return template;
}

function parts(value: unknown, name: string, where: string): TemplatePart[] {
  if (!Array.isArray(value))
    throw new UserError({ expected: `a list of text and special parts for '${name}'`, found: describe(value), where });
  return value.map((part: unknown, i) => {
    const place = `${where}, ${name}[${i}]`;
    const entries = typeof part === 'object' && part !== null ? Object.entries(part) : [];
    const [entry] = entries;
    if (entries.length !== 1 || entry === undefined || typeof entry[1] !== 'string' || entry[1] === '') {
      throw new UserError({
        expected: "one of 'text: …' and 'special: …', with text",
        found: describe(part),
        where: place,
      });
    }
    if (entry[0] === 'text') return { text: entry[1] };
    if (entry[0] === 'special') return { special: entry[1] };
    throw unknownKey(entry[0], ['text', 'special'], place);
  });
}

function unknownKey(key: string, known: string[], where: string): UserError {
  const near = nearest(key, known);
  const remedy = near === undefined ? {} : { remedy: `did you mean '${near}'?` };
  return new UserError({ expected: `one of ${known.join(', ')}`, found: `'${key}'`, where, ...remedy });
}

function checkPlaceholders(template: Template, where: string): void {
  const required = { prompt: ['instruction'], promptWithInput: ['instruction', 'input'], end: [] };
  const allowed = { prompt: ['instruction', 'language'], promptWithInput: [...PLACEHOLDERS], end: ['language'] };
  for (const list of ['prompt', 'promptWithInput', 'end'] as const) {
    const used = new Set<string>();
    for (const part of template[list] ?? []) {
      if ('special' in part) continue;
      for (const [whole, name] of part.text.matchAll(PLACEHOLDER)) {
        if (name !== undefined) used.add(name);
        else if (whole.length === 1) {
          throw new UserError({
            expected: 'a placeholder such as {instruction}, or {{ and }} for braces',
            found: `a single '${whole}'`,
            where: `${where}, ${list}`,
          });
        }
      }
    }
    for (const name of used)
      if (!(allowed[list] as string[]).includes(name)) throw unknownKey(name, allowed[list], `${where}, ${list}`);
    for (const name of template[list] ? required[list] : []) {
      if (!used.has(name)) throw new UserError({ expected: `{${name}} in ${list}`, found: 'none', where });
    }
  }
}

/** A doubled brace, a placeholder, or a brace that is neither. */
const PLACEHOLDER = /\{\{|\}\}|\{(\w+)\}|[{}]/g;

function fill(list: TemplatePart[], values: Record<string, string>): Segment[] {
  const segments: Segment[] = [];
  for (const part of list) {
    if ('special' in part) {
      segments.push({ text: part.special, special: true });
      continue;
    }
    const text = part.text.replace(PLACEHOLDER, (whole, name?: string) =>
      name === undefined ? whole.slice(0, 1) : values[name]!,
    );
    const last = segments.at(-1);
    // Neighbouring text is one segment: cutting it would change how it is encoded.
    if (last && !last.special) last.text += text;
    else segments.push({ text });
  }
  return segments;
}

/**
 * The segments up to the answer, and the `lead` that the answer begins with: a template's last space. Tokens begin with the
 * space before their word, so a prompt that kept it would end in a token that no text has there.
 */
export function promptSegments(template: Template, question: Question): { segments: Segment[]; lead: string } {
  const { instruction, input, language } = question;
  const separate = input !== '' && template.promptWithInput !== undefined;
  const list = separate ? template.promptWithInput! : template.prompt;
  const segments = fill(list, { instruction: separate ? instruction : withInput(instruction, input), input, language });
  const end = list.at(-1)!;
  if (!('text' in end) || !end.text.endsWith(' ')) return { segments, lead: '' };
  const last = segments.at(-1)!;
  last.text = last.text.slice(0, -1);
  return { segments: segments.filter(({ text }) => text !== ''), lead: ' ' };
}

/** The segments after the answer. */
export function endSegments(template: Template, language: string): Segment[] {
  return fill(template.end, { language });
}

/** An instruction with its input, where one text has to hold both. */
export function withInput(instruction: string, input: string): string {
  return input === '' ? instruction : `${instruction}\n${input}`;
}
