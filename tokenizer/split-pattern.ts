// SPDX-License-Identifier: Apache-2.0
// The regular expressions that `tokenizer.json` splits text with, in JavaScript's dialect. They are written for Oniguruma;
// translated is what means the same in both, with the differences spelled out, and the rest is refused: a pattern that was
// almost right would give wrong ids silently.
import { UserError } from '../errors.js';

/** The split that a ByteLevel pre-tokenizer makes itself when `use_regex` is set (GPT-2's). */
export const byteLevelPattern = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/**
 * `source` as a sticky JavaScript expression.
 * @throws UserError naming the first part that has no exact counterpart.
 */
export function splitPattern(source: string, where: string): RegExp {
  const refuse = (part: string): never => {
    throw new UserError({
      expected: 'a split pattern of literals, classes, groups, look-aheads and greedy quantifiers',
      found: `'${part}' in '${source}'`,
      where,
      remedy: 'Only such patterns are known to mean the same in JavaScript. Please report this tokenizer.',
    });
  };
  let pattern = '';
  let rest = source;
  let inClass = false;
  while (rest !== '') {
    const part = /^(?:\(\?i:[^()]*\)|\(\?[!=:]|\\[pP]\{[^}]*\}|\\.|\{\d+(?:,\d*)?\}|[\s\S])/u.exec(rest)![0];
    rest = rest.slice(part.length);
    if (part.startsWith('(?i:')) pattern += anyCase(part.slice(4, -1)) ?? refuse(part);
    else if (/^\\[pP]\{/.test(part)) pattern += /^\\.\{[LMNPSZC][a-z]?\}$/.test(part) ? part : refuse(part);
    else if (part.startsWith('\\')) pattern += escaped(part) ?? refuse(part);
    else if (inClass && (part === '[' || part.startsWith('(?') || part === '&')) refuse(part);
    else if (!inClass && /^[\^$]$/.test(part)) refuse(part);
    else if (!inClass && /^[?*+]$|^\{/.test(part) && /^[+?*{]/.test(rest))
      refuse(part + rest[0]); // possessive, lazy, repeated
    else pattern += part;
    if (part === '[') inClass = true;
    else if (part === ']') inClass = false;
  }
  try {
    return new RegExp(pattern, 'uy');
  } catch {
    return refuse(source);
  }
}

/** Alternatives of plain characters, each letter as a class of its cases. Node 20 has no `(?i:`. */
function anyCase(alternatives: string): string | undefined {
  if (!/^['’a-zA-Z|]*$/.test(alternatives)) return undefined;
  const classes = alternatives.replace(/[a-zA-Z]/g, (letter) => {
    const lower = letter.toLowerCase();
    // ſ and the Kelvin sign are the only other characters that fold to an ASCII letter.
    return `[${lower}${lower.toUpperCase()}${lower === 's' ? '\u017f' : lower === 'k' ? '\u212a' : ''}]`;
  });
  return `(?:${classes})`;
}

function escaped(part: string): string | undefined {
  const character = part.slice(1);
  // \s is Unicode's White_Space there; JavaScript's has U+FEFF besides and lacks U+0085.
  if (character === 's') return '\\p{White_Space}';
  if (character === 'S') return '\\P{White_Space}';
  if (character === 'd') return '\\p{Nd}';
  if ('rnt'.includes(character)) return part;
  if (/[a-zA-Z0-9]/.test(character)) return undefined;
  return /[\^$\\.*+?()[\]{}|/-]/.test(character) ? part : character;
}
