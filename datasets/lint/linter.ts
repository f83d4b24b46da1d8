// SPDX-License-Identifier: Apache-2.0
// Looks rows through for what makes training data bad, one row at a time and in bounded memory: what is missing, in the wrong
// language, left over from templates, there twice, or cut off by a context length. Counts, and keeps a few examples of each.
// Decides nothing: what is too much is the caller's to say.
import { fit, type TokenExample, type Unusable } from '../examples.js';
import { Place } from '../files/place.js';
import { findLanguage } from '../languages.js';
import type { ReadRow } from '../row-files.js';
import type { Row } from '../rows.js';
import { Duplicates } from './duplicates.js';
import { residualEnglish } from './english.js';
import { proseOf, scriptShares } from './script-shares.js';

/** What is looked for, and what it means. */
export const CHECKS = {
  badRow: 'cannot be read, or lacks what a row must have',
  noLabels: 'among ready-made chains, without their labels',
  noFinalAnswer: 'a chain without a final answer in the language',
  noOutput: 'no output',
  nan: "an instruction or output that is 'nan', 'None' or 'null'",
  wrongScript: "less than half of the output's letters are of the language's script",
  mixedScript: 'between half and 85 % of them are',
  residualEnglish: 'English sentences in the output',
  templateMarks: 'marks of a template or of another chain in the text',
  duplicate: 'the same instruction, input and output as an earlier row',
  nearDuplicate: 'nearly the same as an earlier row',
} as const;
export type Check = keyof typeof CHECKS;

export interface Finding {
  count: number;
  /** Of all rows, bad ones too. */
  share: number;
  /** The first of them. */
  examples: { where: string; text: string }[];
}

export interface ContextCut {
  context: number;
  /** Examples that are longer. */
  longer: number;
  /** Of these, truncated: those that lose the end of their final answer, and those that lose all of it. */
  cutFinalAnswers: number;
  lostFinalAnswers: number;
}

export interface LengthReport {
  /** Of examples, in tokens. */
  median: number;
  p90: number;
  p99: number;
  longest: number;
  examples: number;
  unusable: Partial<Record<Unusable, number>>;
  contexts: ContextCut[];
}

export interface LintReport {
  rows: number;
  findings: Record<Check, Finding>;
  lengths?: LengthReport;
}

/** Examples of each finding that are kept. */
const KEPT = 3;
const EXCERPT = 90;
const WRONG_SHARE = 0.5;
/** From a project that filtered these sets: answers below this had paragraphs in another language. */
const MIXED_SHARE = 0.85;
/** Fewer letters tell nothing: a number, a formula, a name. */
const MIN_LETTERS = 10;
/** Languages whose texts are remembered at a time; MITS comes language by language. */
const REMEMBERED_LANGUAGES = 4;

/** More rows than a file has. */
const FILE_ROWS = 2 ** 32;

const NOTHING = /^\s*(?:nan|none|null|n\/a)\s*$/i;
const MARKS =
  /<\|[\w ]+\|>|<\/?s>|\[\/?INST\]|<<\/?SYS>>|#{2,} ?(?:Instruction|Input|Response|Human|Assistant)\b|(?:^|\n)(?:Human|Assistant|USER|ASSISTANT): |\{(?:instruction|input|output)\}|(?:Instruction|Response) in \p{Lu}\p{L}*:|(?:^|\n)Translation: /u;

/** Lints rows of any number of languages. */
export class Linter {
  private rows = 0;
  private readonly findings = Object.fromEntries(
    Object.keys(CHECKS).map((check) => [check, { count: 0, share: 0, examples: [] }]),
  ) as unknown as Record<Check, Finding>;
  private readonly seen = new Map<string, Duplicates>();
  private readonly lengths: number[] = [];
  private readonly unusable: Partial<Record<Unusable, number>> = {};
  private readonly cuts: ContextCut[];
  private examples = 0;
  /** Files so far: an earlier row is told by the number of its file and its position. */
  private readonly files: string[] = [];

  /** @param contexts lengths that examples are held against */
  constructor(contexts: readonly number[] = []) {
    this.cuts = contexts.map((context) => ({ context, longer: 0, cutFinalAnswers: 0, lostFinalAnswers: 0 }));
  }

  addBad(fault: Error, count: number): void {
    this.rows += count;
    this.find('badRow', '', fault.message.replaceAll(/\n */g, ' '), count);
  }

