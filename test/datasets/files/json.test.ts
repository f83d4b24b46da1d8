// SPDX-License-Identifier: Apache-2.0
// Reading JSON records as a stream: whatever the layout and wherever chunks end, the records are those of JSON.parse; every
// fault is told with its line and byte, after the records before it have been given.
import * as assert from 'uvu/assert';
import { jsonFault } from '../../../datasets/files/json-fault.js';
import { readRecords } from '../../../datasets/files/records.js';
import { suite } from '../../support/harness.js';
import { collect, file, jsonLines, userError } from '../toy.js';

const test = suite('datasets: JSON records');

async function values(path: string): Promise<unknown[]> {
  return (await collect(readRecords(path))).map(({ value }) => value);
}

/** The records before the fault, and the fault. */
async function untilFault(content: string | Uint8Array) {
  const path = file(content);
  const given: unknown[] = [];
  const error = await userError(async () => {
    for await (const { value } of readRecords(path)) given.push(value);
  });
  return { given, error, message: error.message.replaceAll(path, 'FILE') };
}

test('JSONL with a byte order mark, carriage returns, blank lines and no last line feed', async () => {
  const path = file('\ufeff{"a":1}\r\n\r\n  \n{"a":"पा\\n"}\n{"a":3}');
  const records = await collect(readRecords(path));
  assert.equal(
    records.map(({ value }) => value),
    [{ a: 1 }, { a: 'पा\n' }, { a: 3 }],
  );
  assert.equal(
    records.map(({ place }) => [place.text?.line, place.text?.byte, place.position]),
    [
      [1, 3, 0],
      [4, 17, 1],
      [5, 34, 2],
    ],
  );
});

test('a JSON array in any layout', async () => {
  const rows = [{ a: '[{"\\' }, { b: { c: [[], {}] } }, {}, { d: '}]\u2028"' }];
  for (const text of [
    JSON.stringify(rows),
    JSON.stringify(rows, null, 4),
    `\ufeff\n ${JSON.stringify(rows, null, '\t')}\r\n\n`,
  ]) {
    assert.equal(await values(file(text, 'json')), rows);
  }
  const [, second] = await collect(readRecords(file('[\n  {"a":\n 1},\n  {"b": 2}\n]', 'json')));
  assert.equal([second?.place.text, second?.place.position], [{ line: 4, byte: 17 }, 1]);
});

test('records that cross chunks', async () => {
  // About 4 MiB of rows of 1 to 300 KB, so that chunks of 1 MiB end inside text, inside characters and between rows.
  const rows = Array.from({ length: 60 }, (_, i) => ({ i, text: 'नमस्ते "\\\n'.repeat(1 + ((i * 7919) % 5000)) }));
  assert.equal(await values(file(jsonLines(rows))), rows);
  assert.equal(await values(file(JSON.stringify(rows), 'json')), rows);
  const records = await collect(readRecords(file(JSON.stringify(rows, null, 2), 'json')));
  const text = JSON.stringify(rows, null, 2);
  for (const [i, { place }] of records.entries()) {
    const { line, byte } = place.text!;
    assert.is(line, 2 + 4 * i);
    const before = text.split('\n').slice(0, line - 1);
    assert.is(byte, Buffer.byteLength(before.join('\n')) + 3, `${i}: after the indentation`);
  }
});

