// SPDX-License-Identifier: Apache-2.0
// From a row to a training example: a task makes a question and an answer of it, a template frames them, an encoder turns
// them into ids, and a loss mask over characters becomes one over tokens. Prompt and answer are encoded apart, so a prompt has
// the same ids here as when the model is asked. What cannot be used is counted by its reason, never repaired in silence.
import { createHash } from 'node:crypto';
import { UserError } from '../errors.js';
import type { RecordTable } from './record-table.js';
import type { Row } from './rows.js';
import { holdsTacoLabel, type TacoFormat, tacoPieces } from './taco.js';
import { endSegments, promptSegments, type Question, type Segment, type Template, withInput } from './templates.js';

/** The label of a position that is no target, as in PyTorch's cross-entropy. */
export const IGNORED = -100;

/** What a tokenizer must offer. */
export interface Encoder {
  /**
   * The ids of a text, no special tokens among them, and where each token starts, in UTF-16 units. A continuation goes on
   * from other text: no space is put before it.
   */
  encodeWithOffsets(text: string, options: { continuation: boolean }): { ids: Int32Array; starts: Int32Array };
  /** The id of a special token as spelled in the vocabulary. */
  specialId(text: string): number | undefined;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly vocabularySize: number;
  /** Changes when any text could get other ids. */
  readonly fingerprint: string;
}

/**
 * `taco`: the whole chain · `translate-to-english`: the question, the chain's first step · `translate-from-english`: the
 * answer, its last step · `instruction`: question and answer in the row's language, the paper's baseline · `english`: both in
 * English.
 */
export const TASKS = ['taco', 'translate-to-english', 'translate-from-english', 'instruction', 'english'] as const;
export type TaskName = (typeof TASKS)[number];

/** Which parts of a chain count: all, the final answer alone, or all but the translated instruction. */
export const LOSS_PARTS = ['all', 'finalAnswerOnly', 'withoutTranslation'] as const;
export type LossParts = (typeof LOSS_PARTS)[number];

export interface ExampleOptions {
  task: TaskName;
  template: Template;
  /** Of the chain; for the task `taco`. */
  format?: TacoFormat;
  /** `all` unless said otherwise. For tasks without a chain the answer is all there is. */
  loss?: LossParts;
  /** Prompts count too, as when Guanaco was trained. */
  countPrompt?: boolean;
}

/** A half-open range; of characters in an Example, of tokens in a TokenExample. */
export interface Span {
  start: number;
  end: number;
}

export interface Example {
  id: string;
  segments: Segment[];
  /** What counts in the loss: in characters of the segments' joined text, in order, apart from each other. */
  targets: Span[];
  /** Where the final answer stands. */
  finalAnswer: Span;
}

export interface TokenExample {
  id: string;
  ids: Int32Array; // (T)
  /** The target token that stands at each position; unshifted, −100 = none, the first always −100. */
  labels: Int32Array; // (T)
  /** The tokens of the final answer, where the example knows them. */
  finalAnswer?: Span;
}

/** Why a row gives no example. */
export type Unusable = 'noEnglish' | 'noAnswer' | 'labelInText' | 'tooLong' | 'noTarget';
export const UNUSABLE: Record<Unusable, string> = {
  noEnglish: 'has no English text',
  noAnswer: 'has no answer',
  labelInText: 'holds a label of the chain in its text',
  tooLong: 'is longer than the context',
  noTarget: 'has no target left within the context',
};

/** Examples by position. `read` gives the reason where a row is of no use. */
export interface ExampleSource extends Omit<RecordTable<TokenExample>, 'read'> {
  read(index: number): Promise<TokenExample | Unusable>;
}

interface Answer {
  question: Question;
  pieces: { text: string; counts: boolean; final: boolean }[];
}

/** Rows as examples of one task. */
export function examples(rows: RecordTable<Row>, options: ExampleOptions, encoder: Encoder): ExampleSource {
  const compose = composer(options);
  checkSpecials(options.template, encoder);
  return {
    ...rows,
    fingerprint: createHash('sha256')
      .update(JSON.stringify([rows.fingerprint, options, encoder.fingerprint]))
      .digest('hex'),
    async read(index) {
      const example = compose(await rows.read(index));
      return typeof example === 'string' ? example : tokenize(example, encoder);
    },
  };
}