  /** @param example of the row, where lengths are asked for */
  add({ item, place, chain, unlabelled }: ReadRow, example?: TokenExample | Unusable): void {
    const where = String(place);
    this.rows++;
    if (unlabelled) this.find('noLabels', where, item.output);
    if (chain === 'incomplete') this.find('noFinalAnswer', where, item.instruction);
    else if (item.output.trim() === '' && item.source !== 'vicuna') this.find('noOutput', where, item.instruction); // questions have none
    if (NOTHING.test(item.instruction) || NOTHING.test(item.output))
      this.find('nan', where, `${item.instruction} → ${item.output}`);
    else this.checkLanguage(item, where);
    const mark = [item.instruction, item.input, item.output].map((text) => MARKS.exec(text)).find((match) => match);
    if (mark) this.find('templateMarks', where, mark.input.slice(Math.max(0, mark.index - 20)));
    this.checkRepetition(item, place);
    if (example !== undefined) this.addExample(example);
  }

  report(): LintReport {
    for (const finding of Object.values(this.findings)) finding.share = this.rows === 0 ? 0 : finding.count / this.rows;
    const report: LintReport = { rows: this.rows, findings: this.findings };
    const asked = this.examples > 0 || Object.keys(this.unusable).length > 0;
    if (asked)
      report.lengths = { ...this.quantiles(), examples: this.examples, unusable: this.unusable, contexts: this.cuts };
    return report;
  }

  private find(check: Check, where: string, text: string, count = 1): void {
    const finding = this.findings[check];
    finding.count += count;
    if (count > 0 && finding.examples.length < KEPT) {
      const line = text.replaceAll(/\s+/g, ' ').trim();
      const shown = check === 'badRow' || line.length <= EXCERPT ? line : `${line.slice(0, EXCERPT - 1)}…`;
      finding.examples.push({ where, text: shown.toWellFormed() });
    }
  }

  private checkLanguage({ output, language }: Row, where: string): void {
    const scripts = findLanguage(language)?.scripts ?? [];
    const prose = proseOf(output);
    const { letters, own } = scriptShares(prose, scripts);
    if (scripts.length > 0 && letters >= MIN_LETTERS && own < MIXED_SHARE) {
      this.find(own < WRONG_SHARE ? 'wrongScript' : 'mixedScript', where, output);
    }
    if (language === 'English') return;
    const english = residualEnglish(output, scripts.includes('Latn'));
    if (english !== undefined) this.find('residualEnglish', where, english);
  }

  private checkRepetition({ instruction, input, output, language }: Row, place: Place): void {
    let seen = this.seen.get(language);
    if (!seen) {
      if (this.seen.size === REMEMBERED_LANGUAGES) this.seen.delete(this.seen.keys().next().value!);
      seen = new Duplicates();
      this.seen.set(language, seen);
    }
    if (this.files.at(-1) !== place.path) this.files.push(place.path);
    const found = seen.add(`${instruction}\n${input}\n${output}`, (this.files.length - 1) * FILE_ROWS + place.position);
    if (!found) return;
    const earlier = new Place(this.files[Math.floor(found.earlier / FILE_ROWS)]!, found.earlier % FILE_ROWS);
    this.find(found.exact ? 'duplicate' : 'nearDuplicate', `${place} repeats ${earlier}`, instruction);
  }

  private addExample(example: TokenExample | Unusable): void {
    if (typeof example === 'string') {
      this.unusable[example] = (this.unusable[example] ?? 0) + 1;
      return;
    }
    const { length } = example.ids;
    this.examples++;
    this.lengths[length] = (this.lengths[length] ?? 0) + 1;
    for (const cut of this.cuts) {
      if (length <= cut.context) continue;
      cut.longer++;
      const fitted = fit(example, cut.context, 'truncate', '');
      const answer = typeof fitted === 'string' ? 'lost' : fitted.finalAnswer;
      if (answer === 'cut') cut.cutFinalAnswers++;
      if (answer === 'lost') cut.lostFinalAnswers++;
    }
  }

  private quantiles(): { median: number; p90: number; p99: number; longest: number } {
    const at = (share: number): number => {
      let left = Math.ceil(share * this.examples);
      for (let length = 0; length < this.lengths.length; length++) {
        left -= this.lengths[length] ?? 0;
        if (left <= 0) return length;
      }
      return 0;
    };
    return { median: at(0.5), p90: at(0.9), p99: at(0.99), longest: Math.max(0, this.lengths.length - 1) };
  }
}
