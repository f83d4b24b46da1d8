// SPDX-License-Identifier: Apache-2.0
// Files other than plain JSON: the same records come out of each format, whole; damaged, lying and bomb-like files end in an
// error that says what was expected, or are passed over as far as they are bad.
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { RecordBatch, RecordBatchFileWriter, RecordBatchStreamWriter, type Table, tableFromArrays } from 'apache-arrow';
import { parquetWriteBuffer } from 'hyparquet-writer';
import * as assert from 'uvu/assert';
import { readRecords } from '../../../datasets/files/records.js';
import { shared, suite } from '../../support/harness.js';
import { collect, file, jsonLines, userError } from '../toy.js';
import { xlsx, zip } from './archives.js';

const test = suite('datasets: file formats');

const rows = Array.from({ length: 3000 }, (_, i) => ({
  id: i,
  instruction: `प्रश्न ${i} ${'क'.repeat((i * 37) % 200)}`,
  input: i % 3 === 0 ? null : `input ${i}`,
  output: `उत्तर "${i}"\n${'ख '.repeat((i * 53) % 300)}`,
}));

const values = async (path: string) => (await collect(readRecords(path))).map(({ value }) => value);

test('gzip and Zstandard, whatever the name', async () => {
  for (const text of [jsonLines(rows), JSON.stringify(rows)]) {
    assert.equal(await values(file(gzipSync(text), 'json')), rows);
  }
  const [first] = await collect(readRecords(file(gzipSync('{"a":1}'))));
  assert.is(first?.bytes, undefined, 'cannot be read by position');
  // Written by zstd 1.5: two frames, of which the second is compressed.
  const frames = Buffer.concat([
    Buffer.from('KLUv/QRY6QAAeyJhIjoxfQp7ImEiOiLgpKrgpL7gpKjgpYAifQpDFaeN', 'base64'),
    Buffer.from(
      'KLUv/QRozQIAIoQOEaBveJuqeX6oKskCW8Kp3xoeIHtKCJ1jTCmEjAGyi7ZydljxO75v33RNaZvBp81cdeX1supBKH/HAQ+gEOh962/QazGaV/PKeDWvxkvzumZ1CnoHkgIEntgC',
      'base64',
    ),
  ]);
  const repeated = Array.from({ length: 8 }, (_, i) => ({
    a: i + 1,
    text: `the same words again and again, row ${i + 1}`,
  }));
  assert.equal(await values(file(frames)), [{ a: 1 }, { a: 'पानी' }, ...repeated]);
});

test('packed files that are cut short or damaged', async () => {
  const whole = gzipSync(jsonLines(rows));
  const flipped = Buffer.from(whole);
  flipped[whole.length >> 1]! ^= 0x55;
  const zstd = Buffer.from('KLUv/QRY6QAAeyJhIjoxfQp7ImEiOiLgpKrgpL7gpKjgpYAifQpDFaeN', 'base64');
  for (const bytes of [whole.subarray(0, whole.length - 1000), zstd.subarray(0, 30)]) {
    const { message } = await userError(() => values(file(bytes)));
    assert.match(message, /a whole (gzip|Zstandard) file, found .* after what has been read.*not fully copied/s);
  }
  await userError(() => values(file(flipped))); // may show as broken JSON first
  const faults: string[] = [];
  const cut = file(whole.subarray(0, whole.length >> 1));
  const given = await collect(readRecords(cut, { onBad: ({ message }) => faults.push(message) }));
  assert.ok(given.length > 500 && given.length < 2500, `${given.length} rows before the cut`);
  assert.equal(
    given.map(({ value }) => value),
    rows.slice(0, given.length),
  );
  assert.match(faults[0]!, /a whole gzip file/);
  assert.match(faults[1]!, /JSON with .*found the end of the row/);
});

