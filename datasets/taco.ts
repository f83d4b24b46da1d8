// SPDX-License-Identifier: Apache-2.0
// The TaCo chain as text: a composer and its inverse. A chain is the instruction in English, the response in English and the
// answer in the row's own language, each behind its label. One table of anchors per format serves both directions, so they
// cannot drift apart. Knows nothing of prompts, rows or tokens. The parser never invents: a part whose label or text is not
// there is named as missing.

/** The three parts of a chain, in their order. */
export interface TacoChain {
  /** The instruction in English. */
  instruction: string;
  /** The response in English. */
  response: string;
  /** The final answer, in the language of the row. */
  answer: string;
}

export type TacoPart = keyof TacoChain;

/**
 * `released` is byte for byte what the authors' adapters were trained to write: a Python f-string with its source
 * indentation left in, and a full stop after whatever the English parts end with. `clean` has each part on a line of its own.
 */
export const TACO_FORMATS = ['released', 'clean'] as const;
export type TacoFormat = (typeof TACO_FORMATS)[number];

/** A piece of a composed chain: the text of a part, or what stands before it. */
export interface TacoPiece {
  text: string;
  part: TacoPart | 'label';
}

export type TacoParse =
  | { complete: true; format: TacoFormat | 'loose'; language: string; chain: TacoChain }
  | { complete: false; missing: TacoPart[]; found: Partial<TacoChain> };

const PARTS = ['instruction', 'response', 'answer'] as const;

/** The labels; in every format they are what a reader can rely on. */
const labels = (language: string) =>
  ['Instruction in English:', 'Response in English:', `Response in ${language}:`] as const;

type Anchors = readonly [string, string, string];

/** What stands before each part, in each format. */
const ANCHORS: Record<TacoFormat, (language: string) => Anchors> = {
  released: (language) => {
    const indent = ' '.repeat(24);
    const [first, second, third] = labels(language);
    return [`${first}  `, `.\n${indent}${second} `, `. \n${indent}${third} `];
  },
  clean: (language) => {
    const [first, second, third] = labels(language);
    return [`${first} `, `\n${second} `, `\n${third} `];
  },
};

/** A chain as pieces, so that a loss mask can tell the parts from the labels. Joined, they are the text. */
export function tacoPieces(chain: TacoChain, language: string, format: TacoFormat): TacoPiece[] {
  const anchors = ANCHORS[format](language);
  return PARTS.flatMap((part, i) => [
    { text: anchors[i]!, part: 'label' as const },
    { text: chain[part], part },
  ]);
}

/** A chain as text. `language` is the English name, as in the label: `Nepali`. */
export function composeTaco(chain: TacoChain, language: string, format: TacoFormat): string {
  return tacoPieces(chain, language, format)
    .map((piece) => piece.text)
    .join('');
}

/** Whether a text begins as a chain does, whole or not. */
export function beginsTacoChain(text: string): boolean {
  return text.trimStart().startsWith(labels('')[0]);
}

/** Whether a text holds one of the chain's labels; composed into a chain it could not be told from the chain's own. */
export function holdsTacoLabel(text: string, language: string): boolean {
  return labels(language).some((label) => text.includes(label));
}

/**
 * The parts of a chain. Text in exactly one of the two formats gives its parts verbatim, so that composing them again gives
 * the same bytes. Anything else is read by its labels alone, whatever the punctuation and spacing around them, and its parts
 * are trimmed. Without `language` the third label is the first `Response in …:` after the second that is not English.
 */
export function parseTaco(text: string, language?: string): TacoParse {
  const name = language ?? languageOf(text);
  if (name !== undefined) {
    for (const format of TACO_FORMATS) {
      const parts = splitAt(text, ANCHORS[format](name));
      if (parts?.every((part) => part.trim() !== '')) {
        return {
          complete: true,
          format,
          language: name,
          chain: { instruction: parts[0], response: parts[1], answer: parts[2] },
        };
      }
    }
  }
  return parseLoosely(text, name);
}

/** The texts after each anchor, where the text begins with the first and the others follow in order. */
function splitAt(text: string, [first, second, third]: Anchors): [string, string, string] | undefined {
  if (!text.startsWith(first)) return undefined;
  const secondAt = text.indexOf(second, first.length);
  if (secondAt < 0) return undefined;
  const thirdAt = text.indexOf(third, secondAt + second.length);
  if (thirdAt < 0) return undefined;
  return [
    text.slice(first.length, secondAt),
    text.slice(secondAt + second.length, thirdAt),
    text.slice(thirdAt + third.length),
  ];
}

function parseLoosely(text: string, language: string | undefined): TacoParse {
  const names = language === undefined ? labels('').slice(0, 2) : labels(language);
  const starts: { part: TacoPart; labelAt: number; textAt: number }[] = [];
  let from = 0;
  for (const [i, label] of names.entries()) {
    const labelAt = text.indexOf(label, from);
    if (labelAt < 0) continue;
    from = labelAt + label.length;
    starts.push({ part: PARTS[i]!, labelAt, textAt: from });
  }
  const found: Partial<TacoChain> = {};
  for (const [i, { part, textAt }] of starts.entries()) {
    const content = text.slice(textAt, starts[i + 1]?.labelAt).trim();
    if (content !== '') found[part] = content;
  }
  const { instruction, response, answer } = found;
  if (language !== undefined && instruction !== undefined && response !== undefined && answer !== undefined) {
    return { complete: true, format: 'loose', language, chain: { instruction, response, answer } };
  }
  return { complete: false, missing: PARTS.filter((part) => found[part] === undefined), found };
}

/** The language that the third label names. */
function languageOf(text: string): string | undefined {
  const second = labels('')[1];
  const from = text.indexOf(second);
  for (const match of text.slice(from < 0 ? 0 : from + second.length).matchAll(/Response in ([^:\n]{1,60}):/g)) {
    if (match[1] !== 'English') return match[1];
  }
  return undefined;
}