/** Makes rows into examples; the options are checked once. */
export function composer(options: ExampleOptions): (row: Row) => Example | Unusable {
  const { template, task } = options;
  if (template.tasks && !template.tasks.includes(task)) {
    throw new UserError({
      expected: `a template for the task '${task}'`,
      found: `'${template.name}', which asks for ${template.tasks.join(', ')}`,
      remedy: 'choose another template for this task',
    });
  }
  return (row) => {
    const answer = answers[task](row, options);
    if (typeof answer === 'string') return answer;
    if (answer.pieces.some((piece) => piece.text.trim() === '')) return 'noAnswer';
    return frame(row.id, answer, options);
  };
}

/** The tasks. */
const answers: Record<TaskName, (row: Row, options: ExampleOptions) => Answer | Unusable> = {
  taco: (row, { format = 'clean', loss = 'all' }) => {
    if (!row.english) return 'noEnglish';
    if (row.language === 'English') {
      throw new UserError({
        expected: 'a row in another language than English for the task taco',
        found: `row '${row.id}' in English`,
      });
    }
    const chain = {
      instruction: withInput(row.english.instruction, row.english.input),
      response: row.english.output,
      answer: row.output,
    };
    if (Object.values(chain).some((text) => holdsTacoLabel(text, row.language))) return 'labelInText';
    const pieces = tacoPieces(chain, row.language, format).map(({ text, part }, i) => ({
      text,
      // The translation is the first label and its text.
      counts: loss === 'all' || (loss === 'finalAnswerOnly' ? part === 'answer' : i >= 2),
      final: part === 'answer',
    }));
    return { question: row, pieces };
  },
  'translate-to-english': (row) => {
    if (!row.english) return 'noEnglish';
    const question = {
      instruction: `Translate from ${row.language} to English.`,
      input: withInput(row.instruction, row.input),
      language: row.language,
    };
    return { question, pieces: whole(withInput(row.english.instruction, row.english.input)) };
  },
  'translate-from-english': (row) => {
    if (!row.english) return 'noEnglish';
    if (row.english.output.trim() === '') return 'noAnswer';
    const question = {
      instruction: `Translate from English to ${row.language}.`,
      input: row.english.output,
      language: row.language,
    };
    return { question, pieces: whole(row.output) };
  },
  instruction: (row) => ({ question: row, pieces: whole(row.output) }),
  english: (row) => {
    if (!row.english) return row.language === 'English' ? { question: row, pieces: whole(row.output) } : 'noEnglish';
    return { question: { ...row.english, language: 'English' }, pieces: whole(row.english.output) };
  },
};

const whole = (text: string) => [{ text, counts: true, final: true }];

function frame(id: string, { question, pieces }: Answer, { template, countPrompt }: ExampleOptions): Example {
  const { segments: prompt, lead } = promptSegments(template, question);
  const end = endSegments(template, question.language);
  const targets: Span[] = [];
  let at = joinedLength(prompt);
  if (countPrompt) targets.push({ start: 0, end: at });
  let finalAnswer = { start: at, end: at };
  const texts = pieces.map(({ text }, i) => (i === 0 ? lead + text : text));
  for (const [i, { counts, final }] of pieces.entries()) {
    const span = { start: at, end: at + texts[i]!.length };
    if (counts) targets.push(span);
    if (final) finalAnswer = span;
    at = span.end;
  }
  if (end.length > 0) targets.push({ start: at, end: at + joinedLength(end) });
  return {
    id,
    segments: [...prompt, { text: texts.join('') }, ...end],
    targets,
    finalAnswer,
  };
}

const joinedLength = (segments: Segment[]) => segments.reduce((length, { text }) => length + text.length, 0);

/**
 * Ids and labels of an example. A token counts when any of its characters do: a token of SentencePiece begins with the space
 * before its word, which may belong to what stands before the span.
 */
export function tokenize(example: Example, encoder: Encoder): TokenExample {
  const encoded = encodeSegments(example.segments, encoder);
  const T = encoded.reduce((length, { ids }) => length + ids.length, 0);
  const ids = new Int32Array(T);
  const labels = new Int32Array(T).fill(IGNORED);
  const { finalAnswer: answer } = example;
  const finalAnswer = { start: T, end: 0 };
  let t = 0;
  let base = 0;
  let target = 0;
  for (const [i, segment] of encoded.entries()) {
    for (let k = 0; k < segment.ids.length; k++, t++) {
      const start = base + segment.starts[k]!;
      const end = base + segment.ends[k]!;
      ids[t] = segment.ids[k]!;
      while (target < example.targets.length && example.targets[target]!.end <= start) target++;
      const span = example.targets[target];
      if (span && span.start < end && t > 0) labels[t] = ids[t]!;
      if (start < answer.end && answer.start < end) {
        finalAnswer.start = Math.min(finalAnswer.start, t);
        finalAnswer.end = t + 1;
      }
    }
    base += example.segments[i]!.text.length;
  }
  return { id: example.id, ids, labels, finalAnswer };
}

