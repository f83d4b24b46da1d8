// SPDX-License-Identifier: Apache-2.0
// Feeding: orders that are pure functions of seed and epoch, mixtures that keep their shares, splits that keep translations
// together, and a cursor that continues exactly, tried after every batch.
import * as assert from 'uvu/assert';
import { permute } from '../../datasets/hash.js';
import {
  batches,
  type Cursor,
  type ExampleSource,
  examples,
  type Fed,
  type FeedOptions,
  IGNORED,
  openTokenIds,
  type Row,
  splitHeldOut,
  type TokenExample,
  tableOf,
  templateNamed,
  type Unusable,
  type WeightedSource,
  withReplay,
} from '../../datasets/index.js';
import { suite } from '../support/harness.js';
import { collect, file, jsonLines, toyEncoder, toySource, userError } from './toy.js';

const test = suite('datasets: feed');

const base: FeedOptions = { B: 2, T: 16, tooLong: 'error', seed: 1, shuffle: true, pack: true, window: 5, epochs: 1 };
const lengths = Array.from({ length: 23 }, (_, i) => 2 + ((i * 7) % 13));

const feed = (sources: ExampleSource | WeightedSource[], options: Partial<FeedOptions> = {}, cursor?: Cursor) =>
  batches(Array.isArray(sources) ? sources : [{ source: sources }], { ...base, ...options }, cursor);

/** Which examples a batch holds, read off their first tokens. */
function members({ batch }: Fed): number[] {
  const found: number[] = [];
  for (const [i, id] of batch.ids.entries())
    if (batch.segments[i] !== 0 && batch.positions[i] === 0) found.push(Math.floor(id / 1000));
  return found;
}

const order = async (sources: ExampleSource | WeightedSource[], options: Partial<FeedOptions> = {}, limit?: number) =>
  (await collect(feed(sources, options), limit)).flatMap(members);

const sorted = (numbers: number[]) => [...numbers].sort((a, b) => a - b);
const range = (count: number) => Array.from({ length: count }, (_, i) => i);

test('permute is a bijection, differs by key, and reaches every order of a small set', () => {
  for (const count of [1, 2, 3, 16, 100, 257, 5000])
    assert.equal(sorted(range(count).map((i) => permute(i, count, 7))), range(count));
  const orders = new Map<string, number>();
  for (let key = 0; key < 4800; key++) {
    const text = range(4)
      .map((i) => permute(i, 4, key * 2654435761))
      .join();
    orders.set(text, (orders.get(text) ?? 0) + 1);
  }
  assert.is(orders.size, 24);
  for (const [text, times] of orders) assert.ok(times > 120 && times < 290, `${text}: ${times} of 200 expected`);
  assert.throws(() => permute(5, 5, 0), /position 5 of 5/);
});

test('each example once an epoch, in another order each time, the same order for the same seed', async () => {
  const source = toySource(lengths);
  for (const pack of [true, false]) {
    const once = await order(source, { pack });
    assert.equal(sorted(once), range(23));
    assert.equal(await order(source, { pack }), once);
    assert.is.not((await order(source, { pack, seed: 2 })).join(), once.join());
  }
  const twice = await order(source, { epochs: 2, pack: false });
  assert.equal([sorted(twice.slice(0, 23)), sorted(twice.slice(23))], [range(23), range(23)]);
  assert.is.not(twice.slice(0, 23).join(), twice.slice(23).join());
  assert.is(
    (await order(source, { epochs: undefined as never, pack: false }, 100)).length,
    200,
    'no end without epochs',
  );
});

test('without shuffle and packing the order is the file’s', async () => {
  const rows = lengths.map((length, i) => ({ ids: Array.from({ length }, (_, t) => i * 1000 + t) }));
  const source = await openTokenIds(file(jsonLines(rows)), { vocabularySize: 100_000 });
  const fed = await collect(feed(source, { shuffle: false, pack: false, B: 4, epochs: 2 }));
  assert.equal(fed.flatMap(members), [...range(23), ...range(23)]);
  assert.equal(
    fed.map(({ batch }) => batch.B),
    [...Array(11).fill(4), 2],
    'only the last batch is smaller',
  );
  for (const [n, { batch }] of fed.entries()) {
    const longest = Math.max(...range(batch.B).map((b) => lengths[(4 * n + b) % 23]!));
    assert.is(batch.T, longest, 'padded to the longest of the batch');
  }
  const rounded = await collect(feed(source, { shuffle: false, pack: false, padMultiple: 8, padId: 9 }));
  assert.equal(
    [...new Set(rounded.map(({ batch }) => batch.T))],
    [16, 8].sort((a, b) => b - a),
  );
  await source.close();
  const two = toySource([3, 4], 'two');
  assert.equal(
    await order([{ source: two }, { source: toySource([2, 2, 2]) }], { shuffle: false, pack: false }),
    [0, 1, 0, 1, 2],
  );
});

