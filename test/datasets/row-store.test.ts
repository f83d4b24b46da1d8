// SPDX-License-Identifier: Apache-2.0
// Imported rows: what was written comes back, in order and by position, by language; damage anywhere in the files is found
// before a wrong row is given.
import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tableFromIPC } from 'apache-arrow';
import * as assert from 'uvu/assert';
import type { StoreFolder } from '../../datasets/arrow-store.js';
import { hashText, hashUtf8 } from '../../datasets/hash.js';
import { openRows, ROW_MANIFEST, type Row, RowStoreWriter, readRows } from '../../datasets/index.js';
import { suite } from '../support/harness.js';
import { collect, file, jsonLines, newFolder, userError } from './toy.js';

const test = suite('datasets: imported rows');

/** Writes a store into a new folder, without the ceremony of replacing files. */
async function store(rows: Row[], watch?: (writer: RowStoreWriter) => void): Promise<string> {
  const folder = newFolder();
  const created: { path: string; parts: Buffer[] }[] = [];
  const target: StoreFolder = {
    create(name) {
      const file = { path: join(folder, name), parts: [] as Buffer[] };
      created.push(file);
      return { write: (bytes) => file.parts.push(Buffer.from(bytes)) };
    },
  };
  const writer = await RowStoreWriter.create(target, 4 << 20);
  for (const row of rows) {
    writer.put(row);
    watch?.(writer);
  }
  const manifest = writer.finish();
  for (const { path, parts } of created) writeFileSync(path, Buffer.concat(parts));
  writeFileSync(join(folder, ROW_MANIFEST), JSON.stringify(manifest));
  return folder;
}

/** About 3 MB, so that there are several batches. */
const rows = Array.from({ length: 9000 }, (_, i): Row => {
  const row: Row = {
    id: `row ${i}`,
    instruction: `प्रश्न ${i}`,
    input: i % 3 === 0 ? '' : `निवेश ${i}`,
    output: i % 50 === 0 ? '' : `उत्तर 🦋 ${'क'.repeat((i * 37) % 200)}`,
    language: i % 4 === 0 ? 'Sanskrit' : 'Nepali',
  };
  if (i % 5 !== 0) row.source = 'alpaca';
  if (i % 7 !== 0) row.english = { instruction: `question ${i}`, input: i % 2 ? '' : 'input', output: '' };
  return row;
});
/** Its keys in the order in which the store gives them. */
const plain = ({ id, language, instruction, input, output, source, english }: Row) => ({
  id,
  language,
  instruction,
  input,
  output,
  source,
  english,
});
const of = (language: string) => rows.filter((row) => row.language === language);

test('rows come back as they were, one language after the other', async () => {
  const path = await store(rows);
  const table = await openRows({ path });
  const expected = [...of('Sanskrit'), ...of('Nepali')];
  assert.is(table.count, expected.length);
  for (let i = 0; i < table.count; i += 7) {
    const at = (i * 7919) % table.count;
    assert.equal(await table.read(at), expected[at]);
    assert.is(table.key(at), hashText(expected[at]!.id));
  }
  assert.match(table.where(0), /Sanskrit-00000\.arrow, row 1$/);
  assert.match(table.where(table.count - 1), /Nepali-00000\.arrow, row 6750$/);
  assert.throws(() => table.where(table.count), RangeError);
  await table.close();
  assert.equal(await collect(readRows({ path })), expected);
});

test('one language of several', async () => {
  const path = await store(rows);
  const nepali = await openRows({ path, language: 'ne' });
  assert.is(nepali.count, of('Nepali').length);
  assert.equal(await nepali.read(5), of('Nepali')[5]);
  await nepali.close();
  assert.match(
    (await userError(() => openRows({ path, language: 'Hindi' }))).message,
    /rows in Hindi, found rows in Sanskrit, Nepali/,
  );
});

test('Arrow files that others read', async () => {
  const path = await store(rows);
  const table = tableFromIPC(readFileSync(join(path, 'Nepali-00000.arrow')));
  assert.is(table.numRows, of('Nepali').length);
  assert.ok(table.batches.length > 1, 'several batches');
  const { id, output, englishInstruction } = table.get(100)!.toJSON();
  const expected = of('Nepali')[100]!;
  assert.equal([id, output, englishInstruction], [expected.id, expected.output, expected.english?.instruction ?? null]);
});

test('fingerprints follow content and language', async () => {
  const print = async (path: string, language?: string) => {
    const table = await openRows(language === undefined ? { path } : { path, language });
    await table.close();
    return table.fingerprint;
  };
  const base = await store(rows);
  assert.is(await print(await store(rows)), await print(base));
  assert.is.not(await print(await store(rows.slice(1))), await print(base));
  assert.is.not(await print(base, 'Nepali'), await print(base));
});

