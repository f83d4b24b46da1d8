// SPDX-License-Identifier: Apache-2.0
// Who may stand in the slots of a pattern: a domain lists every binding of slot names to words, in a fixed order. Here lies what
// is true in the little world of the lexicon (a crow is black) and what makes a question sensible (nobody asks if a crow is a
// bird or an animal). Knows no language: forms and sentences are the patterns' business.
import { compose, type Lexicon, type Word } from './lexicon.js';

export type Binding = Readonly<Record<string, Word>>;
export type Domain = (lexicon: Lexicon) => Binding[];

const creatures = ['animal', 'bird', 'insect'];
const plants = ['fruit', 'vegetable'];
const substances = ['food', 'drink', 'nature', 'material', 'fruit', 'animal'];

/** One draw per caller, the same every time: pairs are thinned and options are ordered by it. */
export function random(seed: string): () => number {
  let state = 2166136261;
  for (const letter of seed) state = Math.imul(state ^ letter.charCodeAt(0), 16777619);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t ^= t + Math.imul(t ^ (t >>> 7), 61 | t);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A new array in an order that depends on the seed alone. */
export function shuffled<T>(items: readonly T[], seed: string): T[] {
  const draw = random(seed);
  const result = [...items];
  for (let last = result.length - 1; last > 0; last--) {
    const other = Math.floor(draw() * (last + 1));
    [result[last], result[other]] = [result[other] as T, result[last] as T];
  }
  return result;
}

/** Relation of each word that has it, as bindings {x, [name]}. */
function facts(relation: string, name: string, kinds: readonly string[]): Domain {
  return (lexicon) => lexicon.having(relation).map((x) => ({ x, [name]: lexicon.related(x, relation, kinds) }));
}

function pairs<A, B>(first: readonly A[], second: readonly B[]): [A, B][] {
  return first.flatMap((a) => second.map((b): [A, B] => [a, b]));
}

/** Neighbours in a row of words, closed to a ring or not. */
function neighbours(kind: string, ring: boolean): Domain {
  return (lexicon) => {
    const words = lexicon.of(kind);
    const last = ring ? words.length : words.length - 1;
    return words.slice(0, last).map((a, index) => ({ a, b: words[(index + 1) % words.length] as Word }));
  };
}

function numbers(lexicon: Lexicon): Word[] {
  return lexicon.of('number');
}

function number(lexicon: Lexicon, value: number): Word {
  return numbers(lexicon)[value - 1] as Word;
}

/** "a, b and c" in each language. */
function enumeration(words: readonly Word[]): Word {
  const and = { English: ' and ', Nepali: ' र ', Persian: ' و ' };
  const comma = { English: ', ', Nepali: ', ', Persian: '، ' };
  return compose((language) => {
    const texts = words.map((word) => word[language]);
    return texts.slice(0, -1).join(comma[language]) + and[language] + texts.at(-1);
  });
}

function sequence(words: readonly Word[]): Word {
  return compose((language) => words.map((word) => word[language]).join(language === 'Persian' ? '، ' : ', '));
}

/** Colours that a thing plainly has not: nobody disputes that an apple is not blue. */
function wrongColours(lexicon: Lexicon): Binding[] {
  return facts('colour', 'c', ['colour'])(lexicon)
    .filter(({ x }) => !x?.flags.has('the'))
    .flatMap(({ x, c }) =>
      lexicon
        .of('colour')
        .filter((w) => ['blue', 'pink'].includes(w.English) && w !== c)
        .map((w) => ({ x: x as Word, c: c as Word, w })),
    );
}

/** Things of which the lexicon says what they are, with the name of their kind. */
function kinds(lexicon: Lexicon): { x: Word; k: Word }[] {
  const countable = lexicon.of(...creatures, ...plants, 'colour', 'country');
  return [...countable, ...numbers(lexicon).slice(0, 12)].map((x) => ({ x, k: lexicon.find(x.kind, ['kind']) }));
}

/** Kinds that exclude each other without a doubt (a tomato may be called a fruit, a bird an animal). */
function excludes(kind: string, other: string): boolean {
  const group = (name: string) => (creatures.includes(name) ? 'creature' : plants.includes(name) ? 'plant' : name);
  return group(kind) !== group(other);
}

function described(lexicon: Lexicon, kindsOfNoun: readonly string[]): { x: Word; q: Word }[] {
  const subjects: Record<string, string[]> = {
    animal: creatures,
    thing: ['thing', 'clothing'],
    place: ['place'],
    person: ['family', 'job'],
  };
  return kindsOfNoun.flatMap((group) =>
    pairs(
      lexicon.of(...(subjects[group] ?? [])).filter((x) => isSubject(x)),
      lexicon.of('quality').filter((q) => q.flags.has(group)),
    ).map(([x, q]) => ({ x, q })),
  );
}

/** English needs a possessive before most words of family; those that stand alone, and the child, need none. */
function isSubject(word: Word): boolean {
  return word.kind !== 'family' || word.flags.has('bare') || word.English === 'child';
}

function movable(lexicon: Lexicon): Word[] {
  return lexicon
    .of('thing', 'clothing')
    .filter((x) => !['window', 'bed', 'car', 'bus', 'bicycle', 'table'].includes(x.English));
}

function located(lexicon: Lexicon): { x: Word; p: Word }[] {
  const places = lexicon.of('place');
  const rooms = places.filter((p) =>
    ['house', 'school', 'shop', 'kitchen', 'room', 'office', 'hotel', 'library'].includes(p.English),
  );
  return [
    ...pairs(lexicon.of('family', 'job').filter(isSubject), places),
    ...pairs(
      lexicon.of('animal', 'bird').filter((x) => x.English !== 'fish'),
      places.filter((p) => ['house', 'garden', 'field', 'park', 'village', 'forest'].includes(p.English)),
    ).filter(([x, p]) => (x.relations.get('home') === 'in a forest') === (p.English === 'forest')),
    ...pairs(movable(lexicon), rooms),
  ].map(([x, p]) => ({ x, p }));
}

/** Two bindings of a domain that share no word, the question being about the first or the second: thinned to `count`. */
function combined<T extends object>(
  items: readonly T[],
  count: number,
  seed: string,
  apart: (a: T, b: T) => boolean,
): [T, T][] {
  const draw = random(seed);
  const result: [T, T][] = [];
  for (let tries = 0; result.length < count && tries < count * 20; tries++) {
    const a = items[Math.floor(draw() * items.length)] as T;
    const b = items[Math.floor(draw() * items.length)] as T;
    if (apart(a, b)) result.push([a, b]);
  }
  return result;
}

function sized(lexicon: Lexicon): Binding[] {
  const size = (word: Word) => Number(word.relations.get('size'));
  const draw = random('sizes');
  return pairs(lexicon.having('size'), lexicon.having('size'))
    .filter(([x, y]) => size(x) >= size(y) + 2)
    .map(([x, y]) => (draw() < 0.5 ? { x, y, a: x, b: y } : { x, y, a: y, b: x }));
}

function withVerb(lexicon: Lexicon): { x: Word; v: Word }[] {
  return pairs(lexicon.of('name'), lexicon.of('activity')).map(([x, v]) => ({ x, v }));
}

export const domains: Readonly<Record<string, Domain>> = {
  coloured: facts('colour', 'c', ['colour']),
  'coloured-wrong': wrongColours,
  homes: facts('home', 'h', ['home']),
  eaters: facts('eats', 'f', substances),
  'eaters-wrong': (lexicon) =>
    facts(
      'eats',
      'f',
      substances,
    )(lexicon).flatMap((binding) =>
      ['coal', 'iron', 'glass', 'paper', ...(binding['x']?.flags.has('grazes') ? ['meat'] : [])].map((english) => ({
        ...binding,
        w: lexicon.find(english, substances),
      })),
    ),
  sounds: facts('says', 's', ['sound']),
  'animal-sounds': (lexicon) => facts('says', 's', ['sound'])(lexicon).filter(({ x }) => x?.kind === 'animal'),
  legs: facts('legs', 'n', ['number']),
  fliers: (lexicon) => lexicon.flagged('flies').map((x) => ({ x })),
  walkers: (lexicon) => lexicon.of('animal').map((x) => ({ x })),
  creatures: (lexicon) => lexicon.of(...creatures).map((x) => ({ x })),
  sizes: sized,
  kinds,
  'kinds-wrong': (lexicon) =>
    pairs(kinds(lexicon), lexicon.of('kind'))
      .filter(([{ k }, w]) => excludes(k.English, w.English))
      .map(([binding, w]) => ({ ...binding, w })),
  'odd-kinds': (lexicon) => {
    const options = [...kinds(lexicon), ...movable(lexicon).map((x) => ({ x, k: x }))];
    const draw = random('odd-kinds');
    return kinds(lexicon)
      .filter(({ k }) => [...creatures, ...plants].includes(k.English))
      .flatMap(({ x, k }) =>
        Array.from({ length: 6 }, (_, round) => {
          const others = shuffled(options, `${x.English} ${round}`).filter((other) =>
            excludes(k.English, other.k.kind === 'kind' ? other.k.English : 'thing'),
          );
          const list = [(others[0] as Binding)['x'] as Word, (others[1] as Binding)['x'] as Word];
          list.splice(Math.floor(draw() * 3), 0, x);
          const [a, b, c] = list as [Word, Word, Word];
          return { x, k, a, b, c };
        }),
      );
  },
  'kind-lists': (lexicon) =>
    pairs(lexicon.of('kind'), [2, 3, 4, 5])
      .filter(([k, count]) => lexicon.of(k.English).length >= count)
      .map(([k, count]) => ({
        k,
        n: number(lexicon, count),
        list: enumeration(lexicon.of(k.English).slice(0, count)),
      })),
  opposites: facts('opposite', 'y', ['quality']),
  sums: (lexicon) => {
    const small = Array.from({ length: 12 }, (_, index) => index + 1);
    return pairs(small, small)
      .filter(([a, b]) => a + b <= 20)
      .map(([a, b]) => ({ a: number(lexicon, a), b: number(lexicon, b), n: number(lexicon, a + b) }));
  },
  differences: (lexicon) => {
    const values = Array.from({ length: 20 }, (_, index) => index + 1);
    return pairs(values, values)
      .filter(([a, b]) => a > b && b <= 12 && a - b <= 12)
      .map(([a, b]) => ({ a: number(lexicon, a), b: number(lexicon, b), n: number(lexicon, a - b) }));
  },
  'small-sums': (lexicon) => {
    const values = [2, 3, 4, 5, 6];
    const things = [...lexicon.of('fruit'), ...movable(lexicon)].filter((x) => !x.flags.has('mass'));
    return pairs(things, pairs(values, values)).map(([x, [a, b]]) => ({
      x,
      a: number(lexicon, a),
      b: number(lexicon, b),
      n: number(lexicon, a + b),
    }));
  },
  successors: neighbours('number', false),
  'number-pairs': (lexicon) => {
    const draw = random('number-pairs');
    const all = numbers(lexicon);
    return pairs(all, all)
      .filter(([x, y]) => all.indexOf(x) > all.indexOf(y))
      .map(([x, y]) => (draw() < 0.5 ? { x, y, a: x, b: y } : { x, y, a: y, b: x }));
  },
  ranges: (lexicon) => {
    const all = numbers(lexicon);
    return pairs(
      all.map((_, index) => index),
      [3, 4, 5, 6, 7],
    )
      .filter(([start, length]) => start + length <= all.length)
      .map(([start, length]) => {
        const list = all.slice(start, start + length);
        return { a: list[0] as Word, b: list.at(-1) as Word, list: sequence(list) };
      });
  },
  repeats: (lexicon) =>
    pairs(lexicon.of(...creatures, ...plants, 'thing', 'colour', 'place'), [3, 4, 5]).map(([x, count]) => ({
      x,
      n: number(lexicon, count),
      list: sequence(Array.from({ length: count }, () => x)),
    })),
  days: neighbours('day', true),
  months: neighbours('month', true),
  seasons: neighbours('season', true),
  capitals: facts('capital', 'c', ['capital']),
  jobs: (lexicon) => lexicon.of('job').map((x) => ({ x, d: lexicon.related(x, 'does', ['does']) })),
  workplaces: facts('work', 'p', ['place']),
  tools: facts('for', 'p', ['purpose']),
  senses: (lexicon) => lexicon.of('sense').map((x) => ({ x, d: lexicon.related(x, 'does', ['acts']) })),
  wheres: (lexicon) => lexicon.of('where').map((p) => ({ p, d: lexicon.related(p, 'does', ['do']) })),
  tastes: facts('taste', 't', ['taste', 'quality']),
  made: facts('made', 'm', substances),
  gives: facts('gives', 'm', substances),
  described: (lexicon) => described(lexicon, ['animal', 'thing', 'place', 'person']),
  'described-nouns': (lexicon) => described(lexicon, ['animal', 'thing']).filter(({ x }) => !x.flags.has('mass')),
  located,
  'two-located': (lexicon) =>
    combined(located(lexicon), 400, 'two-located', (a, b) => a.x !== b.x && a.p !== b.p).map(
      ([first, second], index) => {
        const asked = index % 2 === 0 ? first : second;
        return { a: first.x, p: first.p, b: second.x, r: second.p, x: asked.x, y: asked.p };
      },
    ),
  together: (lexicon) =>
    combined(
      located(lexicon),
      300,
      'together',
      (a, b) => a.x !== b.x && a.x.kind === b.x.kind && !a.x.flags.has('polite'),
    )
      .filter(([, second]) => !second.x.flags.has('polite'))
      .map(([first, second]) => ({ a: first.x, b: second.x, p: first.p })),
  askable: (lexicon) =>
    [...lexicon.of('place'), ...lexicon.of('family').filter(isSubject), ...movable(lexicon)].map((x) => ({ x })),
  placed: (lexicon) => {
    const furniture = lexicon.of('thing').filter((t) => ['table', 'chair', 'bed'].includes(t.English));
    return pairs([...movable(lexicon), ...lexicon.of('fruit')], pairs(lexicon.of('preposition'), furniture))
      .filter(([x, [, t]]) => x !== t)
      .map(([x, [r, t]]) => ({ x, r, t }));
  },
  'coloured-things': (lexicon) =>
    pairs(
      movable(lexicon).filter((x) => !x.flags.has('mass')),
      [...lexicon.of('colour'), ...lexicon.of('quality').filter((q) => q.flags.has('thing'))],
    ).map(([x, q]) => ({ x, q })),
  'two-owners': (lexicon) => {
    const owned = pairs(
      lexicon.of('name'),
      movable(lexicon).filter((x) => !x.flags.has('mass')),
    ).map(([who, what]) => ({ who, what }));
    return combined(owned, 300, 'two-owners', (a, b) => a.who !== b.who && a.what !== b.what).map(
      ([first, second], index) => {
        const asked = index % 2 === 0 ? first : second;
        return { a: first.who, p: first.what, b: second.who, r: second.what, x: asked.what, y: asked.who };
      },
    );
  },
  givable: (lexicon) => [...movable(lexicon), ...lexicon.of('food', 'drink', ...plants)].map((x) => ({ x })),
  greetings: (lexicon) =>
    pairs(
      lexicon.of('greeting'),
      lexicon.of('family', 'job').filter((x) => x.English !== 'friend'),
    ).map(([g, x]) => ({ g, x })),
  activities: (lexicon) => lexicon.of('activity').map((v) => ({ v })),
  habits: (lexicon) =>
    lexicon
      .of('activity')
      .filter((v) => !v.English.endsWith('here'))
      .map((v) => ({ v })),
  refusable: (lexicon) =>
    lexicon
      .of('activity')
      .filter((v) => !['help mother', 'learn English', 'go to school', 'read a book'].includes(v.English))
      .map((v) => ({ v })),
  'timed-activities': (lexicon) => pairs(lexicon.of('activity'), lexicon.of('time')).map(([v, t]) => ({ v, t })),
  'named-activities': withVerb,
  'two-wishes': (lexicon) =>
    combined(withVerb(lexicon), 300, 'two-wishes', (a, b) => a.x !== b.x && a.v !== b.v).map(
      ([first, second], index) => {
        const asked = index % 2 === 0 ? first : second;
        return { a: first.x, v: first.v, b: second.x, w: second.v, x: asked.x, y: asked.v };
      },
    ),
  counted: (lexicon) =>
    pairs(
      movable(lexicon).filter((x) => !x.flags.has('mass')),
      pairs(
        numbers(lexicon).slice(1, 12),
        lexicon.of('place').filter((p) => ['house', 'school', 'shop', 'room', 'market'].includes(p.English)),
      ),
    ).map(([x, [n, p]]) => ({ x, n, p })),
  nouns: (lexicon) =>
    lexicon.of(...creatures, ...plants, 'thing', 'clothing', 'food', 'drink', 'place', 'job').map((x) => ({ x })),
  things: (lexicon) => lexicon.of('thing', 'clothing').map((x) => ({ x })),
};