test('what a batch says of itself', async () => {
  const fed = await collect(feed(toySource(lengths), { epochs: 2 }));
  for (const { batch, examples: count, tokens, targetTokens } of fed) {
    assert.is(count, batch.positions.filter((position, i) => position === 0 && batch.segments[i] !== 0).length);
    assert.is(tokens, batch.segments.filter((segment) => segment !== 0).length);
    assert.is(targetTokens, batch.labels.filter((label) => label !== IGNORED).length);
    assert.is(targetTokens, tokens - count);
  }
  const epochs = fed.map(({ epoch }) => epoch);
  assert.equal(epochs, sorted(epochs));
  assert.is(epochs.at(-1), 2);
  assert.is(fed.at(-1)?.counts.read, 46);
});

/** Some rows are of no use, some too long. */
function patchy(): ExampleSource {
  const source = toySource(lengths.map((length, i) => (i % 6 === 5 ? 30 : length)));
  return {
    ...source,
    read: async (i): Promise<TokenExample | Unusable> => (i % 7 === 3 ? 'noEnglish' : source.read(i)),
  };
}

test('a cursor continues exactly, after every batch', async () => {
  const sources: [string, WeightedSource[]][] = [
    ['one source', [{ source: toySource(lengths) }]],
    ['rows left out', [{ source: patchy() }]],
    [
      'weights',
      [
        { source: toySource(lengths), weight: 3 },
        { source: toySource([4, 9, 2, 6], 'other'), weight: 1 },
      ],
    ],
  ];
  for (const [name, of] of sources) {
    for (const options of [
      { epochs: 3, tooLong: 'truncate' },
      { epochs: 3, tooLong: 'drop', pack: false },
      { epochs: 2, tooLong: 'drop', shuffle: false, B: 3, window: 4 },
      { epochs: 2, tooLong: 'truncate', B: 1, window: 1 },
    ] as const) {
      const whole = await collect(feed(of, options));
      assert.ok(whole.length > 4, name);
      for (const [i, { cursor }] of whole.entries()) {
        const stored = JSON.parse(JSON.stringify(cursor)) as Cursor;
        assert.equal(
          await collect(feed(of, options, stored)),
          whole.slice(i + 1),
          `${name}, ${JSON.stringify(options)}, batch ${i}`,
        );
      }
    }
  }
});

test('a cursor of other data, another order or another version is refused', async () => {
  const [fed] = await collect(feed(toySource(lengths)), 1);
  const cursor = fed!.cursor;
  const refusals: [AsyncGenerator<Fed>, RegExp][] = [
    [feed(toySource([5, ...lengths.slice(1)]), {}, cursor), /found other data/],
    [feed(toySource(lengths), { seed: 2 }, cursor), /found other data, tokenizer, template, seed or packing/],
    [feed(toySource(lengths), { T: 32 }, cursor), /found other data/],
    [feed(toySource(lengths), {}, { ...cursor, version: 2 as never }), /cursor of version 1/],
    [feed(toySource(lengths), {}, { ...cursor, drawn: [-1] }), /cursor of version 1/],
    [feed(toySource(lengths), {}, {} as Cursor), /cursor of version 1/],
  ];
  for (const [fedBatches, expected] of refusals)
    assert.match((await userError(() => collect(fedBatches))).message, expected);
  assert.ok(
    (await collect(feed(toySource(lengths), { B: 3 }, cursor))).length > 0,
    'the batch size may change: a cursor stands between rows',
  );
});

