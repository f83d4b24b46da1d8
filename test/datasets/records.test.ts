// SPDX-License-Identifier: Apache-2.0
// Reading JSON records as a stream: whatever the layout and wherever chunks end, the records are those of JSON.parse; every
// fault is told with its line and byte, after the records before it have been given.
import * as assert from 'uvu/assert';
import { jsonFault } from '../../datasets/json-fault.js';
import { type Frame, parseFrame, readFrames } from '../../datasets/records.js';
import { suite } from '../support/harness.js';
import { collect, file, jsonLines, userError } from './toy.js';

const test = suite('datasets: records');

async function values(path: string): Promise<unknown[]> {
  return (await collect(readFrames(path))).map(parseFrame);
}

/** The records before the fault, and the fault. */
async function untilFault(content: string | Uint8Array) {
  const path = file(content);
  const given: unknown[] = [];
  const error = await userError(async () => {
    for await (const frame of readFrames(path)) given.push(parseFrame(frame));
  });
  return { given, error, message: error.message.replaceAll(path, 'FILE') };
}

test('JSONL with a byte order mark, carriage returns, blank lines and no last line feed', async () => {
  const path = file('\ufeff{"a":1}\r\n\r\n  \n{"a":"पा\\n"}\n{"a":3}');
  const frames = await collect(readFrames(path));
  assert.equal(frames.map(parseFrame), [{ a: 1 }, { a: 'पा\n' }, { a: 3 }]);
  assert.equal(
    frames.map(({ place }) => [place.line, place.byte, place.position]),
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
  const [, second] = await collect(readFrames(file('[\n  {"a":\n 1},\n  {"b": 2}\n]', 'json')));
  assert.equal([second?.place.line, second?.place.byte, second?.place.position], [4, 17, 1]);
});

test('records that cross chunks', async () => {
  // About 4 MiB of rows of 1 to 300 KB, so that chunks of 1 MiB end inside text, inside characters and between rows.
  const rows = Array.from({ length: 60 }, (_, i) => ({ i, text: 'नमस्ते "\\\n'.repeat(1 + ((i * 7919) % 5000)) }));
  assert.equal(await values(file(jsonLines(rows))), rows);
  assert.equal(await values(file(JSON.stringify(rows), 'json')), rows);
  const frames: Frame[] = await collect(readFrames(file(JSON.stringify(rows, null, 2), 'json')));
  const text = JSON.stringify(rows, null, 2);
  for (const [i, { place }] of frames.entries()) {
    assert.is(place.line, 2 + 4 * i);
    assert.is(
      place.byte,
      Buffer.byteLength(
        text
          .split('\n')
          .slice(0, place.line - 1)
          .join('\n'),
      ) + 3,
      `${i}: after the indentation`,
    );
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
  assert.match((await untilFault(Buffer.from('\ufeff{"a":1}\n', 'utf16le'))).message, /UTF-8, found UTF-16/);
});

test('what is no data file', async () => {
  assert.match((await untilFault('')).message, /at least one row, found an empty file/);
  assert.match((await untilFault(' \n\n')).message, /at least one row, found an empty file/);
  assert.match(
    (await untilFault(Buffer.from([0x1f, 0x8b, 8, 0]))).message,
    /JSONL .* or a JSON array .*found byte 0x1f/,
  );
  assert.match((await userError(() => collect(readFrames('nowhere.jsonl')))).message, /nothing there.*nowhere\.jsonl/s);
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