test('damage anywhere is found, and no wrong row is given', async () => {
  const path = await store(rows);
  const shard = join(path, 'Nepali-00000.arrow');
  const whole = readFileSync(shard);
  const expected = of('Nepali');
  for (let n = 0; n < 24; n++) {
    const at = n < 3 ? [0, 9, whole.length - 12][n]! : (n * 7919 * 101) % whole.length;
    const bytes = Buffer.from(whole);
    bytes[at]! ^= 0x40;
    writeFileSync(shard, bytes);
    let given = 0;
    const fault = await userError(async () => {
      const table = await openRows({ path, language: 'Nepali' });
      try {
        for (; given < table.count; given++) {
          if (JSON.stringify(await table.read(given)) !== JSON.stringify(plain(expected[given]!)))
            throw new Error(`row ${given}`);
        }
      } finally {
        await table.close();
      }
    });
    assert.match(
      fault.message,
      /the Arrow file that was written here, found .*Nepali-00000\.arrow.*make it again/s,
      `byte ${at}`,
    );
  }
});

test('files that are cut, missing or described wrongly', async () => {
  const cases: [string, (path: string) => void, RegExp][] = [
    ['cut', (path) => truncateSync(join(path, 'Nepali-00000.arrow'), 5000), /found 5000 bytes, not \d+/],
    ['missing', (path) => rmSync(join(path, 'Nepali-00000.arrow')), /found no such file/],
    ['no JSON', (path) => writeFileSync(join(path, ROW_MANIFEST), '{"version":1,'), /the Arrow file.*import\.json/s],
    [
      'another version',
      (path) => writeFileSync(join(path, ROW_MANIFEST), '{"version":2,"shards":[]}'),
      /version 2 of its description, not 1/,
    ],
    ['a path', (path) => change(path, 'file', '../x.arrow'), /no list of its files/],
    ['other rows', (path) => change(path, 'rows', 5), /no list of its files/],
    ['ends that fall', (path) => change(path, 'ends', [5, 4, 3, 2, 1]), /no list of its files/],
    [
      'no rows',
      (path) => writeFileSync(join(path, ROW_MANIFEST), '{"version":1,"shards":[]}'),
      /at least one row, found none/,
    ],
  ];
  for (const [name, spoil, expected] of cases) {
    const path = await store(rows);
    spoil(path);
    assert.match((await userError(() => openRows({ path }))).message, expected, name);
  }
});

function change(path: string, key: string, value: unknown): void {
  const manifest = JSON.parse(readFileSync(join(path, ROW_MANIFEST), 'utf8'));
  manifest.shards[0][key] = value;
  writeFileSync(join(path, ROW_MANIFEST), JSON.stringify(manifest));
}

test('files without their manifest are not taken for an import', async () => {
  const path = await store(rows);
  rmSync(join(path, ROW_MANIFEST));
  for (const of of [path, join(path, 'Nepali-00000.arrow')]) {
    assert.match(
      (await userError(() => collect(readRows({ path: of })))).message,
      /an imported folder as a whole, found one of its files, or an import that was cut short/,
    );
  }
});

test('beside an English original, imported or not', async () => {
  const translated = [0, 1, 2].map(
    (i): Row => ({ id: `k${i}`, instruction: `n${i}`, input: '', output: `o${i}`, language: 'Nepali' }),
  );
  const original = translated.map(
    (row, i): Row => ({ ...row, instruction: `e${i}`, output: `r${i}`, language: 'English' }),
  );
  const path = await store(translated);
  for (const english of [await store([...original].reverse()), file(jsonLines([...original].reverse()))]) {
    const table = await openRows({ path, english });
    assert.equal((await table.read(2)).english, { instruction: 'e2', input: '', output: 'r2' });
    await table.close();
  }
  assert.match(
    (await userError(async () => openRows({ path, english: await store(original.slice(1)) }))).message,
    /1 ids only in the translation and 0 only in English.*id 'k0', row 1 \| no row/s,
  );
});

test('rows of more languages than are held at once, whatever the order', async () => {
  const of = (i: number): Row => ({
    ...rows[i % rows.length]!,
    id: `${i}`,
    output: 'क'.repeat(1000),
    language: `Language ${i % 90}`,
  });
  for (const grouped of [false, true]) {
    const many = Array.from({ length: 9000 }, (_, i) => of(i));
    if (grouped) many.sort((a, b) => (a.language < b.language ? -1 : a.language > b.language ? 1 : 0));
    let held = 0;
    const path = await store(many, (writer) => {
      held = Math.max(held, writer.heldBytes);
    });
    assert.ok(held < 5 << 20, `${held} bytes held`);
    const manifest = JSON.parse(readFileSync(join(path, ROW_MANIFEST), 'utf8'));
    assert.is(manifest.shards.length, 90, 'one file a language');
    const read = new Map<string, string[]>();
    for await (const row of readRows({ path })) read.set(row.language, [...(read.get(row.language) ?? []), row.id]);
    for (const [language, ids] of read) {
      assert.equal(
        ids,
        many.filter((row) => row.language === language).map(({ id }) => id),
        language,
      );
    }
    assert.is(read.size, 90);
  }
});

test('hashes of bytes are those of their text', () => {
  for (const text of ['', 'alpaca-17', 'नेपाली', 'é', '🦋'])
    assert.is(hashUtf8(Buffer.from(text)), hashText(text), text);
});
