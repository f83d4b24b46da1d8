// SPDX-License-Identifier: Apache-2.0
// The live line on a terminal and its plain counterpart, the time left, and numbers as people read them.
import * as assert from 'uvu/assert';
import { bytes, digits, duration, quantity, table } from '../../cli/format.js';
import { Progress, TimeLeft } from '../../cli/progress.js';
import { suite } from '../support/harness.js';

const test = suite('cli/progress');

/** What a stream was given. */
function recorder(terminal?: { columns: number }) {
  const texts: string[] = [];
  const stream = { isTTY: terminal !== undefined, ...terminal, write: (text: string) => texts.push(text) };
  return { texts, progress: new Progress(stream as unknown as NodeJS.WriteStream) };
}

test('on a terminal the line is rewritten, clipped, and lines pass above it', () => {
  const { texts, progress } = recorder({ columns: 10 });
  progress.update('step 1');
  progress.update('step 2 and more');
  progress.print('held out');
  progress.end();
  progress.end();
  assert.equal(texts, [
    '\r\u001b[Kstep 1',
    '\r\u001b[Kstep 2 an',
    '\r\u001b[K',
    'held out\n',
    '\r\u001b[Kstep 2 an',
    '\n',
  ]);
});

test('elsewhere it is printed now and then, and where it is to be kept', () => {
  const { texts, progress } = recorder();
  progress.update('one');
  progress.update('two');
  progress.update('three', true);
  progress.print('four');
  progress.end();
  assert.equal(texts, ['one\n', 'three\n', 'four\n']);
});

test('the time left follows the pace', () => {
  const time = new TimeLeft();
  assert.ok(Number.isNaN(time.seconds(3)));
  time.add(1000);
  assert.is(time.seconds(10), 10);
  for (let i = 0; i < 100; i++) time.add(100);
  assert.ok(Math.abs(time.seconds(10) - 1) < 0.01);
});

test('numbers have units and three digits', () => {
  assert.equal([0, 512, 1536, 3 * 2 ** 30].map(bytes), ['0 B', '512 B', '1.50 KiB', '3.00 GiB']);
  assert.equal(
    [0, 999, 32528943616].map((n) => quantity(n)),
    ['0', '999', '32.5 G'],
  );
  assert.is(quantity(1.5e12, 'FLOP'), '1.50 TFLOP');
  assert.equal([0.001234, 1, 123.4, 99999, Number.NaN].map(digits), ['0.00123', '1.00', '123', '99999', 'NaN']);
  assert.equal([0.0421, 9.9, 59.999, 125, 3600, 90000, 620 * 86400, Number.NaN].map(duration), [
    '42.1 ms',
    '9.90 s',
    '60.0 s',
    '2 min 05 s',
    '1 h 00 min',
    '25 h 00 min',
    '620 d 0 h',
    '?',
  ]);
});

test('columns are aligned', () => {
  assert.is(table([['a', '1'], ['bbb', '22', 'x'], []], '<><', 1), ' a     1\n bbb  22  x\n');
});
