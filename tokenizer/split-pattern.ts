// SPDX-License-Identifier: Apache-2.0
// The patterns that `tokenizer.json` splits text with, and a matcher for them. They are written for Oniguruma; what they use of
// it is small (classes, greedy and possessive quantifiers, alternatives, one-character look-aheads), and the rest is refused: a
// pattern that was almost right would give wrong ids silently. Not JavaScript's own engine, since that has other white space,
// no `(?i:` in Node 20, and a stack that runs out on a run of some million characters; here stepping back is counting.
import { UserError } from '../errors.js';

/** The split that a ByteLevel pre-tokenizer makes itself when `use_regex` is set (GPT-2's). */
export const byteLevelPattern = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** Groups within groups, at most. */
const maxDepth = 16;

/** From a place in the text to where the rest of the pattern ends, or −1. */
type Matcher = (at: number) => number;

export class SplitPattern {
  // The text being matched: `units[0…end)`.
  #units: Uint16Array = new Uint16Array(0);
  #end = 0;
  readonly #match: Matcher;

  /** @throws UserError naming the first part of `source` that is not understood exactly. */
  constructor(
    readonly source: string,
    where: string,
  ) {
    const parser = new Parser(source, where);
    this.#match = this.#alternatives(parser.alternatives(false), (at) => at);
    parser.expectEnd();
  }

  /** A pattern for the characters of `text`, one after the other. */
  static literal(text: string, where: string): SplitPattern {
    return new SplitPattern(text.replace(/[^a-zA-Z0-9 ]/gu, '\\$&'), where);
  }

  /** Where a match that begins exactly at `at` ends in `units[0…end)`; −1 without one. `units` has no lone surrogates. */
  matchAt(units: Uint16Array, at: number, end: number): number {
    this.#units = units;
    this.#end = end;
    return this.#match(at);
  }

