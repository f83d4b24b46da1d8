// SPDX-License-Identifier: Apache-2.0
// Which scripts a text is written in, letter by letter. Code, links and markup are not counted: they are Latin in any language.
// Knows nothing of languages but the scripts it is asked for.

/** Scripts that have letters of their own in a table; a letter of any other script is "other". */
const SCRIPTS = [
  'Latn',
  'Arab',
  'Armn',
  'Beng',
  'Cyrl',
  'Deva',
  'Ethi',
  'Geor',
  'Grek',
  'Gujr',
  'Guru',
  'Hang',
  'Hani',
  'Hebr',
  'Hira',
  'Kana',
  'Khmr',
  'Knda',
  'Laoo',
  'Mlym',
  'Mtei',
  'Mymr',
  'Orya',
  'Sinh',
  'Taml',
  'Telu',
  'Thaa',
  'Thai',
  'Tibt',
] as const;

const NO_LETTER = 0;
const OTHER = 255;
/** The planes that scripts in use are in. */
const CODE_POINTS = 0x30000;

let table: Uint8Array | undefined;

/** For each code point which script its letter is of, as an index into SCRIPTS plus one. */
function letters(): Uint8Array {
  if (table) return table;
  table = new Uint8Array(CODE_POINTS);
  const chunks: string[] = [];
  for (let start = 0; start < CODE_POINTS; start += 0x4000) {
    const points = Array.from({ length: 0x4000 }, (_, i) => (isSurrogate(start + i) ? 0x20 : start + i));
    chunks.push(String.fromCodePoint(...points));
  }
  const mark = (pattern: string, value: number) => {
    for (const [c, chunk] of chunks.entries()) {
      let at = c * 0x4000;
      let from = 0;
      for (const match of chunk.matchAll(new RegExp(pattern, 'gu'))) {
        for (const _ of chunk.slice(from, match.index)) at++;
        for (const _ of match[0]) table![at++] = value;
        from = match.index + match[0].length;
      }
    }
  };
  mark('\\p{L}+', OTHER);
  for (const [i, script] of SCRIPTS.entries()) mark(`(?:(?=\\p{L})\\p{Script=${script}})+`, i + 1);
  return table;
}

const isSurrogate = (point: number) => point >= 0xd800 && point < 0xe000;

/** Fenced and inline code, links, addresses, HTML tags. */
const NO_PROSE = /```[\s\S]*?(?:```|$)|`[^`\n]*`|https?:\/\/\S+|\S+@\S+\.\S+|<\/?[a-zA-Z][^<>]*>/g;

/** Text without what is not prose. */
export const proseOf = (text: string) => text.replace(NO_PROSE, ' ');

export interface ScriptShares {
  letters: number;
  /** Of the letters, in the scripts asked for. */
  own: number;
  /** Of the letters, Latin ones; 0 where Latin was asked for. */
  latin: number;
}

/** @param scripts ISO 15924 codes */
export function scriptShares(text: string, scripts: readonly string[]): ScriptShares {
  const of = letters();
  const isOwn = new Uint8Array(256);
  for (const script of scripts) {
    const index = (SCRIPTS as readonly string[]).indexOf(script);
    isOwn[index < 0 ? OTHER : index + 1] = 1;
  }
  const counts = { letters: 0, own: 0, latin: 0 };
  for (let i = 0; i < text.length; i++) {
    const point = text.codePointAt(i)!;
    if (point > 0xffff) i++;
    const script = of[point] ?? NO_LETTER;
    if (script === NO_LETTER) continue;
    counts.letters++;
    if (isOwn[script] === 1) counts.own++;
    else if (script === 1) counts.latin++;
  }
  const share = (count: number) => (counts.letters === 0 ? 0 : count / counts.letters);
  return { letters: counts.letters, own: share(counts.own), latin: share(counts.latin) };
}
