// SPDX-License-Identifier: Apache-2.0
// English that was left in a text of another language. By the words that English cannot do without and other languages do not
// share; translated text holds names and terms in Latin letters, which are no English sentence.
import { proseOf } from './script-shares.js';

const WORDS = new Set(
  (
    'the of and that this with which you your from are have their they would there been should these those because ' +
    'through about between other into what when where who how it is to'
  ).split(' '),
);
/** Words that other languages have as well: they count in company alone. */
const SHARED = new Set(['is', 'to', 'it', 'have', 'of', 'and', 'are', 'into', 'how', 'who', 'about', 'other']);

/** In running English every third word is one of these; in text that is not, hardly one in fifty. */
const MIN_SHARE = 0.12;
const MIN_WORDS = 4;
/** In a text of another script, a run of Latin words this long that holds two of these. */
const MIN_RUN = 6;

/** The English in a text, as far as it is English; undefined where there is none to speak of. */
export function residualEnglish(text: string, latinScript: boolean): string | undefined {
  const prose = proseOf(text);
  if (!latinScript) {
    for (const [run] of prose.matchAll(/[A-Za-z'’]+(?:[\s,;:.!?()"“”–-]+[A-Za-z'’]+)+/g)) {
      const words = run.toLowerCase().match(/[a-z'’]+/g) ?? [];
      if (words.length >= MIN_RUN && words.filter((word) => WORDS.has(word)).length >= 2) return run;
    }
    return undefined;
  }
  const words = prose.toLowerCase().match(/\p{L}+/gu) ?? [];
  const english = words.filter((word) => WORDS.has(word));
  const telling = english.filter((word) => !SHARED.has(word)).length;
  return telling >= MIN_WORDS && english.length >= MIN_SHARE * words.length ? prose.trim() : undefined;
}