test('broken JSON in the middle: line, byte, what was expected; the rows before it are given', async () => {
  const good = jsonLines([{ a: 'पानी' }, { a: 2 }]);
  const at = Buffer.byteLength(good);
  const cases: [string, string, RegExp][] = [
    ['{"a": 1 "b": 2}', '"b"', /JSON with ',' or '\}', found '"'/],
    ['{"a": NaN}', 'NaN', /JSON with a value, found 'NaN'/],
    ['{"a": "x', '', /JSON with a closing " for the string "x…, found the end of the row/],
    ['{"a": "पानी\tx"}', '\tx', /JSON with an escape \(\\u0009\), found a raw control character/],
    ['{"a": "\\x"}', '\\x', /JSON with a JSON escape after \\, found '\\x'/],
    ['{"a": [1, 2}', '}', /JSON with ',' or '\]', found '\}'/],
    ['{"a": 1}}', '}', /JSON with the end, found '\}'/],
    ['{"a": 1,}', '}', /JSON with a name in quotes, found '\}'/],
    ["{'a': 1}", "'a'", /JSON with a name in quotes or '\}', found '''/],
  ];
  for (const [broken, fault, expected] of cases) {
    const { given, message } = await untilFault(`${good}${broken}\n{"a": 4}\n`);
    assert.equal(given, [{ a: 'पानी' }, { a: 2 }], broken);
    assert.match(message, expected);
    const offset = fault === '' ? broken.length : fault === '}' ? broken.lastIndexOf(fault) : broken.indexOf(fault);
    const byte = at + Buffer.byteLength(broken.slice(0, offset));
    assert.match(message, `FILE, line 3, byte ${byte}`, broken);
  }
});

test('faults of an array', async () => {
  const cases: [string, number, RegExp][] = [
    ['[{"a":1}\n{"a":2}]', 1, /',' or '\]' after a row, found '\{'.*line 2, byte 9/s],
    ['[{"a":1},\n]', 1, /'\{' for the next row, found '\]'.*line 2, byte 10/s],
    ['[{"a":1}, 2]', 1, /'\{' for the next row, found '2'.*line 1, byte 10/s],
    ['[{"a":1}] x', 1, /nothing after the array's '\]', found 'x'.*byte 10/s],
    ['[{"a":1},\n{"a":2}', 2, /',' or '\]' after a row, found the end of the file.*line 2, byte 17/s],
    ['[{"a":1},\n{"a":\n"पा', 1, /closing ".*found the end of the file.*line 3, byte 23/s],
    ['[{"a":1},\n{"a":"x},\n{"b":"y"}]', 1, /escape \(\\u000a\), found a raw control.*line 2, byte 19/s],
    ['[{"a":1},\n{"a":{"b":1},\n{"b":"y"}]', 1, /name in quotes, found '\{'.*line 3, byte 24/s],
    ['[', 0, /'\{' or '\]', found the end of the file.*byte 1/s],
  ];
  for (const [text, given, expected] of cases) {
    const fault = await untilFault(text);
    assert.is(fault.given.length, given, text);
    assert.match(fault.message, expected);
  }
});

test('a lost quote does not take in the rest of a large file', async () => {
  const rows = '{"a":"x},\n'.concat('{"a":"y"},\n'.repeat(2_000_000)); // 22 MB
  const { message } = await untilFault(`[${rows}{}]`);
  assert.match(message, /raw control character.*line 1, byte 10/s);
  const long = await untilFault(`{"a":"${'x'.repeat(17 << 20)}"}`);
  assert.match(long.message, /at most 16 MiB/);
});

test('encodings that are not UTF-8', async () => {
  const broken = Buffer.concat([Buffer.from('{"a":"पा'), Buffer.from([0xe0, 0xa4]), Buffer.from('"}\n')]);
  const { given, message } = await untilFault(Buffer.concat([Buffer.from('{"a":1}\n'), broken]));
  assert.equal(given, [{ a: 1 }]);
  assert.match(message, /UTF-8, found byte 0xe0.*line 2, byte 20/s);
  for (const text of ['\ufeff{"a":1}\n', '{"a":1}\n']) {
    const utf16 = Buffer.from(text, 'utf16le');
    assert.match((await untilFault(utf16)).message, /UTF-8, found UTF-16/);
    assert.match((await untilFault(utf16.swap16())).message, /UTF-8, found UTF-16/);
  }
  const latin1 = await untilFault(Buffer.from('{"a":1}\n{"a":"caf\u00e9"}\n', 'latin1'));
  assert.match(latin1.message, /found byte 0xe9, which does not belong to a character.*line 2, byte 17/s);
});

test('what is no data file', async () => {
  assert.match((await untilFault('')).message, /at least one row, found an empty file/);
  assert.match((await untilFault(' \n\n')).message, /at least one row, found an empty file/);
  assert.match((await untilFault('<html>')).message, /JSONL .* or a JSON array .*found byte 0x3c/);
  assert.match(
    (await userError(() => collect(readRecords('nowhere.jsonl')))).message,
    /nothing there.*nowhere\.jsonl/s,
  );
  assert.match((await userError(() => collect(readRecords('.')))).message, /a data file, found a folder/);
});

/** What is read where faults are passed over, and the faults. */
async function passing(content: string | Uint8Array) {
  const path = file(content);
  const faults: string[] = [];
  let lost = 0;
  const onBad = (fault: Error, count: number) => {
    faults.push(fault.message.replaceAll(path, 'FILE'));
    lost += count;
  };
  const records = await collect(readRecords(path, { onBad }));
  return {
    values: records.map(({ value }) => value),
    positions: records.map(({ place }) => place.position),
    faults,
    lost,
    records,
  };
}

const good = (i: number) => ({ a: i, text: `पानी "${i}", {"x": 1}, \\ [` });

test('bad rows are passed over and counted: JSONL', async () => {
  const lines = [good(0), good(1), good(2), good(3)].map((row) => JSON.stringify(row));
  lines.splice(1, 0, '{"a": NaN}');
  lines.splice(3, 0, '{"a": "lost quote}', `{"a": "${'x'.repeat(17 << 20)}"}`);
  const { values, positions, faults, lost } = await passing(lines.join('\n'));
  assert.equal(values, [good(0), good(1), good(2), good(3)]);
  assert.equal(positions, [0, 2, 5, 6], 'rows keep their positions');
  assert.is(lost, 3);
  assert.match(faults[0]!, /a value, found 'NaN'.*FILE, line 2/s);
  assert.match(faults[1]!, /closing ".*FILE, line 4/s);
  assert.match(faults[2]!, /at most 16 MiB.*FILE, line 5/s);
});

test('bad rows are passed over and counted: an array, in any layout', async () => {
  const broken = [
    '{"a": NaN, "b": "x"}',
    '{"a": "lost quote, "b": "x"}',
    '{"a": "x", "b": "lost quote}',
    '{"a": {"b": "lost brace"}',
    '{"a": ["lost bracket"}',
    '"no object"',
    '{"a": "raw\nline"}',
  ];
  for (const indent of [undefined, 4]) {
    const rows = [0, 1, 2, 3, 4].map((i) => JSON.stringify(good(i), null, indent));
    for (const bad of broken) {
      const text = `[${[...rows.slice(0, 2), bad, ...rows.slice(2)].join(',\n')}]`;
      const { values, positions, faults, lost, records } = await passing(text);
      assert.equal(values, [0, 1, 2, 3, 4].map(good), bad);
      assert.equal([positions, lost, faults.length], [[0, 1, 3, 4, 5], 1, 1], bad);
      const { line, byte } = records[2]!.place.text!;
      const at = Buffer.byteLength(text.slice(0, text.indexOf(rows[2]!)));
      assert.equal([line, byte], [text.slice(0, text.indexOf(rows[2]!)).split('\n').length, at], `place after ${bad}`);
    }
  }
});

test('what takes no row with it: a comma too few or too many, a missing end', async () => {
  const [a, b, c] = [0, 1, 2].map((i) => JSON.stringify(good(i)));
  for (const text of [
    `[${a}\n${b},${c}]`,
    `[${a},,${b},${c}]`,
    `[${a},${b},${c},]`,
    `[${a},${b},${c}`,
    `[${a},${b}][${c}]`,
  ]) {
    const { values, faults, lost } = await passing(text);
    assert.equal(values, [good(0), good(1), good(2)], text);
    assert.equal([faults.length, lost], [1, 0], text);
  }
  const cut = await passing(`[${a},${b},${c!.slice(0, 20)}`);
  assert.equal([cut.values, cut.lost], [[good(0), good(1)], 1]);
  assert.match(cut.faults[0]!, /found the end of the file/);
});

test('a broken row in the middle of 100 MB: the rows on both sides of it, whatever it took', async () => {
  const row = JSON.stringify({ instruction: 'पानी '.repeat(60), input: '', output: 'उत्तर "क" '.repeat(90) });
  const half = Math.ceil((50 << 20) / Buffer.byteLength(row));
  const half1 = `[${`${row},\n`.repeat(half)}`;
  const broken = row.replace('"input": ""', '"input": "').replace('"input":""', '"input":"');
  const path = file(
    Buffer.concat([Buffer.from(half1), Buffer.from(`${broken},\n`), Buffer.from(`${`${row},\n`.repeat(half)}${row}]`)]),
  );
  const count = async (onBad?: (fault: Error) => void) => {
    let rows = 0;
    for await (const { value } of readRecords(path, onBad ? { onBad } : {})) {
      if (JSON.stringify(value) !== row) throw new Error(`row ${rows} is another`);
      rows++;
    }
    return rows;
  };
  let given = 0;
  const fault = await userError(async () => {
    for await (const _ of readRecords(path)) given++;
  });
  assert.is(given, half, 'the rows before it');
  const line = half + 1;
  assert.match(fault.message, /expected|Expected JSON with ',' or '}'/);
  assert.match(fault.message, `line ${line}, byte `);
  const faults: string[] = [];
  assert.is(await count((bad) => faults.push(bad.message)), 2 * half + 1);
  assert.is(faults.length, 1);
});

test('jsonFault agrees with JSON.parse', () => {
  const base = '{"a": [1, -2.5e+3, true, null, {"b": "\\u00e9\\n"}], "c": ""}';
  const alphabet = ['"', '{', '}', '[', ']', ',', ':', '0', '-', '.', 'e', 'x', '\\', '\n', ' '];
  const broken = (text: string) => {
    try {
      JSON.parse(text);
      return false;
    } catch {
      return true;
    }
  };
  let faults = 0;
  for (let at = 0; at <= base.length; at++) {
    for (const char of [...alphabet, '']) {
      for (const removed of [0, 1]) {
        const text = base.slice(0, at) + char + base.slice(at + removed);
        assert.is(jsonFault(text) !== undefined, broken(text), text);
        if (broken(text)) faults++;
      }
    }
  }
  assert.ok(faults > 1000);
  assert.is(jsonFault('['.repeat(1e5))?.offset, 1e5);
});
