// SPDX-License-Identifier: Apache-2.0
// Kept examples: the same as made ones, made once; whatever is wrong with them, the right examples come out.
import { existsSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { type FileLayer, systemFiles } from '../../checkpoints/index.js';
import { type ExampleSource, examples, openRows, templateNamed } from '../../datasets/index.js';
import { importData } from '../../tasks/data-import.js';
import { cachedExamples } from '../../tasks/example-cache.js';
import { file, jsonLines, newFolder, toyEncoder } from '../datasets/toy.js';
import { suite } from '../support/harness.js';

const test = suite('tasks: kept examples');

/** One for all, since it numbers words as it meets them. */
const encoder = toyEncoder();

/** Imported rows, some without an answer, one with a label in its text. */
async function rowsFolder(count = 300): Promise<string> {
  const row = (i: number) => ({
    id: `r${i}`,
    instruction: `q${i} ${'word '.repeat(i % 13)}`,
    output: i % 17 === 5 ? '' : `a${i} ${'शब्द '.repeat(i % 29)}`,
    english: { instruction: `e${i}`, output: i === 9 ? 'Response in English: x' : `y${i}` },
  });
  const output = join(newFolder(), 'rows');
  const source = file(jsonLines(Array.from({ length: count }, (_, i) => row(i))));
  await importData({ sources: [source], output, language: 'Nepali' });
  return output;
}

/** Made examples, and how often one was. */
async function made(rows: string, template = 'plain'): Promise<{ source: ExampleSource; reads(): number }> {
  const source = examples(await openRows({ path: rows }), { task: 'taco', template: templateNamed(template) }, encoder);
  let reads = 0;
  return {
    source: {
      ...source,
      read(index) {
        reads++;
        return source.read(index);
      },
    },
    reads: () => reads,
  };
}

async function same(cached: ExampleSource, source: ExampleSource): Promise<void> {
  assert.equal([cached.count, cached.fingerprint, cached.name], [source.count, source.fingerprint, source.name]);
  for (let i = 0; i < source.count; i++) {
    assert.equal(await cached.read(i), await source.read(i), `example ${i}`);
    assert.is(cached.key(i), source.key(i), `key ${i}`);
  }
}

const entries = (rows: string) => (existsSync(join(rows, '.examples')) ? readdirSync(join(rows, '.examples')) : []);

test('kept examples are the made ones, and made once', async () => {
  const rows = await rowsFolder();
  const first = await made(rows);
  const cached = await cachedExamples(rows, first.source);
  assert.ok(cached.stored && existsSync(cached.stored));
  await same(cached.source, (await made(rows)).source);
  await cached.source.close();
  const second = await made(rows);
  const again = await cachedExamples(rows, second.source);
  await same(again.source, (await made(rows)).source);
  assert.is(second.reads(), 0, 'nothing was made again');
  await again.source.close();
});

test('another template, task or tokenizer has an entry of its own', async () => {
  const rows = await rowsFolder(30);
  for (const template of ['plain', 'guanaco', 'plain']) {
    const { source } = await cachedExamples(rows, (await made(rows, template)).source);
    await same(source, (await made(rows, template)).source);
    await source.close();
  }
  assert.is(entries(rows).length, 2);
});

test('damage anywhere: the right examples all the same, and an entry made anew next time', async () => {
  const rows = await rowsFolder();
  const { stored, source } = await cachedExamples(rows, (await made(rows)).source);
  await source.close();
  const shard = join(stored!, 'examples-00000.arrow');
  const manifest = join(stored!, 'examples.json');
  const [bytes, description] = [readFileSync(shard), readFileSync(manifest, 'utf8')];
  const spoils: (() => void)[] = [
    () => writeFileSync(shard, bytes.subarray(0, 1000)),
    () => writeFileSync(manifest, description.slice(0, 40)),
    () => writeFileSync(manifest, description.replace(/"fingerprint":"../, '"fingerprint":"zz')),
    ...[100, bytes.length >> 1, bytes.length - 20].map((at) => () => {
      const flipped = Buffer.from(bytes);
      flipped[at]! ^= 1;
      writeFileSync(shard, flipped);
    }),
  ];
  for (const [n, spoil] of spoils.entries()) {
    spoil();
    const notices: string[] = [];
    const spoiled = await cachedExamples(rows, (await made(rows)).source, { notice: (text) => notices.push(text) });
    await same(spoiled.source, (await made(rows)).source);
    await spoiled.source.close();
    assert.ok(notices.length === 1 && /made anew/.test(notices[0]!), `${n}: ${notices}`);
    const next = await made(rows);
    const healed = await cachedExamples(rows, next.source, { notice: (text) => notices.push(text) });
    await same(healed.source, (await made(rows)).source);
    await healed.source.close();
    assert.is(notices.length, 1, `${n}: whole again: ${notices}`);
    assert.equal(readFileSync(shard), bytes, `${n}: the same bytes`);
  }
});

test('a limit: too much is not kept, and what was not asked for longest goes first', async () => {
  const rows = await rowsFolder();
  const notices: string[] = [];
  const notice = (text: string) => notices.push(text);
  const { source, stored } = await cachedExamples(rows, (await made(rows)).source, { limitBytes: 1000, notice });
  assert.equal([stored, entries(rows)], [undefined, []]);
  assert.match(notices[0]!, /are not kept/);
  await same(source, (await made(rows)).source);
  const kept: string[] = [];
  for (const template of ['plain', 'guanaco', 'alpaca']) {
    const cached = await cachedExamples(rows, (await made(rows, template)).source);
    kept.push(cached.stored!);
    utimesSync(cached.stored!, kept.length, kept.length);
    await cached.source.close();
  }
  utimesSync(kept[0]!, 9, 9);
  const bytes = (path: string) =>
    readdirSync(path).reduce((sum, name) => sum + readFileSync(join(path, name)).length, 0);
  const limitBytes = Math.ceil(1.3 * (bytes(kept[0]!) + bytes(kept[1]!)));
  const other = examples(
    await openRows({ path: rows }),
    { task: 'instruction', template: templateNamed('guanaco') },
    encoder,
  );
  await (await cachedExamples(rows, other, { limitBytes })).source.close();
  assert.ok(existsSync(kept[0]!), 'asked for last');
  assert.not.ok(existsSync(kept[1]!), 'asked for first');
});

test('nothing is kept of rows that are no import, or where it is turned off', async () => {
  const path = file(jsonLines([{ instruction: 'a', output: 'b', language: 'Nepali' }]));
  const source = examples(await openRows({ path }), { task: 'instruction', template: templateNamed('plain') }, encoder);
  assert.equal(await cachedExamples(path, source), { source });
  const rows = await rowsFolder(5);
  process.env['TACOTUNE_CACHE'] = 'off';
  try {
    assert.is((await cachedExamples(rows, (await made(rows)).source)).stored, undefined);
    assert.equal(entries(rows), []);
  } finally {
    delete process.env['TACOTUNE_CACHE'];
  }
});

test('a full disk: the examples all the same, and nothing half-written', async () => {
  const rows = await rowsFolder(50);
  for (const name of ['create', 'write', 'sync', 'rename'] as const) {
    const layer: FileLayer = {
      ...systemFiles,
      [name]: () => {
        throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
      },
    };
    const notices: string[] = [];
    const { source, stored } = await cachedExamples(rows, (await made(rows)).source, {
      layer,
      notice: (text) => notices.push(text),
    });
    assert.equal([stored, entries(rows)], [undefined, []], name);
    assert.match(notices[0]!, /no space left.*not kept/s);
    await same(source, (await made(rows)).source);
    await source.close();
  }
});
