// SPDX-License-Identifier: Apache-2.0
// From the words and patterns to the sample data and the pre-training text. Knows the files of this folder and nothing of models.
// Everything follows from the sources: no clock, no random seed but fixed ones, so a second run writes the same bytes.
// Invariant: the instruction of a held-out row (with its input) stands nowhere else, in no language.
import { type Binding, domains, random, shuffled } from './domains.js';
import { inflect, type Language, Lexicon, languages, type Parallel, readSource } from './lexicon.js';

/** A row of the MITS form. */
export interface Row {
  readonly id: string;
  readonly instruction: string;
  readonly input: string;
  readonly output: string;
}

/** A held-out row that the demo asks before and after training. */
export interface Show {
  readonly language: Language;
  readonly id: string;
}

export interface Expansion {
  readonly rows: Readonly<Record<Language, readonly Row[]>>;
  readonly heldOut: readonly string[];
  readonly show: readonly Show[];
  /** File name to text, a passage on each line. */
  readonly pretraining: Readonly<Record<string, string>>;
}

interface Item {
  readonly subject: string; // the English word in the slot x
  readonly instruction: Parallel | undefined; // none: a plain statement
  readonly input: Parallel | undefined;
  readonly output: Parallel;
}

interface Pattern {
  readonly name: string;
  readonly items: readonly Item[]; // shuffled
  readonly rows: number; // how many of them become sample data
  readonly composed: boolean;
}

const WRITTEN = 'written';
const WORD = /[\p{L}\p{M}\u200c]+/gu;
const HELD_OUT_SHARE = 0.09;
/** Items of a pattern beyond its sample rows that pre-training sees; statements have no rows. */
const EXTRA_ITEMS = 90;
const STATEMENTS = 160;
/** Patterns whose answers are plain facts about the thing in the slot x. */
const FACTS = [
  'what-is',
  'colour',
  'home',
  'eats',
  'sound',
  'legs',
  'taste',
  'made',
  'capital',
  'job',
  'work-place',
  'tool',
];
/** Patterns whose first held-out row is shown by the demo, and in which language. */
const SHOWN: readonly [Language, string][] = [
  ['Nepali', 'colour-no'],
  ['Persian', 'say-is'],
  ['Nepali', 'plus'],
  ['Persian', 'bigger'],
  ['Nepali', 'he-wants'],
  ['Persian', 'home'],
];

export function expand(): Expansion {
  const lexicon = new Lexicon(readSource('lexicon.txt'));
  const patterns = [...readPatterns(readSource('patterns.txt'), lexicon), readWritten(readSource('written.txt'))];
  const rows = Object.fromEntries(languages.map((language) => [language, [] as Row[]])) as Record<Language, Row[]>;
  const heldOut: string[] = [];
  const hidden = new Set<Item>();
  const spare = spareItems(patterns.flatMap((pattern) => pattern.items.slice(0, pattern.rows)));
  for (const pattern of patterns) {
    let due = 0.5; // rounds the pattern's share; spreads the held-out rows evenly
    for (const [index, item] of pattern.items.slice(0, pattern.rows).entries()) {
      const id = `${pattern.name}-${String(index + 1).padStart(3, '0')}`;
      for (const language of languages) rows[language].push(toRow(id, item, language));
      due += pattern.name === WRITTEN ? 0 : HELD_OUT_SHARE;
      if (due < 1 || !spare(item)) continue;
      due -= 1;
      heldOut.push(id);
      hidden.add(item);
    }
  }
  return { rows, heldOut, show: chooseShown(heldOut), pretraining: pretrainingText(patterns, hidden) };
}

/** Takes an item away if each of its words still stands in another one that was not taken; tells whether it did. */
function spareItems(items: readonly Item[]): (item: Item) => boolean {
  const words = (item: Item) =>
    new Set(
      languages.flatMap(
        (language) => `${asked(item, language)} ${item.output[language]}`.toLowerCase().match(WORD) ?? [],
      ),
    );
  const counts = new Map<string, number>();
  for (const item of items) for (const word of words(item)) counts.set(word, (counts.get(word) ?? 0) + 1);
  return (item) => {
    const own = [...words(item)];
    if (own.some((word) => (counts.get(word) ?? 0) < 2)) return false;
    for (const word of own) counts.set(word, (counts.get(word) ?? 0) - 1);
    return true;
  };
}

function chooseShown(heldOut: readonly string[]): Show[] {
  return SHOWN.map(([language, name]) => {
    const id = heldOut.find((candidate) => candidate.slice(0, -4) === name);
    if (id === undefined) throw new Error(`pattern "${name}" has no held-out row to show`);
    return { language, id };
  });
}

function toRow(id: string, item: Item, language: Language): Row {
  return {
    id,
    instruction: item.instruction?.[language] ?? '',
    input: item.input?.[language] ?? '',
    output: item.output[language],
  };
}

