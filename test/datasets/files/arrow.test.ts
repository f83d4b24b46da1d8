// SPDX-License-Identifier: Apache-2.0
// Arrow files as others write them, in all kinds of columns, compressed or not; and files that say of themselves what is not so.
import { readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { RecordBatchFileWriter, RecordBatchStreamWriter, type Table, tableFromArrays } from 'apache-arrow';
import * as assert from 'uvu/assert';
import { readRecords } from '../../../datasets/files/records.js';
import { projectRoot, suite } from '../../support/harness.js';
import { collect, file, userError } from '../toy.js';

const test = suite('datasets: Arrow');

const fixture = (name: string) => join(projectRoot, 'test', 'datasets', 'fixtures', `${name}.arrow`);
const values = async (path: string) => (await collect(readRecords(path))).map(({ value }) => value);

test('columns of all kinds, as pyarrow writes them', async () => {
  assert.equal(await values(fixture('kinds')), [
    {
      ...{ half: 1.5, single: 0.5, bool: true, byte: -128, word: 0, long: '9007199254740993', nothing: null },
      ...{ large: 'a', view: 'short', binary: Uint8Array.of(0, 1), fixed: new Uint8Array(Buffer.from('ab')) },
      ...{ decimal: '-0.05', day: 2, stamp: 1, numbers: [1, 2], pair: [1, 2], map: { k: 1 }, language: 'Nepali' },
      turns: [
        { from: 'human', value: 'x' },
        { from: 'gpt', value: null },
      ],
    },
    {
      ...{ half: null, single: 2, bool: null, byte: 127, word: 65535, long: -1, nothing: null, large: null },
      ...{ view: null, binary: null, fixed: null, decimal: null, day: null, stamp: null, turns: null, numbers: null },
      ...{ pair: null, map: null, language: null },
    },
    {
      ...{ half: -0.25, single: null, bool: false, byte: null, word: null, long: null, nothing: null, large: 'पानी' },
      ...{ view: 'longer than twelve bytes', binary: new Uint8Array(0), fixed: new Uint8Array(Buffer.from('cd')) },
      ...{ decimal: '1234567890123456789.25', day: 10957, stamp: 3, turns: [], numbers: [3], pair: [3, 4], map: {} },
      language: 'Nepali',
    },
  ]);
});

test('batches compressed with LZ4, whose blocks refer to each other, and with Zstandard', async () => {
  const expected = Array.from({ length: 120 }, (_, i) => ({
    i,
    text: `line ${i % 7} ${'पानी '.repeat((i % 11) * 40)}`,
  }));
  for (const name of ['lz4', 'zstd']) assert.equal(await values(fixture(name)), expected, name);
});

test('a dictionary that grows, and one that another takes the place of', async () => {
  const words = ['a', 'b', 'a', 'b', 'c', 'x'];
  assert.equal(
    await values(fixture('deltas')),
    words.map((word) => ({ word })),
  );
});

test('columns that are neither text, numbers, lists nor structures are named', async () => {
  const { message } = await userError(() => values(fixture('union')));
  assert.match(message, /the column 'u' of a kind that is not read: union.*union\.arrow/s);
});

function written(table: Table, kind: 'file' | 'stream'): Buffer {
  const writer = kind === 'file' ? new RecordBatchFileWriter() : new RecordBatchStreamWriter();
  writer.writeAll(table);
  writer.finish();
  return Buffer.from(writer.toUint8Array(true));
}

const small = () => tableFromArrays({ id: Int32Array.of(1, 2), text: ['one', 'two'] }) as Table;

test('any word of a file changed into another: read or refused, and at once', async () => {
  const sources = [written(small(), 'stream'), written(small(), 'file'), readFileSync(fixture('kinds'))];
  let refused = 0;
  let slowestMs = 0;
  for (const source of sources) {
    for (const word of [0x02000000, 0x7fffffff, -1, 12]) {
      // Every place of the small files, places all over the large one.
      for (let at = 0; at + 4 <= source.length; at += source.length > 2000 ? 44 : 4) {
        const bytes = Buffer.from(source);
        bytes.writeInt32LE(word, at);
        const start = performance.now();
        await values(file(bytes, 'arrow')).catch((error) => {
          refused++;
          if (error.name !== 'UserError') throw error;
        });
        slowestMs = Math.max(slowestMs, performance.now() - start);
      }
    }
  }
  assert.ok(refused > 500, `${refused} refused`);
  assert.ok(slowestMs < 2000, `${slowestMs.toFixed(0)} ms`);
});

/** A schema of structures of eight columns, each of which is the same structure of eight: `depth` levels. */
function laughingSchema(depth: number): Buffer {
  const bytes = Buffer.alloc(64 * (depth + 3));
  const vtable = (at: number, ...fields: number[]) => {
    bytes.writeUInt16LE(4 + 2 * fields.length, at);
    bytes.writeUInt16LE(16, at + 2);
    for (const [f, offset] of fields.entries()) bytes.writeUInt16LE(offset, at + 4 + 2 * f);
  };
  const link = (at: number, to: number) => bytes.writeUInt32LE(to - at, at);
  const table = (at: number, vtableAt: number) => bytes.writeInt32LE(at - vtableAt, at);
  vtable(4, 12, 14, 4); // Message: version, kind, header
  vtable(16, 0, 4); // Schema: fields
  vtable(24, 0, 0, 12, 8, 0, 4); // Field: kind, type, children
  vtable(60); // Struct
  const field = (level: number) => 160 + 64 * level;
  bytes.writeUInt32LE(64, 0);
  table(64, 4);
  link(68, 80);
  bytes.writeInt16LE(4, 76);
  bytes.writeInt8(1, 78);
  table(80, 16);
  link(84, 88);
  bytes.writeUInt32LE(1, 88);
  link(92, field(0));
  for (let level = 0; level < depth; level++) {
    const at = field(level);
    const children = level + 1 < depth ? 8 : 0;
    table(at, 24);
    link(at + 4, at + 16);
    link(at + 8, at + 56);
    bytes.writeInt8(13, at + 12);
    bytes.writeUInt32LE(children, at + 16);
    for (let c = 0; c < children; c++) link(at + 20 + 4 * c, field(level + 1));
    table(at + 56, 60);
  }
  const prefix = Buffer.alloc(8);
  prefix.writeInt32LE(-1, 0);
  prefix.writeInt32LE(bytes.length, 4);
  return Buffer.concat([prefix, bytes]);
}

test('a kilobyte that describes more columns than there are atoms', async () => {
  assert.equal(await values(file(laughingSchema(3), 'arrow')), [], 'what is built that way is a schema');
  const start = performance.now();
  const { message } = await userError(() => values(file(laughingSchema(30), 'arrow')));
  assert.match(message, /found more than 10000 columns/);
  assert.match((await userError(() => values(file(laughingSchema(40), 'arrow')))).message, /more than \d+ columns/);
  assert.ok(performance.now() - start < 2000);
});

test('lengths that are lies: of rows without bytes, and of what is packed', async () => {
  const rows = written(small(), 'stream');
  // The batch's header holds its number of rows, and each column's, as 2 in 64 bits.
  const two = Buffer.from([2, 0, 0, 0, 0, 0, 0, 0]);
  const lied = Buffer.from(rows);
  for (let at = lied.indexOf(two); at !== -1; at = lied.indexOf(two, at + 8)) lied.writeBigInt64LE(1n << 40n, at);
  assert.match((await userError(() => values(file(lied, 'arrow')))).message, /1099511627776 values in \d+ bytes/);
  for (const name of ['lz4', 'zstd']) {
    const packed = readFileSync(fixture(name));
    const magic = Buffer.from(name === 'lz4' ? [4, 0x22, 0x4d, 0x18] : [0x28, 0xb5, 0x2f, 0xfd]);
    const length = packed.indexOf(magic) - 8;
    const of = (change: (bytes: Buffer) => void) => {
      const bytes = Buffer.from(packed);
      change(bytes);
      return userError(() => values(file(bytes, 'arrow')));
    };
    assert.match(
      (await of((bytes) => bytes.writeBigInt64LE(1n << 40n, length))).message,
      /1099511627776 bytes packed into/,
    );
    assert.match(
      (await of((bytes) => bytes.writeBigInt64LE(121n, length))).message,
      /(frame of 120 bytes, not 121|120 bytes in an LZ4 frame, not 121)/,
    );
    assert.match(
      (await of((bytes) => bytes.writeBigInt64LE(119n, length))).message,
      /(frame of 120 bytes, not 119|more than 119 bytes)/,
    );
  }
});

test('a batch that would be too much to hold is refused before it is read', async () => {
  const source = written(small(), 'stream');
  const found: string[] = [];
  for (let at = 8; at + 8 <= source.length; at += 8) {
    const bytes = Buffer.from(source);
    bytes.writeBigInt64LE(5n << 28n, at);
    const path = file(bytes, 'arrow');
    truncateSync(path, 6 * 2 ** 28); // without blocks on disk
    await values(path).catch(({ message }) => found.push(message));
  }
  assert.ok(found.some((message) => /batches of at most 1024 MiB.*found one of 1342177280 bytes/.test(message)));
});

test('text that is none: the row is passed over, or its place told', async () => {
  const rows = written(tableFromArrays({ text: ['one', 'two', 'three'] }) as Table, 'file');
  rows[rows.indexOf('two')] = 0xff;
  const path = file(rows, 'arrow');
  assert.match((await userError(() => values(path))).message, /text in row 2, found .*not valid/s);
  const faults: [string, number][] = [];
  const given = await collect(readRecords(path, { onBad: ({ message }, count) => faults.push([message, count]) }));
  assert.equal(
    given.map(({ value, place }) => [value, place.position]),
    [
      [{ text: 'one' }, 0],
      [{ text: 'three' }, 2],
    ],
  );
  assert.equal(
    faults.map(([, count]) => count),
    [1],
  );
});

test('a file or stream that was cut short gives the batches before the cut', async () => {
  for (const name of ['lz4', 'zstd']) {
    const bytes = readFileSync(fixture(name));
    const faults: string[] = [];
    const onBad = ({ message }: Error) => faults.push(message);
    const given = await collect(readRecords(file(bytes.subarray(0, 0.7 * bytes.length), 'arrow'), { onBad }));
    assert.ok(given.length === 60 || given.length === 90, `${name}: ${given.length} of 120 rows`);
    assert.match(
      faults.join(),
      new RegExp(
        `after row ${given.length}, found (the end of the file|a message of \\d+ bytes where \\d+ are left|no ARROW1)`,
      ),
    );
  }
});