test('a packed file that would unpack to a row without end', async () => {
  const bomb = gzipSync(Buffer.alloc(40 << 20, 'x'), { level: 9 });
  assert.match((await userError(() => values(file(bomb)))).message, /JSONL .*found byte 0x78/);
  const row = gzipSync(Buffer.concat([Buffer.from('{"a":"'), Buffer.alloc(40 << 20, 'x')]), { level: 9 });
  assert.match((await userError(() => values(file(row)))).message, /a row of at most 16 MiB/);
});

const columns = (of: typeof rows) => [
  { name: 'id', data: of.map(({ id }) => BigInt(id)), type: 'INT64' as const },
  { name: 'instruction', data: of.map(({ instruction }) => instruction), type: 'STRING' as const },
  { name: 'input', data: of.map(({ input }) => input), type: 'STRING' as const },
  { name: 'output', data: of.map(({ output }) => output), type: 'STRING' as const },
];

const parquet = (options: object = {}) =>
  Buffer.from(parquetWriteBuffer({ columnData: columns(rows), rowGroupSize: 1000, pageSize: 1 << 14, ...options }));

test('Parquet', async () => {
  for (const options of [{}, { rowGroupSize: 1e6 }, { codec: 'UNCOMPRESSED' }, { rowGroupSize: 7 }]) {
    const records = await collect(readRecords(file(parquet(options), 'parquet')));
    assert.equal(
      records.map(({ value }) => value),
      rows,
    );
    assert.match(String(records[1234]?.place), /\.parquet, row 1235$/);
  }
});

test('Parquet with corrupt pages: an error that names the rows, or all rows but those', async () => {
  const whole = parquet({ codec: 'UNCOMPRESSED' });
  // Bytes in the text of row 1500: its page is no UTF-8 any more.
  const at = whole.indexOf('प्रश्न 1500 ');
  whole.fill(0xff, at, at + 12);
  const path = file(whole, 'parquet');
  const given: unknown[] = [];
  const fault = await userError(async () => {
    for await (const { value } of readRecords(path)) given.push(value);
  });
  assert.match(fault.message, /rows \d+ to \d+ of a Parquet file, found pages that cannot be read/);
  assert.equal(given, rows.slice(0, given.length));
  let lost = 0;
  const faults: string[] = [];
  const rest = await collect(
    readRecords(path, {
      onBad: (bad, count) => {
        lost += count;
        faults.push(bad.message);
      },
    }),
  );
  assert.is(rest.length + lost, rows.length);
  assert.ok(lost >= 1 && lost < 400, `${lost} rows of the page`);
  for (const { value, place } of rest) assert.equal(value, rows[place.position]);
  assert.not.ok(rest.some(({ place }) => place.position === 1500));
});

test('Parquet that is compressed and damaged anywhere: rows or an error of ours, never a crash', async () => {
  const whole = parquet();
  let refused = 0;
  for (let n = 0; n < 24; n++) {
    const bytes = Buffer.from(whole);
    const at = 4 + ((n * 7919 * 31) % (whole.length - 4));
    bytes.fill(0xff, at, at + 8);
    try {
      for (const [i, value] of (await values(file(bytes, 'parquet'))).entries()) {
        if (JSON.stringify(Object.keys(value as object)) !== JSON.stringify(Object.keys(rows[i]!)))
          throw new Error('other columns');
      }
    } catch (fault) {
      if (!(fault as Error).message.startsWith('Expected')) throw fault;
      refused++;
    }
  }
  assert.ok(refused > 3, `${refused} of 24 refused`);
});

test('Parquet without an end', async () => {
  const whole = parquet();
  const claims = Buffer.from(whole);
  claims.writeUInt32LE(0x7fffffff, claims.length - 8);
  for (const bytes of [whole.subarray(0, 5000), Buffer.from('PAR1'), claims]) {
    assert.match(
      (await userError(() => values(file(bytes, 'parquet')))).message,
      /a Parquet file with its footer, found /,
    );
  }
});

const arrowTable = () =>
  tableFromArrays({
    id: Int32Array.from(rows, ({ id }) => id),
    instruction: rows.map(({ instruction }) => instruction),
    input: rows.map(({ input }) => input),
    output: rows.map(({ output }) => output),
  }) as Table;