/** Blocks of a heading and three lines. */
function readPatterns(text: string, lexicon: Lexicon): Pattern[] {
  return text
    .split(/^## /m)
    .slice(1)
    .map((block) => {
      const [heading = '', ...lines] = block.trim().split('\n');
      const [name = '', domainName = '', count = '', flag] = heading.split('|').map((part) => part.trim());
      const domain = domains[domainName];
      if (domain === undefined || lines.length !== 3)
        throw new Error(`patterns.txt: "${name}" needs a domain and three lines`);
      const templates = Object.fromEntries(
        languages.map((language, index) => [language, splitLine(lines[index] as string)]),
      );
      const seen = new Set<string>();
      const items = shuffled(domain(lexicon), name)
        .map((binding) => fill(templates as Record<Language, Line>, binding))
        .filter((item) => {
          const key = asked(item, 'English');
          return !seen.has(key) && seen.add(key);
        });
      return {
        name,
        items,
        rows: count === 'statement' ? 0 : Math.min(Number(count), items.length),
        composed: flag === 'composed',
      };
    });
}

function readWritten(text: string): Pattern {
  const blocks = text
    .replace(/^#.*\n/gm, '')
    .trim()
    .split(/\n\n+/);
  const items = blocks.map((block) => {
    const lines = block.split('\n').map(splitLine);
    if (lines.length !== 3) throw new Error(`written.txt: three lines expected in "${block}"`);
    return fill(
      Object.fromEntries(languages.map((language, index) => [language, lines[index]])) as Record<Language, Line>,
      {},
    );
  });
  return { name: WRITTEN, items, rows: items.length, composed: false };
}

interface Line {
  readonly instruction: string | undefined;
  readonly input: string | undefined;
  readonly output: string;
}

function splitLine(line: string): Line {
  const [question, answer] = line.split(' => ');
  if (answer === undefined) return { instruction: undefined, input: undefined, output: line };
  const [instruction, input] = (question as string).split(' << ');
  return { instruction, input, output: answer };
}

function fill(templates: Readonly<Record<Language, Line>>, binding: Binding): Item {
  const part = (name: keyof Line): Parallel | undefined => {
    if (templates.English[name] === undefined) return undefined;
    const write = (language: Language) => fillText(templates[language][name] ?? '', binding, language);
    return { English: write('English'), Nepali: write('Nepali'), Persian: write('Persian') };
  };
  const subject = binding['x']?.English ?? '';
  return { subject, instruction: part('instruction'), input: part('input'), output: part('output') as Parallel };
}

function fillText(template: string, binding: Binding, language: Language): string {
  const text = template.replace(/\{([a-z]+)(?::([a-z]+))?\}/g, (slot, name: string, form = '') => {
    const word = binding[name];
    if (word === undefined) throw new Error(`patterns.txt: nothing stands in the slot ${slot} of "${template}"`);
    return inflect(word, form, language);
  });
  // A list of words is no sentence and keeps its small letters.
  return language === 'English' && /[.?!]$/.test(text)
    ? text.replace(/(^|[.?!] )([a-z])/g, (_, before: string, letter: string) => before + letter.toUpperCase())
    : text;
}

/** The instruction with its input, as one passage. */
function asked(item: Item, language: Language): string {
  return [item.instruction?.[language], item.input?.[language]].filter(Boolean).join(' ') || item.output[language];
}

/**
 * English questions with their answers, statements in each language, and parallel lines of both. A hidden item gives its answer
 * alone, and only where the answer is a fact, which could not be known otherwise.
 */
function pretrainingText(patterns: readonly Pattern[], hidden: ReadonlySet<Item>): Record<string, string> {
  const files = {
    'questions.txt': [],
    'english.txt': [],
    'nepali.txt': [],
    'persian.txt': [],
    'parallel.txt': [],
  } as Record<string, string[]>;
  const draw = random('directions');
  for (const pattern of patterns) {
    const asks = pattern.items[0]?.instruction !== undefined;
    for (const item of pattern.items.slice(0, asks ? pattern.rows + EXTRA_ITEMS : STATEMENTS)) {
      if (!hidden.has(item) && asks) {
        files['questions.txt']?.push(`${asked(item, 'English')} ${item.output.English}`);
        for (const language of ['Nepali', 'Persian'] as const)
          files['parallel.txt']?.push(
            parallelLine(asked(item, language), asked(item, 'English'), language, draw() < 0.7),
          );
      }
      if (hidden.has(item) && pattern.composed) continue;
      files['english.txt']?.push(item.output.English);
      files['nepali.txt']?.push(item.output.Nepali);
      files['persian.txt']?.push(item.output.Persian);
      for (const language of ['Nepali', 'Persian'] as const)
        files['parallel.txt']?.push(parallelLine(item.output[language], item.output.English, language, draw() < 0.3));
    }
  }
  for (const passage of passages(patterns))
    for (const language of languages) files[`${language.toLowerCase()}.txt`]?.push(passage[language]);
  return Object.fromEntries(
    Object.entries(files).map(([name, lines]) => [name, `${shuffled([...new Set(lines)], name).join('\n')}\n`]),
  );
}

/** What the facts say of one thing, two to four sentences together. */
function passages(patterns: readonly Pattern[]): Parallel[] {
  const about = new Map<string, Item[]>();
  for (const name of FACTS)
    for (const item of patterns.find((pattern) => pattern.name === name)?.items ?? [])
      about.set(item.subject, [...(about.get(item.subject) ?? []), item]);
  return [...about].flatMap(([subject, items]) =>
    [1, 2, 3].flatMap((round) => {
      const chosen = shuffled(items, `${subject} ${round}`).slice(0, 4);
      if (chosen.length < 2) return [];
      const write = (language: Language) => chosen.map((item) => item.output[language]).join(' ');
      return [{ English: write('English'), Nepali: write('Nepali'), Persian: write('Persian') }];
    }),
  );
}

function parallelLine(text: string, english: string, language: Language, toEnglish: boolean): string {
  return toEnglish ? `${language}: ${text} | English: ${english}` : `English: ${english} | ${language}: ${text}`;
}