  #alternatives(alternatives: readonly Item[][], next: Matcher): Matcher {
    const matchers = alternatives.map((items) => items.reduceRight((rest, item) => this.#item(item, rest), next));
    if (matchers.length === 1) return matchers[0]!;
    return (at) => {
      for (const matcher of matchers) {
        const end = matcher(at);
        if (end >= 0) return end;
      }
      return -1;
    };
  }

  #item(item: Item, next: Matcher): Matcher {
    if (item.kind === 'characters') return this.#characters(item, next);
    if (item.kind === 'lookahead') {
      return (at) => ((at < this.#end && item.set.has(this.#codePointAt(at))) === item.positive ? next(at) : -1);
    }
    const group = this.#alternatives(item.alternatives, next);
    if (!item.optional) return group;
    return (at) => {
      const end = group(at);
      return end >= 0 ? end : next(at);
    };
  }

  #characters({ set, least, most, possessive }: Characters, next: Matcher): Matcher {
    return (start) => {
      let at = start;
      let count = 0;
      while (count < most && at < this.#end) {
        const codePoint = this.#codePointAt(at);
        if (!set.has(codePoint)) break;
        at += codePoint > 0xffff ? 2 : 1;
        count++;
      }
      for (; count >= least; count--) {
        const end = next(at);
        if (end >= 0 || possessive) return end;
        at -= at - 2 >= start && (this.#units[at - 1]! & 0xfc00) === 0xdc00 ? 2 : 1;
      }
      return -1;
    };
  }

  #codePointAt(at: number): number {
    const unit = this.#units[at]!;
    return (unit & 0xfc00) === 0xd800 ? 0x10000 + ((unit - 0xd800) << 10) + (this.#units[at + 1]! - 0xdc00) : unit;
  }
}

type Item = Characters | Group | Lookahead;
interface Characters {
  kind: 'characters';
  set: CharacterSet;
  least: number;
  most: number;
  possessive: boolean;
}
interface Group {
  kind: 'group';
  alternatives: Item[][];
  optional: boolean;
}
interface Lookahead {
  kind: 'lookahead';
  set: CharacterSet;
  positive: boolean;
}

/** A set of characters, by a JavaScript class. Asks the class once for each character and keeps the answers. */
class CharacterSet {
  readonly #class: RegExp;
  readonly #basic = new Uint8Array(0x10000); // 0 not asked, 1 in the set, 2 outside
  readonly #others = new Map<number, boolean>();

  constructor(source: string, anyCase: boolean) {
    this.#class = new RegExp(`^${source}$`, anyCase ? 'iu' : 'u');
  }

  has(codePoint: number): boolean {
    if (codePoint < 0x10000) {
      const known = this.#basic[codePoint]!;
      if (known !== 0) return known === 1;
    } else {
      const known = this.#others.get(codePoint);
      if (known !== undefined) return known;
    }
    const answer = this.#class.test(String.fromCodePoint(codePoint));
    if (codePoint < 0x10000) this.#basic[codePoint] = answer ? 1 : 2;
    else this.#others.set(codePoint, answer);
    return answer;
  }
}

/** Recursive descent over the pattern's text. */
class Parser {
  #rest: string;
  #depth = 0;
  readonly #sets = new Map<string, CharacterSet>();

  constructor(
    readonly source: string,
    readonly where: string,
  ) {
    this.#rest = source;
  }

  alternatives(anyCase: boolean): Item[][] {
    const alternatives: Item[][] = [[]];
    while (this.#rest !== '' && !this.#rest.startsWith(')')) {
      if (this.#take(/^\|/)) alternatives.push([]);
      else alternatives.at(-1)!.push(this.#item(anyCase));
    }
    return alternatives;
  }

  expectEnd(): void {
    if (this.#rest !== '') this.#refuse(this.#rest);
  }

  #item(anyCase: boolean): Item {
    const look = this.#take(/^\(\?[!=]/);
    if (look) {
      const set = this.#set(anyCase);
      if (!this.#take(/^\)/)) this.#refuse(look + this.#rest);
      return { kind: 'lookahead', set, positive: look === '(?=' };
    }
    const open = this.#take(/^\((?:\?i?:)?(?!\?)/);
    if (open) {
      if (++this.#depth > maxDepth) this.#refuse(open);
      const alternatives = this.alternatives(anyCase || open === '(?i:');
      this.#depth--;
      if (!this.#take(/^\)/)) this.#refuse(open + this.#rest);
      const quantifier = this.#quantifier();
      const { least, most, possessive } = quantifier;
      if (most !== 1 || possessive) this.#refuse(`${open}…)${quantifier.text}`);
      return { kind: 'group', alternatives, optional: least === 0 };
    }
    const set = this.#set(anyCase);
    return { kind: 'characters', set, ...this.#quantifier() };
  }

  /** One character or class. */
  #set(anyCase: boolean): CharacterSet {
    const source =
      this.#take(/^\[\^?(?:\\[pP]\{\w+\}|\\.|[^\\[\]&])+\]/) ??
      this.#take(/^(?:\\[pP]\{\w+\}|\\.|[^\\()[\]{}|?*+^$.])/u);
    // Beyond ASCII, folding differs between engines.
    if (source === undefined || (anyCase && !/^(?:['a-zA-Z ]|\[[a-zA-Z]+\])$/.test(source)))
      return this.#refuse(source ?? this.#rest);
    const inClass = source.startsWith('[');
    const translated = source
      .replace(/\\[pP]\{\w+\}|\\./gu, (sequence) => this.#escape(sequence))
      .replace(inClass ? /^$/ : /^[/-]$/, '\\$&');
    const key = `${anyCase}${translated}`;
    const known = this.#sets.get(key);
    if (known) return known;
    try {
      const set = new CharacterSet(translated, anyCase);
      this.#sets.set(key, set);
      return set;
    } catch {
      return this.#refuse(source);
    }
  }

  #escape(sequence: string): string {
    if (/^\\[pP]\{/.test(sequence)) return /\{[LMNPSZC][a-z]?\}$/.test(sequence) ? sequence : this.#refuse(sequence);
    const character = sequence.slice(1);
    // Unicode's White_Space; JavaScript's \s has U+FEFF besides and lacks U+0085.
    if (character === 's') return '\\p{White_Space}';
    if (character === 'S') return '\\P{White_Space}';
    if (character === 'd') return '\\p{Nd}';
    if ('rnt'.includes(character)) return sequence;
    if (/[a-zA-Z0-9]/.test(character)) return this.#refuse(sequence);
    return /[\^$\\.*+?()[\]{}|/-]/.test(character) ? sequence : character;
  }

  #quantifier(): Pick<Characters, 'least' | 'most' | 'possessive'> & { text: string } {
    const text = this.#take(/^(?:[?*+]\+?|\{\d+(?:,\d*)?\})/) ?? '';
    if (/^[?*+{]/.test(this.#rest)) this.#refuse(text + this.#rest[0]); // lazy, or repeated
    const possessive = text.length === 2;
    if (text.startsWith('{')) {
      const [least, most] = text.slice(1, -1).split(',');
      return {
        text,
        least: Number(least),
        most: most === undefined ? Number(least) : Number(most || Infinity),
        possessive: false,
      };
    }
    const repeats = text.startsWith('*') || text.startsWith('+');
    return { text, least: text === '' || text.startsWith('+') ? 1 : 0, most: repeats ? Infinity : 1, possessive };
  }

  #take(pattern: RegExp): string | undefined {
    const taken = pattern.exec(this.#rest)?.[0];
    if (taken !== undefined) this.#rest = this.#rest.slice(taken.length);
    return taken;
  }

  #refuse(part: string): never {
    throw new UserError({
      expected: 'a split pattern of classes, alternatives, simple look-aheads and greedy quantifiers',
      found: `'${part.slice(0, 60)}' in '${this.source.slice(0, 300)}'`,
      where: this.where,
      remedy: 'Please report this tokenizer; use the model’s tokenizer.model if it has one.',
    });
  }
}