/** In batches of 500 rows. */
function arrowBytes(kind: 'file' | 'stream'): Buffer {
  const writer = kind === 'file' ? new RecordBatchFileWriter() : new RecordBatchStreamWriter();
  const [batch] = arrowTable().batches;
  if (!(batch instanceof RecordBatch)) throw new Error('no batch');
  for (let from = 0; from < rows.length; from += 500) writer.write(batch.slice(from, from + 500));
  writer.finish();
  return Buffer.from(writer.toUint8Array(true));
}

test('Arrow files and streams', async () => {
  for (const kind of ['file', 'stream'] as const) {
    assert.equal(await values(file(arrowBytes(kind), 'arrow')), rows, kind);
  }
});

test('Arrow cut short: the batches before it are given', async () => {
  for (const kind of ['file', 'stream'] as const) {
    const whole = arrowBytes(kind);
    const path = file(whole.subarray(0, whole.length >> 1), 'arrow');
    const given: unknown[] = [];
    const fault = await userError(async () => {
      for await (const { value } of readRecords(path)) given.push(value);
    });
    assert.match(fault.message, /an Arrow file with a batch after row \d+, found /, kind);
    assert.equal(given, rows.slice(0, given.length));
  }
});

test('spreadsheets: inline and shared text, numbers, entities, empty cells and rows', async () => {
  const sheet = `
    <row r="1"><c r="A1" t="inlineStr"><is><t>id</t></is></c><c r="B1" t="s"><v>0</v></c><c r="D1" t="str"><v>last</v></c></row>
    <row r="2"/>
    <row r="3"><c r="A3"><v>1</v></c><c r="B3" t="inlineStr"><is><t xml:space="preserve"> &#x92A;&#2366;&amp;&lt;_x000D_</t></is></c></row>
    <row r="4"><c r="B4" t="s"><v>1</v></c><c r="D4" t="n"><v>2.5</v></c></row>`;
  const text =
    '<si><t>question</t></si><si><r><t>two </t></r><rPh sb="0" eb="1"><t>guide</t></rPh><r><t>runs</t></r></si>';
  assert.equal(await values(file(xlsx(sheet, { shared: text }), 'xlsx')), [
    { id: 1, question: ' पा&<\r', C: null, last: null },
    { id: null, question: 'two runs', C: null, last: 2.5 },
  ]);
});

test('the published question sheets', async () => {
  for (const language of ['nepali', 'sanskrit']) {
    const records = (await values(shared('data', 'taco', `vicuna-questions-${language}.xlsx`))) as Record<
      string,
      unknown
    >[];
    const judged: { question: string }[] = JSON.parse(
      readFileSync(shared('data', 'taco', `judgements-${language}.json`), 'utf8'),
    );
    assert.equal(
      records.map((record) => Object.values(record)),
      judged.map(({ question }, i) => [i + 1, question]),
    );
  }
});

test('archives that lie, are damaged or unpack to gigabytes', async () => {
  const message = async (bytes: Uint8Array) => (await userError(() => values(file(bytes, 'xlsx')))).message;
  const bomb = ' '.repeat(65 << 20);
  assert.match(
    await message(xlsx(bomb)),
    /'xl\/worksheets\/first\.xml' to unpack to at most 64 MiB, found 6815\d+ bytes/,
  );
  assert.match(await message(xlsx(bomb, { claimedBytes: 1000 })), /first\.xml' of 1000 bytes, found more/);
  const whole = xlsx('<row><c><v>1</v></c></row>');
  assert.match(await message(whole.subarray(0, whole.length - 30)), /an archive with a directory at its end/);
  const damaged = Buffer.from(whole);
  damaged[whole.indexOf('first.xml') + 12]! ^= 0xff;
  assert.match(await message(damaged), /an archive with 'xl\/worksheets\/first\.xml'/);
  assert.match(
    await message(zip([{ name: 'a', content: 'b' }])),
    /an XLSX spreadsheet, found an archive without xl\/workbook\.xml/,
  );
});
