// SPDX-License-Identifier: Apache-2.0
// Checkpoints of a run under faults: whichever call to the disk fails, the run has its old state or its new one, whole.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { findRunState, listRunStates, saveRunState, writeFileAtomically } from '../../checkpoints/index.js';
import { suite } from '../support/harness.js';
import { inFolder } from '../support/tiny.js';
import { faultyLayer } from './support.js';

const test = suite('checkpoints/run-state');

const write = (text: string) => async (folder: string, layer: Parameters<Parameters<typeof saveRunState>[2]>[1]) => {
  writeFileAtomically(join(folder, 'one'), `one ${text}`, layer);
  writeFileAtomically(join(folder, 'two'), `two ${text}`, layer);
};

for (const [duration, code] of [
  ['once', 'EIO'],
  ['after', 'ENOSPC'],
  ['after', 'EROFS'],
] as const) {
  test(`${code}, ${duration} the n-th call: the newest checkpoint found is whole, for every n`, async () => {
    let n = 0;
    for (let reached = true; reached; n++) {
      await inFolder(async (run) => {
        await saveRunState(run, { step: 10, keep: 2 }, write('old'));
        const layer = faultyLayer(n, duration, code);
        const saved = await saveRunState(run, { step: 20, keep: 2, layer }, write('new')).then(
          () => true,
          () => false,
        );
        reached = layer.calls > n;
        const folder = findRunState(run);
        const expected = folder.endsWith('step-00000020') ? 'new' : 'old';
        if (saved) assert.is(expected, 'new');
        for (const name of ['one', 'two']) assert.is(readFileSync(join(folder, name), 'utf8'), `${name} ${expected}`);
        // And the run can go on once the disk works again.
        await saveRunState(run, { step: 30, keep: 2 }, write('later'));
        assert.match(findRunState(run), 'step-00000030');
        assert.equal(
          readdirSync(join(run, 'checkpoints')).filter((name) => name.startsWith('.step')),
          [],
        );
      });
    }
    assert.ok(n > 8, `only ${n} calls were made to fail`);
  });
}

test('the last K are kept, `latest` names the newest', async () => {
  await inFolder(async (run) => {
    for (const step of [1, 2, 3, 4]) await saveRunState(run, { step, keep: 2 }, write(String(step)));
    assert.equal(listRunStates(run), ['step-00000003', 'step-00000004']);
    assert.is(readFileSync(join(run, 'checkpoints', 'latest'), 'utf8'), 'step-00000004\n');
  });
});

test('a missing file, an added bit and a foreign `latest` are noticed or survived', async () => {
  await inFolder(async (run) => {
    await saveRunState(run, { step: 1, keep: 3 }, write('1'));
    await saveRunState(run, { step: 2, keep: 3 }, write('2'));
    const newest = join(run, 'checkpoints', 'step-00000002');
    rmSync(join(newest, 'two'));
    assert.throws(() => findRunState(run), /no two.*--checkpoint step-00000001/s);
    assert.match(findRunState(run, 'step-00000001'), 'step-00000001');
    writeFileSync(join(newest, 'two'), 'two 3');
    assert.throws(() => findRunState(run), /two with other contents/);
    rmSync(newest, { recursive: true });
    assert.match(findRunState(run), 'step-00000001'); // `latest` names a folder that is gone
    writeFileSync(join(run, 'checkpoints', 'latest'), '../../etc');
    assert.match(findRunState(run), 'step-00000001');
    mkdirSync(join(run, 'checkpoints', 'step-00000005'));
    assert.throws(() => findRunState(run, 'step-00000005'), /manifest|list of its files/);
  });
});

test('killed while one checkpoint takes the place of another of the same step, the run has one of the two', async () => {
  await inFolder(async (run) => {
    await saveRunState(run, { step: 1, keep: 1 }, write('first'));
    const parent = join(run, 'checkpoints');
    renameSync(join(parent, 'step-00000001'), join(parent, '.step-00000001.old'));
    const found = findRunState(run);
    assert.is(readFileSync(join(found, 'one'), 'utf8'), 'one first');
    await saveRunState(run, { step: 1, keep: 1 }, write('again'));
    assert.is(readFileSync(join(findRunState(run), 'one'), 'utf8'), 'one again');
    assert.equal(readdirSync(parent).sort(), ['latest', 'step-00000001']);
  });
});

test('killed while an old checkpoint is removed, the run does not count it as one', async () => {
  await inFolder(async (run) => {
    await saveRunState(run, { step: 1, keep: 1 }, write('1'));
    mkdirSync(join(run, 'checkpoints', '.step-00000002.old'));
    writeFileSync(join(run, 'checkpoints', '.step-00000002.old', 'one'), 'one 2');
    assert.equal(listRunStates(run), ['step-00000001']);
    assert.match(findRunState(run), 'step-00000001');
  });
});