test('counts: what was left out, cut and lost', async () => {
  const row = (id: string, words: number): Row => ({
    id,
    instruction: 'q',
    input: '',
    output: Array(words).fill('x').join(' '),
    language: 'Nepali',
    english: { instruction: 'q', input: '', output: 'y' },
  });
  const rows = tableOf([row('whole', 2), row('cut', 40), { ...row('none', 0) }, row('long', 100)]);
  const source = examples(rows, { task: 'taco', template: templateNamed('plain') }, toyEncoder());
  const first = await source.read(0);
  if (typeof first === 'string') throw new Error(first);
  const head = first.finalAnswer!.start;
  const counts = async (T: number, tooLong: 'truncate' | 'drop') =>
    (await collect(feed(source, { T, tooLong, shuffle: false }))).at(-1)?.counts;
  assert.equal(await counts(head + 10, 'truncate'), {
    read: 4,
    unusable: { noAnswer: 1 },
    truncated: 2,
    cutFinalAnswers: 2,
    lostFinalAnswers: 0,
  });
  assert.equal(await counts(head, 'truncate'), {
    read: 4,
    unusable: { noAnswer: 1 },
    truncated: 3,
    cutFinalAnswers: 0,
    lostFinalAnswers: 3,
  });
  assert.equal(await counts(head + 10, 'drop'), {
    read: 4,
    unusable: { noAnswer: 1, tooLong: 2 },
    truncated: 0,
    cutFinalAnswers: 0,
    lostFinalAnswers: 0,
  });
  const error = await userError(() => collect(feed(source, { T: head + 10, tooLong: 'error', shuffle: false })));
  assert.match(
    error.message,
    /at most \d+ tokens, found \d+ tokens in row 'cut'.*rows in memory, row 2.*raise the context/s,
  );
});

test('weights are kept by every prefix', async () => {
  const of = [
    { source: toySource(Array(40).fill(3), 'a'), weight: 0.7 },
    { source: toySource(Array(40).fill(5), 'b'), weight: 0.2 },
    { source: toySource(Array(10).fill(7), 'c'), weight: 0.1 },
  ];
  const fed = await collect(feed(of, { pack: false, B: 1, epochs: 2 }));
  assert.is(fed.length, 180, 'an epoch has as many examples as there are rows');
  const seen = new Map([3, 5, 7].map((length) => [length, 0]));
  for (const [n, { batch }] of fed.entries()) {
    seen.set(batch.T, seen.get(batch.T)! + 1);
    for (const [s, length] of [3, 5, 7].entries()) {
      assert.ok(Math.abs(seen.get(length)! - (n + 1) * of[s]!.weight) <= 1, `after ${n + 1}: ${[...seen.values()]}`);
    }
  }
});

test('replay: its share in every prefix, no part of an epoch, weights kept within either part', async () => {
  const source = (count: number, length: number) => toySource(Array(count).fill(length), `${length}`);
  const seen = async (sources: WeightedSource[], limit?: number) => {
    const counts = new Map<number, number>();
    for (const { batch } of await collect(feed(sources, { pack: false, B: 1, epochs: 1 }), limit)) {
      counts.set(batch.T, (counts.get(batch.T) ?? 0) + 1);
    }
    return Object.fromEntries(counts);
  };
  const [a, b, c, d] = [source(60, 3), source(30, 5), source(200, 7), source(10, 9)];
  const unweighted = withReplay([{ source: a }, { source: b }], [{ source: c }, { source: d }], 0.25);
  const whole = await seen(unweighted);
  assert.equal([whole[3], whole[5]], [60, 30], 'each of its own rows once');
  assert.is((whole[7] ?? 0) + (whole[9] ?? 0), 30, 'and a quarter of all from before');
  const weighted = withReplay(
    [
      { source: a, weight: 3 },
      { source: b, weight: 1 },
    ],
    [
      { source: c, weight: 1 },
      { source: d, weight: 1 },
    ],
    0.2,
  );
  assert.equal(await seen(weighted, 100), { 3: 60, 5: 20, 7: 10, 9: 10 });
  assert.equal(await seen(weighted), { 3: 68, 5: 23, 7: 11, 9: 11 }, '90 rows of its own, 80 % of an epoch');
  assert.equal(withReplay([{ source: a }], [], 0.5), [{ source: a }]);
  assert.match(
    (await userError(() => withReplay([{ source: a }], [{ source: b }], 1))).message,
    /a share of replay from 0 to below 1/,
  );
});

test('replay continues exactly from a cursor', async () => {
  const of = withReplay([{ source: toySource(lengths) }], [{ source: patchy() }], 0.3);
  const whole = await collect(feed(of, { epochs: 2, tooLong: 'truncate' }));
  for (const [i, { cursor }] of whole.entries()) {
    assert.equal(await collect(feed(of, { epochs: 2, tooLong: 'truncate' }, cursor)), whole.slice(i + 1), `batch ${i}`);
  }
});