/** The ids of a question as the model is asked it: exactly those that stand before the answer in training. */
export function encodePrompt(template: Template, question: Question, encoder: Encoder): Int32Array {
  return Int32Array.from(
    encodeSegments(promptSegments(template, question).segments, encoder).flatMap(({ ids }) => [...ids]),
  );
}

interface EncodedSegment {
  ids: Int32Array; // (T)
  starts: Int32Array; // (T) UTF-16 units in the segment
  ends: Int32Array; // (T)
}

/** Text after text goes on from it; the first text, and text after a special token, begins anew. */
function encodeSegments(segments: readonly Segment[], encoder: Encoder): EncodedSegment[] {
  return segments.map((segment, i) => {
    const before = segments[i - 1];
    return encodeSegment(segment, before !== undefined && !before.special, encoder);
  });
}

function encodeSegment(segment: Segment, continuation: boolean, encoder: Encoder): EncodedSegment {
  if (segment.special) {
    const id = specialId(segment.text, encoder);
    return {
      ids: Int32Array.of(id ?? missingSpecial(segment.text)),
      starts: Int32Array.of(0),
      ends: Int32Array.of(segment.text.length),
    };
  }
  const { ids, starts } = encoder.encodeWithOffsets(segment.text, { continuation });
  const ends = new Int32Array(starts.length);
  // Tokens that share a start (the bytes of one character) share its end too.
  for (let k = starts.length - 1, end = segment.text.length; k >= 0; k--) {
    const next = starts[k + 1];
    if (next !== undefined && next > starts[k]!) end = next;
    ends[k] = end;
  }
  return { ids, starts, ends };
}

function specialId(name: string, encoder: Encoder): number | undefined {
  if (name === 'bos') return encoder.bosId;
  if (name === 'eos') return encoder.eosId;
  return encoder.specialId(name);
}

function checkSpecials(template: Template, encoder: Encoder): void {
  const parts = [...template.prompt, ...(template.promptWithInput ?? []), ...template.end];
  for (const part of parts)
    if ('special' in part && specialId(part.special, encoder) === undefined)
      missingSpecial(part.special, template.name);
}

function missingSpecial(name: string, template?: string): never {
  throw new UserError({
    expected: `a tokenizer with the special token '${name}'`,
    found: 'none by that name',
    where: template === undefined ? undefined : `template ${template}`,
    remedy: 'choose the template that belongs to the model',
  });
}

/** What to do with an example that is longer than the context. */
export const TOO_LONG = ['drop', 'truncate', 'error'] as const;
export type TooLong = (typeof TOO_LONG)[number];

export interface Fitted {
  example: TokenExample;
  /** The final answer stands whole, lost its end, or is gone; `whole` where it is not known. */
  finalAnswer: 'whole' | 'cut' | 'lost';
  truncated: boolean;
}

/** An example within a context of T tokens. Truncation takes from the end, and with it the token that would end the text. */
export function fit(example: TokenExample, T: number, tooLong: TooLong, where: string): Fitted | Unusable {
  const length = example.ids.length;
  if (length <= T) return hasTarget(example) ? { example, finalAnswer: 'whole', truncated: false } : 'noTarget';
  if (tooLong === 'drop') return 'tooLong';
  if (tooLong === 'error') {
    throw new UserError({
      expected: `examples of at most ${T} tokens`,
      found: `${length} tokens in row '${example.id}'`,
      where,
      remedy: 'raise the context length, or choose to drop or truncate what is too long',
    });
  }
  const cut: TokenExample = { id: example.id, ids: example.ids.slice(0, T), labels: example.labels.slice(0, T) };
  if (!hasTarget(cut)) return 'noTarget';
  const answer = example.finalAnswer;
  if (answer === undefined) return { example: cut, finalAnswer: 'whole', truncated: true };
  if (answer.start < T) cut.finalAnswer = { start: answer.start, end: Math.min(answer.end, T) };
  return { example: cut, finalAnswer: answer.end <= T ? 'whole' : answer.start < T ? 'cut' : 'lost', truncated: true };
}

const hasTarget = ({ labels }: TokenExample) => labels.some((label) => label !== IGNORED);
