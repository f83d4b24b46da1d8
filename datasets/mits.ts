// SPDX-License-Identifier: Apache-2.0
// MITS as it was published: what its paths say of a file, and what its records look like. Every quirk of its names and its
// columns is levelled here and nowhere else, each with its reason (of its values: rows.ts). Reads nothing itself.
// Where it lies: saillab/taco-datasets and the later saillab/alpaca-…-cleaned and saillab/alpaca_…_taco, UNHSAILLab/TaCo.
import { basename, dirname, join, parse } from 'node:path';
import { findLanguage, languageInName } from './languages.js';

/** The sets that MITS is made of; `taco` are ready-made chains. */
export type MitsSource = 'alpaca' | 'dolly' | 'vicuna' | 'taco';

export interface PathFacts {
  source?: MitsSource;
  /** By its English name. */
  language?: string;
}

/**
 * A name as it was meant. The folder `multilingual-instruction-tuning-dataset ` ends with a space, which people, shells and
 * archives lose; `multilinugal-dolly-15k` is misspelled, which people correct.
 */
export const meantName = (name: string) => name.trim().replace('multilinugal', 'multilingual');

/** What a file is by its name and the names of the folders around it. */
export function factsOfPath(path: string): PathFacts {
  const file = meantName(basename(path));
  const folder = meantName(basename(dirname(path)));
  // The parquet repositories have their files in `data`, named after splits alone.
  const above = meantName(basename(dirname(dirname(path))));
  const names = folder === 'data' ? [file, above] : [file, folder];
  const facts: PathFacts = {};
  const source = [...names, above].map(sourceOf).find((found) => found !== undefined);
  if (source) facts.source = source;
  const language = names.map((name) => languageInName(name)?.name).find((found) => found !== undefined);
  if (language) facts.language = language;
  return facts;
}

function sourceOf(name: string): MitsSource | undefined {
  // `taco-Nepali.json` on the hub, `alpaca_nepali_taco` as a parquet repository.
  if (/^taco-\p{L}+.*\.json/u.test(name) || /^alpaca_.+_taco$/.test(name)) return 'taco';
  // `multilingual-vicuna-benchmark-dataset` on the hub, `Nepali_vicuna_benchmark_questions.xlsx` on GitHub.
  if (/vicuna[-_]benchmark/.test(name) || /^vicuna-questions/.test(name)) return 'vicuna';
  if (/^multilingual-alpaca-52k/.test(name) || /^alpaca-.+-cleaned$/.test(name)) return 'alpaca';
  if (/^multilingual-dolly-15k/.test(name)) return 'dolly';
  return undefined;
}

/**
 * Where the English original of a translated file may lie: beside it (`Nepali.json`, `English.json`), or, as Alpaca's, in a
 * folder beside its own (`Nepali/Nepali.json`, `English/English.json`).
 */
export function originalsOf(path: string): string[] {
  const { name, ext } = parse(path);
  const language = languageInName(name)?.name;
  // A file that is named after more than a language may have rows of its own.
  if (language === undefined || language === 'English' || findLanguage(name)?.name !== language) return [];
  const english = `English${ext}`;
  return [join(dirname(path), english), join(dirname(dirname(path)), 'English', english)];
}

type Fields = Record<string, unknown>;

/**
 * Turns records into ones with the columns id, instruction, input and output, going by the first of them; undefined where
 * they have them already, or where nothing is known of them.
 */
export function recordShape(first: unknown, { source }: PathFacts): ((record: Fields) => Fields) | undefined {
  if (typeof first !== 'object' || first === null) return undefined;
  const has = (name: string) => Object.hasOwn(first, name);
  // Dolly's own names; some of its translations have Alpaca's.
  if (has('instruction') && has('response') && !has('output')) {
    return ({ context, response, ...rest }) => ({ ...rest, input: context, output: response });
  }
  if (has('instruction')) return undefined;
  // FastChat's questions: a list of turns, of which there is one, or, in the first version, a text. There are no answers.
  if (has('question_id')) {
    return ({ question_id, turns, text, question }) => ({
      id: question_id,
      instruction: Array.isArray(turns) ? turns[0] : (text ?? question),
      output: '',
    });
  }
  // The header row of a question sheet is machine-translated with the rest (`प्रश्न_आईडी`, `␠पाठ`): columns go by their order.
  const [id, question] = Object.keys(first);
  if (source === 'vicuna' && id !== undefined && question !== undefined) {
    // 71 of 80 Nepali questions begin with a space that translation left there.
    return (record) => {
      const text = record[question];
      return { id: record[id], instruction: typeof text === 'string' ? text.trim() : text, output: '' };
    };
  }
  return undefined;
}
