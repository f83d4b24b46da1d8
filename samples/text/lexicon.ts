// SPDX-License-Identifier: Apache-2.0
// The words of the bundled text, read from lexicon.txt, and the forms a pattern may ask of them. Knows grammar only as far as
// the patterns need it; knows no pattern. Words are found by kind and English text; what is not there is an error.
import { readFileSync } from 'node:fs';

export const languages = ['English', 'Nepali', 'Persian'] as const;
export type Language = (typeof languages)[number];
/** The same text in every language. */
export type Parallel = Readonly<Record<Language, string>>;

export interface Word extends Parallel {
  readonly kind: string;
  readonly flags: ReadonlySet<string>;
  readonly relations: ReadonlyMap<string, string>;
}

/** A text file beside this source, whether it runs from dist/samples/text/ or from its own folder. */
export function readSource(name: string): string {
  return readFileSync(new URL(`../../../samples/text/${name}`, import.meta.url), 'utf8');
}

export class Lexicon {
  readonly words: readonly Word[];

  constructor(text: string) {
    const words: Word[] = [];
    let kind = '';
    for (const line of text.split('\n')) {
      if (line.startsWith('## ')) kind = line.slice(3);
      else if (line !== '' && !line.startsWith('#')) words.push(parseWord(line, kind));
    }
    this.words = words;
  }

  /** All words of some kinds, in the order of the file. */
  of(...kinds: string[]): Word[] {
    return this.words.filter((word) => kinds.includes(word.kind));
  }

  /** Words for which a relation is known. */
  having(relation: string): Word[] {
    return this.words.filter((word) => word.relations.has(relation));
  }

  flagged(flag: string): Word[] {
    return this.words.filter((word) => word.flags.has(flag));
  }

  /** The word of one of these kinds whose English is `english`. */
  find(english: string, kinds: readonly string[]): Word {
    const found = this.words.find((word) => word.English === english && kinds.includes(word.kind));
    if (found === undefined) throw new Error(`lexicon.txt has no "${english}" among: ${kinds.join(', ')}`);
    return found;
  }

  /** The word that `relation` of `word` names. */
  related(word: Word, relation: string, kinds: readonly string[]): Word {
    return this.find(word.relations.get(relation) ?? `(no ${relation} of ${word.English})`, kinds);
  }
}

function parseWord(line: string, kind: string): Word {
  const [English, Nepali, Persian, facts = ''] = line.split('|').map((column) => column.trim());
  if (!English || !Nepali || !Persian) throw new Error(`lexicon.txt: three columns expected in "${line}"`);
  const flags = new Set<string>();
  const relations = new Map<string, string>();
  for (const fact of facts.split(';').map((part) => part.trim())) {
    const colon = fact.indexOf(':');
    if (colon >= 0) relations.set(fact.slice(0, colon), fact.slice(colon + 1).trim());
    else if (fact !== '') flags.add(fact);
  }
  return { English, Nepali, Persian, kind, flags, relations };
}

/** A word made of others, such as a list. */
export function compose(write: (language: Language) => string): Word {
  const [English, Nepali, Persian] = languages.map(write) as [string, string, string];
  return { English, Nepali, Persian, kind: 'composed', flags: new Set(), relations: new Map() };
}

const bareKinds = new Set(['colour', 'number', 'country', 'capital', 'day', 'month', 'season', 'name']);

/**
 * A word in the form a slot asks for; without one it stands as in the lexicon. All: `a`, indefinite (a crow, एउटा काग, یک کلاغ).
 * English: `adjective` (a red), `the`, `your`, `plural`. Nepali: `is`, `isnt`, `wants`, `can`, `will` agree with the word as
 * their subject; `ask` turns a plural verb into the singular of a question; `object` and `stem` are the parts of an activity.
 * Persian: `ez` before an adjective or owner; `object`, `past`, `subjunctive`, `negative` of an activity.
 */
export function inflect(word: Word, form: string, language: Language): string {
  const text = word[language];
  if (form === '') return text;
  const inflected = { English: englishForm, Nepali: nepaliForm, Persian: persianForm }[language](word, text, form);
  if (inflected === undefined) throw new Error(`"${text}" has no form "${form}" in ${language}`);
  return inflected;
}

function englishForm(word: Word, text: string, form: string): string | undefined {
  const bare = word.flags.has('bare') || bareKinds.has(word.kind);
  switch (form) {
    case 'a':
      if (word.flags.has('the')) return `the ${text}`;
      if (bare || word.flags.has('mass')) return text;
      return `${/^[aeiou]/.test(text) ? 'an' : 'a'} ${text}`;
    case 'adjective':
      return `${/^[aeiou]/.test(text) ? 'an' : 'a'} ${text}`;
    case 'the':
      return bare ? text : `the ${text}`;
    case 'your':
      return bare ? text : `${word.kind === 'family' ? 'your' : 'the'} ${text}`;
    case 'plural':
      return word.relations.get('plural') ?? `${text}s`;
  }
  return undefined;
}

function nepaliForm(word: Word, text: string, form: string): string | undefined {
  const polite = word.flags.has('polite'); // high honorific
  const respected = word.kind === 'job' || word.kind === 'name'; // middle honorific
  const woman = word.flags.has('woman');
  switch (form) {
    case 'a':
      return word.flags.has('mass') || bareKinds.has(word.kind) ? text : `एउटा ${text}`;
    case 'is':
      return polite ? 'हुनुहुन्छ' : respected ? 'छन्' : 'छ';
    case 'isnt':
      return polite ? 'हुनुहुन्न' : respected ? 'छैनन्' : 'छैन';
    case 'wants':
      return woman ? 'चाहन्छिन्' : 'चाहन्छन्';
    case 'can':
      return woman ? 'सक्छिन्' : 'सक्छन्';
    case 'will':
      return woman ? 'छिन्' : 'छन्';
    case 'ask':
      return text.replace(/छन्$/, 'छ');
    case 'object':
      return text.split(' + ')[0];
    case 'stem':
      return text.split(' + ')[1];
  }
  return undefined;
}

function persianForm(word: Word, text: string, form: string): string | undefined {
  const verb = text.split(' + ')[1]?.split('، ');
  switch (form) {
    case 'a':
      return word.flags.has('mass') || bareKinds.has(word.kind) ? text : `یک ${text}`;
    case 'ez':
      if (word.flags.has('silent-h')) return `${text}\u200cی`;
      return word.flags.has('ye') ? `${text}ی` : text;
    case 'object':
      return text.split(' + ')[0];
    case 'past':
      return verb?.[0];
    case 'subjunctive':
      return verb?.[1];
    case 'negative':
      return verb?.[2];
  }
  return undefined;
}
