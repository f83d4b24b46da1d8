// SPDX-License-Identifier: Apache-2.0
// Feeds as plain data, and made in a thread of their own: the same batches with the same cursors as without one, whatever they
// come from; faults and early ends reach the other side.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import {
  type Cursor,
  type Fed,
  type FeedPlan,
  feedOf,
  IGNORED,
  prefetch,
  type SourcePlan,
} from '../../datasets/index.js';
import { UserError } from '../../errors.js';
import { projectRoot, suite } from '../support/harness.js';
import { collect, file, jsonLines, userError } from './toy.js';

const test = suite('datasets: prefetch');

const options: FeedPlan['options'] = {
  B: 2,
  T: 64,
  tooLong: 'truncate',
  seed: 3,
  shuffle: true,
  pack: true,
  window: 40,
  epochs: 2,
};

const tokenLines = (count: number) =>
  jsonLines(
    Array.from({ length: count }, (_, i) => ({
      id: `r${i}`,
      ids: Array.from({ length: 2 + ((i * 7) % 60) }, (_, t) => (i * 31 + t) % 900),
    })),
  );

const tokens = (count: number, weight?: number): SourcePlan => ({
  tokens: file(tokenLines(count)),
  vocabularySize: 1000,
  ...(weight !== undefined && { weight }),
});

const samples = (...parts: string[]) => join(projectRoot, 'samples', ...parts);
const rows: SourcePlan = {
  rows: samples('mits', 'Nepali.json'),
  english: samples('mits', 'English.json'),
  language: 'Nepali',
  tokenizer: samples('tiny-base', 'tokenizer.model'),
  example: { task: 'taco', template: 'plain', format: 'clean', loss: 'all' },
};

/** Batches as values, since buffers that crossed threads are others. */
const plain = (fed: Fed[]) =>
  JSON.stringify(
    fed.map(({ batch, ...rest }) => ({
      ...rest,
      ...batch,
      ids: [...batch.ids],
      labels: [...batch.labels],
      positions: [...batch.positions],
      segments: [...batch.segments],
    })),
  );

test('the batches of a thread are those without one, also from a cursor in their midst', async () => {
  const plans: [string, FeedPlan][] = [
    ['tokens', { sources: [tokens(300)], options }],
    ['weights', { sources: [tokens(200, 3), tokens(50, 1)], options: { ...options, pack: false } }],
    ['replay', { sources: [tokens(100)], replay: { share: 0.3, sources: [tokens(60)] }, options }],
    ['rows', { sources: [rows], heldOut: { share: 0.8 }, options: { ...options, T: 256, epochs: 1 } }],
    [
      'held out',
      {
        sources: [rows],
        heldOut: { share: 0.1, seed: 1 },
        side: 'heldOut',
        options: { ...options, T: 256, shuffle: false, epochs: 1 },
      },
    ],
    [
      'text',
      {
        sources: [
          {
            text: file(jsonLines([{ text: 'a dog' }, { text: 'a cat' }])),
            tokenizer: samples('tiny-base', 'tokenizer.model'),
          },
        ],
        options,
      },
    ],
  ];
  for (const [name, plan] of plans) {
    const whole = await collect(feedOf(plan));
    assert.ok(whole.length > 0, name);
    assert.is(plain(await collect(prefetch(plan))), plain(whole), name);
    const middle = whole.length >> 1;
    const cursor = JSON.parse(JSON.stringify(whole[middle]!.cursor)) as Cursor;
    assert.is(plain(await collect(prefetch(plan, cursor))), plain(whole.slice(middle + 1)), `${name}, continued`);
  }
});

test('a split has each row on one side', async () => {
  const side = async (of: 'train' | 'heldOut') => {
    const plan: FeedPlan = {
      sources: [tokens(400)],
      heldOut: { share: 0.2 },
      side: of,
      options: { ...options, pack: false, B: 1, epochs: 1 },
    };
    return (await collect(feedOf(plan))).length;
  };
  const [train, heldOut] = [await side('train'), await side('heldOut')];
  assert.is(train + heldOut, 400);
  assert.ok(heldOut > 40 && heldOut < 130, `${heldOut}`);
});

test('a reader that is slow, and one that leaves', async () => {
  const plan: FeedPlan = { sources: [tokens(3000)], options: { ...options, epochs: 1 } };
  const expected = plain(await collect(feedOf(plan)));
  const slow: Fed[] = [];
  for await (const fed of prefetch(plan)) {
    slow.push(fed);
    // Keeps the event loop busy, as training does.
    for (const end = performance.now() + (slow.length < 20 ? 5 : 0); performance.now() < end; );
    if (slow.length % 7 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  assert.is(plain(slow), expected);
  let taken = 0;
  for await (const _ of prefetch({ ...plan, options: { ...options, epochs: 1_000_000 } })) if (++taken === 5) break;
  assert.is(taken, 5);
});

test('faults keep their class and their parts', async () => {
  const broken = file('{"ids":[1,2]}\n{"ids":[1,5000]}\n');
  const plan: FeedPlan = { sources: [{ tokens: broken, vocabularySize: 1000 }], options };
  const fault = await userError(() => collect(prefetch(plan)));
  assert.ok(fault instanceof UserError);
  assert.match(fault.message, /whole numbers 0 … 999 in 'ids', found a number: 5000.*line 2.*tokenizer of the model/s);
  const changing = file(tokenLines(50));
  const feed = prefetch({
    sources: [{ tokens: changing, vocabularySize: 1000 }],
    options: { ...options, B: 1, window: 2, epochs: 1000 },
  });
  await feed.next();
  writeFileSync(changing, '');
  assert.match((await userError(() => collect(feed))).message, /the row that stood here when the file was opened/);
  const wrong: FeedPlan = { sources: [tokens(10)], options: { ...options, B: 0 } };
  assert.match((await userError(() => collect(prefetch(wrong)))).message, /B: a whole number ≥ 1/);
});

test('labels that count come through as they were', async () => {
  const path = file(jsonLines([{ ids: [1, 2, 3, 4], labels: [IGNORED, IGNORED, 3, 4] }]));
  const [fed] = await collect(
    prefetch({ sources: [{ tokens: path, vocabularySize: 10 }], options: { ...options, pack: false, epochs: 1 } }),
  );
  assert.equal([...fed!.batch.labels], [IGNORED, IGNORED, 3, 4]);
});

test('kept examples that cannot be read are told of, and made anew', async () => {
  const once: FeedPlan['options'] = { ...options, T: 256, epochs: 1 };
  const notices: string[] = [];
  const damaged: SourcePlan = { ...rows, stored: join(projectRoot, 'no', 'such', 'folder') } as SourcePlan;
  const fed = await collect(prefetch({ sources: [damaged], options: once }, undefined, (text) => notices.push(text)));
  assert.is(plain(fed), plain(await collect(feedOf({ sources: [rows], options: once }))));
  assert.is(notices.length, 1);
  assert.match(notices[0]!, /found no such file.*made anew/s);
});