const languageRows = (language: string): Row[] =>
  range(200).map((i) => ({ id: `row ${i}`, instruction: `${language} ${i}`, input: '', output: 'x', language }));
const languageSource = (language: string, of = languageRows(language)) =>
  examples(tableOf(of, language), { task: 'instruction', template: templateNamed('plain') }, toyEncoder());
const idsOf = async (sources: WeightedSource[]) =>
  Promise.all(
    sources.flatMap(({ source }) => range(source.count).map(async (i) => ((await source.read(i)) as TokenExample).id)),
  );

test('held-out rows: by id, translations together, nothing lost', async () => {
  const split = (language: string, share = 0.2, seed = 0) =>
    splitHeldOut([{ source: languageSource(language), weight: 2 }], { share, seed });
  const nepali = split('Nepali');
  const heldOut = await idsOf(nepali.heldOut);
  assert.equal(
    [...heldOut, ...(await idsOf(nepali.train))].sort(),
    languageRows('')
      .map(({ id }) => id)
      .sort(),
  );
  assert.ok(heldOut.length > 20 && heldOut.length < 60, `${heldOut.length} of 200 held out`);
  assert.equal([nepali.train[0]?.weight, nepali.heldOut[0]?.weight], [2, 2]);
  assert.equal(await idsOf(split('Hindi').heldOut), heldOut);
  assert.is.not((await idsOf(split('Nepali', 0.2, 1).heldOut)).join(), heldOut.join());
  const more = await idsOf(split('Nepali', 0.4).heldOut);
  assert.ok(
    heldOut.every((id) => more.includes(id)),
    'a larger share only adds',
  );
  const views = [nepali.train, nepali.heldOut, split('Nepali', 0.4).train].map(([of]) => of!.source.fingerprint);
  assert.is(new Set(views).size, 3);
});

test('held-out rows by their ids, from several sources', async () => {
  const few = languageSource('Hindi', languageRows('Hindi').slice(0, 3));
  const { train, heldOut } = splitHeldOut([{ source: languageSource('Nepali') }, { source: few }], {
    ids: ['row 7', 'row 2'],
  });
  assert.equal(await idsOf(heldOut), ['row 2', 'row 7', 'row 2']);
  assert.is((await idsOf(train)).length, 200);
  const without = splitHeldOut([{ source: languageSource('Nepali') }, { source: few }], { ids: ['row 7'] });
  assert.is(without.heldOut.length, 1, 'a source without held-out rows is not among them');
});

test('splits that cannot be', async () => {
  const split = (by: Parameters<typeof splitHeldOut>[1]) =>
    userError(() => splitHeldOut([{ source: languageSource('Nepali') }], by));
  assert.match((await split({ share: 1e-9 })).message, /rows on both sides.*found none held out.*Nepali/s);
  assert.match((await split({ share: 1 })).message, /between 0 and 1/);
  assert.match(
    (await split({ ids: ['row 1', 'row 200'] })).message,
    /ids of rows in the data, found 1 unknown: row 200/,
  );
  assert.match((await split({ ids: languageRows('').map(({ id }) => id) })).message, /found none to train on/);
});

test('bad options', async () => {
  const source = toySource([3]);
  const none = { ...source, read: async () => 'noEnglish' as const };
  const cases: [AsyncGenerator<Fed>, RegExp][] = [
    [feed([]), /at least one source/],
    [feed([{ source, weight: 1 }, { source }]), /a weight for each source, or for none/],
    [feed([{ source, weight: 0 }]), /a weight above 0, found 0/],
    [feed(source, { B: 0 }), /B: a whole number ≥ 1, found 0/],
    [feed(source, { T: 1.5 }), /T: a whole number/],
    [feed(source, { epochs: 0 }), /epochs: a whole number/],
    [feed(source, { seed: Number.NaN }), /seed: a whole number/],
    [
      feed(none, { epochs: undefined as never }),
      /at least one row that can be trained on, found none in a whole pass \(1 × has no English text\)/,
    ],
    [feed(toySource([17])), /at most 16 tokens, found 17 tokens/],
  ];
  for (const [fed, expected] of cases) assert.match((await userError(() => collect(fed))).message, expected);
});
