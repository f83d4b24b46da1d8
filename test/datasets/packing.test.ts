// SPDX-License-Identifier: Apache-2.0
// Packing: every example once, none cut, positions and segments as attention needs them, rows full enough.
import * as assert from 'uvu/assert';
import { hashNumbers, mix } from '../../datasets/hash.js';
import { IGNORED, layOut, packRows } from '../../datasets/index.js';
import { readGolden, values } from '../support/goldens.js';
import { suite } from '../support/harness.js';
import { fewestRows } from './fewest-rows.js';
import { toySource } from './toy.js';

const test = suite('datasets: packing');

test('first-fit decreasing, rows in the order of the example that opened them', () => {
  assert.equal(packRows([3, 8, 2, 7, 5, 10], 10), [[1, 2], [3, 0], [4], [5]]);
  assert.equal(packRows([], 10), []);
  assert.equal(packRows([4, 4, 4], 4), [[0], [1], [2]]);
  assert.throws(() => packRows([11], 10), /11 tokens for a row of 10/);
});

test('a batch, position by position', async () => {
  const source = toySource([3, 2, 4]);
  const [a, b, c] = (await Promise.all([0, 1, 2].map((i) => source.read(i)))) as Exclude<
    Awaited<ReturnType<typeof source.read>>,
    string
  >[];
  const batch = layOut([[a!, b!], [c!]], 6, 9);
  assert.equal([batch.B, batch.T], [2, 6]);
  assert.equal([...batch.ids], [0, 1, 2, 1000, 1001, 9, 2000, 2001, 2002, 2003, 9, 9]);
  const __ = IGNORED;
  assert.equal([...batch.labels], [__, 1, 2, __, 1001, __, __, 2001, 2002, 2003, __, __]);
  assert.equal([...batch.positions], [0, 1, 2, 0, 1, 0, 0, 1, 2, 3, 0, 0]);
  assert.equal([...batch.segments], [1, 1, 1, 2, 2, 0, 1, 1, 1, 1, 0, 0]);
  const loose = { ...b!, labels: b!.ids };
  assert.is(layOut([[a!, loose]], 5, 0).labels[3], IGNORED, 'no example predicts the first token of the next');
  assert.throws(() => layOut([[a!, b!]], 4, 0), /more than 4 tokens in row 0/);
});

for (const [model, count] of [
  ['mha', 2],
  ['llama3rope', 3],
] as const) {
  test(`the reference's packed row, from its separate sequences: ${model}`, () => {
    const golden = readGolden('train', `packing_${model}.safetensors`);
    const get = (name: string) => Int32Array.from(values(golden, name));
    const sequences = Array.from({ length: count }, (_, i) => ({
      id: String(i),
      ids: get(`seq${i}.input_ids`),
      labels: get(`seq${i}.labels`),
    }));
    const batch = layOut([sequences], get('input_ids').length, 0);
    assert.equal(batch.ids, get('input_ids'));
    assert.equal(batch.labels, get('labels'));
    assert.equal(batch.segments, get('segment_ids'));
    const positions = get('position_ids').map((position, t) => (batch.segments[t] === 0 ? 0 : position)); // counts on in padding
    assert.equal(batch.positions, positions);
  });
}

/** A number in [0, 1) from a seed and a counter. */
const uniform = (seed: number, n: number) => mix(hashNumbers(seed, n)) / 2 ** 32;

/**
 * Lengths as in MITS: rows of about 1,000 LLaMA tokens on average (755 characters of the language at about one token each,
 * 780 English ones at a quarter), spread like the answers of Alpaca, from a word to several paragraphs (log-normal, σ 0.9).
 */
function mitsLengths(count: number, seed: number): number[] {
  const sigma = 0.9;
  const median = 1000 / Math.exp(sigma ** 2 / 2);
  return Array.from({ length: count }, (_, i) => {
    const normal =
      Math.sqrt(-2 * Math.log(1 - uniform(seed, 2 * i))) * Math.cos(2 * Math.PI * uniform(seed, 2 * i + 1));
    return Math.max(40, Math.round(median * Math.exp(sigma * normal)));
  });
}

test('at least 95 % of positions are used at T=1024 on lengths as in MITS', () => {
  const T = 1024;
  const window = 512;
  for (const tooLong of ['truncate', 'drop']) {
    let used = 0;
    let positions = 0;
    for (let seed = 1; seed <= 20; seed++) {
      const all = mitsLengths(window, seed);
      const lengths =
        tooLong === 'truncate' ? all.map((length) => Math.min(length, T)) : all.filter((length) => length <= T);
      const rows = packRows(lengths, T);
      assert.equal(
        rows.flat().sort((a, b) => a - b),
        lengths.map((_, i) => i),
        'every example once',
      );
      for (const row of rows) assert.ok(row.reduce((sum, i) => sum + lengths[i]!, 0) <= T);
      used += lengths.reduce((sum, length) => sum + length, 0);
      positions += rows.length * T;
    }
    assert.ok(used / positions >= 0.95, `${tooLong}: ${((100 * used) / positions).toFixed(1)} % used`);
  }
});

test('the bound on rows is one, and met where that can be seen', () => {
  assert.is(fewestRows([], 10), 0);
  assert.is(fewestRows([6, 6, 6], 10), 3, 'no two fit together');
  assert.is(fewestRows([6, 6, 4, 4], 10), 2);
  assert.is(fewestRows([6, 6, 5, 5], 10), 3, 'those of 5 fit beside none of 6');
  assert.is(fewestRows([1, 1, 1, 1, 1], 2), 3);
  for (let seed = 1; seed <= 200; seed++) {
    const lengths = Array.from({ length: 1 + (seed % 40) }, (_, i) => 1 + Math.floor(100 * uniform(seed, i)));
    assert.ok(packRows(lengths, 100).length >= fewestRows(lengths, 100), `seed ${seed}`);
  }
});

test('few more rows than there must be, whatever the lengths', () => {
  const T = 1024;
  const spread = (from: number, to: number) => (seed: number) =>
    Array.from({ length: 512 }, (_, i) => Math.floor(from + (to - from) * uniform(seed, i)));
  const kinds: [string, (seed: number) => number[], atMost: number][] = [
    ['long ones, of which few fit together', spread(450, T), 1.005],
    ['short ones, many to a row', spread(120, 340), 1.04],
    ['as in MITS', (seed) => mitsLengths(512, seed).map((length) => Math.min(length, T)), 1.02],
  ];
  for (const [name, lengthsOf, atMost] of kinds) {
    let [rows, fewest] = [0, 0];
    for (let seed = 1; seed <= 10; seed++) {
      const lengths = lengthsOf(seed);
      rows += packRows(lengths, T).length;
      fewest += fewestRows(lengths, T);
    }
    assert.ok(rows / fewest <= atMost, `${name}: ${rows} rows, at best ${fewest}`);
  }
});
