// SPDX-License-Identifier: Apache-2.0
// Replacing files: at every call that can fail, the directory holds all the old files or all the new ones.
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import * as assert from 'uvu/assert';
import { openFile, Replacement, readTextFile } from '../../checkpoints/files.js';
import { type FileLayer, systemFiles, writeFileAtomically } from '../../checkpoints/index.js';
import { projectRoot, suite } from '../support/harness.js';
import { contents, faultyLayer, inDirectory, throwsUserError } from './support.js';

const test = suite('checkpoints/files');

function replace(directory: string, files: Record<string, string>, layer: FileLayer): void {
  const replacement = new Replacement(directory, layer);
  try {
    for (const [name, text] of Object.entries(files)) replacement.create(name).write(text, 0);
    replacement.commit();
  } finally {
    replacement.close();
  }
}

const OLD = { weights: 'old weights', config: 'old config' };
const NEW = { weights: 'new weights', config: 'new config' };

/** Calls `body` with a layer failing at call 0, 1, …, until it runs through; gives the number of calls. */
function atEveryCall(duration: 'once' | 'after', body: (layer: FileLayer, n: number) => void): number {
  for (let n = 0; ; n++) {
    const layer = faultyLayer(n, duration);
    body(layer, n);
    if (layer.calls <= n) return n;
    assert.ok(n < 100, 'it should have run through by now');
  }
}

test('a file is written, also into a folder that is not there yet, and replaced', () => {
  inDirectory((directory) => {
    const path = join(directory, 'new', 'folder', 'file');
    writeFileAtomically(path, 'one');
    assert.is(readFileSync(path, 'utf8'), 'one');
    writeFileAtomically(path, new Uint16Array([0x4142, 0x4344]));
    assert.is(readFileSync(path, 'utf8'), 'BADC');
    assert.equal(readdirSync(join(directory, 'new', 'folder')), ['file']);
  });
});

test('a write that the system cuts short goes on', () => {
  inDirectory((directory) => {
    const layer = {
      ...systemFiles,
      write: (f: number, b: Uint8Array, p: number) => systemFiles.write(f, b.subarray(0, 3), p),
    };
    writeFileAtomically(join(directory, 'file'), 'a longer text', layer);
    assert.is(readFileSync(join(directory, 'file'), 'utf8'), 'a longer text');
  });
});

test('one file: a fault at any call leaves the old or the new contents and nothing else', () => {
  let seenOld = 0;
  const calls = atEveryCall('once', (layer, n) => {
    inDirectory((directory) => {
      const path = join(directory, 'file');
      writeFileSync(path, 'old');
      const run = () => writeFileAtomically(path, 'new text', layer);
      // create, write, sync, close, rename, syncDirectory
      if (n < 6) throwsUserError(run, { found: /^no space left/, where: /tacotune-/, remedy: /free some space/ });
      else run();
      assert.equal(contents(directory), { file: n < 5 ? 'old' : 'new text' }, `fault at call ${n}`);
      if (n < 5) seenOld++;
    });
  });
  assert.is(calls, 6);
  assert.is(seenOld, 5);
});

test('several files: a fault at any call leaves all the old or all the new, and nothing else', () => {
  const calls = atEveryCall('once', (layer, n) => {
    inDirectory((directory) => {
      replace(directory, OLD, systemFiles);
      let failed = false;
      try {
        replace(directory, NEW, layer);
      } catch {
        failed = true;
      }
      const found = contents(directory);
      // Creating and writing, syncing and closing two files, moving two aside, two renames: 12 calls before all is in place.
      const committed = n >= 12;
      const { 'weights.previous': left1, 'config.previous': left2, ...files } = found;
      assert.equal(files, committed ? NEW : OLD, `fault at call ${n}`);
      assert.is(failed, n <= 12, `call ${n}`); // later ones only tidy up
      assert.is(left1 !== undefined || left2 !== undefined, n >= 12 && n < 15, 'old files go last');
    });
  });
  assert.is(calls, 15);
});

test('several files, killed at any call: never a mix of old and new, and the old is never lost', () => {
  atEveryCall('after', (layer, n) => {
    inDirectory((directory) => {
      replace(directory, OLD, systemFiles);
      try {
        replace(directory, NEW, layer);
      } catch {
        // As it must until the last calls.
      }
      const found = contents(directory);
      const whole = (files: typeof OLD) => found['weights'] === files.weights && found['config'] === files.config;
      const old = [found['weights'], found['weights.previous'], found['config'], found['config.previous']];
      if (!whole(OLD) && !whole(NEW)) {
        assert.is(
          found['config'],
          undefined,
          `killed at call ${n}: readers must not find the file that they open first`,
        );
        assert.ok(old.includes(OLD.weights) && old.includes(OLD.config), `killed at call ${n}`);
      }
    });
  });
});

test('what a killed process left is gone after the next writing, what living ones and other machines write stays', () => {
  inDirectory((directory) => {
    const path = join(directory, 'file');
    const script = `
      const { Replacement } = await import(${JSON.stringify(join(projectRoot, 'dist', 'checkpoints', 'files.js'))});
      new Replacement(${JSON.stringify(directory)}).create('other').write('half', 0);
      process.kill(process.pid, 'SIGKILL');`;
    const { signal, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', script]);
    assert.is(signal, 'SIGKILL', String(stderr));
    const [left] = readdirSync(directory);
    assert.match(left!, /^\.other\.[0-9a-f]{8}-\d+-[0-9a-f]{8}\.tmp$/);
    const mine = new Replacement(directory).create('file').temporary; // of a writer that lives: this process
    const elsewhere = left!.replace(/\.[0-9a-f]{8}-/, '.00000000-');
    writeFileSync(join(directory, elsewhere), 'half');
    writeFileSync(join(directory, '.notes.tmp'), 'of someone else');
    writeFileAtomically(path, 'whole');
    assert.equal(readdirSync(directory).sort(), ['.notes.tmp', elsewhere, basename(mine), 'file'].sort());
  });
});

test('several files of which one changes: one rename, so no moment without files', () => {
  inDirectory((directory) => {
    replace(directory, OLD, systemFiles);
    const renames: string[] = [];
    const rename = (from: string, to: string) => {
      renames.push(to);
      systemFiles.rename(from, to);
    };
    replace(directory, { weights: 'new weights', config: OLD.config }, { ...systemFiles, rename });
    assert.equal(renames, [join(directory, 'weights')]);
    assert.equal(contents(directory), { weights: 'new weights', config: OLD.config });
  });
});

test('a link is replaced, what it points to stays', () => {
  inDirectory((directory) => {
    writeFileSync(join(directory, 'blob'), 'shared');
    symlinkSync('blob', join(directory, 'file'));
    writeFileAtomically(join(directory, 'file'), 'mine');
    assert.equal(contents(directory), { blob: 'shared', file: 'mine' });
  });
});

test('places that cannot be written are named', () => {
  inDirectory((directory) => {
    mkdirSync(join(directory, 'folder'));
    writeFileSync(join(directory, 'file'), '');
    throwsUserError(() => writeFileAtomically(join(directory, 'folder'), ''), { found: /a folder of that name/ });
    throwsUserError(() => writeFileAtomically(join(directory, 'file', 'x'), ''), {
      found: /a file where the path needs a folder/,
    });
    for (const [code, found] of [
      ['EROFS', /read-only/],
      ['EACCES', /no permission/],
      ['EDQUOT', /quota/],
      ['EXYZ', /EXYZ: injected/],
    ] as const) {
      throwsUserError(() => writeFileAtomically(join(directory, 'file'), 'x', faultyLayer(0, 'once', code)), { found });
    }
    assert.equal(readdirSync(directory).sort(), ['file', 'folder']);
  });
});

test('reading: what is no regular file of a fair size in UTF-8 is refused by name', () => {
  inDirectory((directory) => {
    const path = join(directory, 'x.json');
    throwsUserError(() => readTextFile(path, 'a config', 10), {
      expected: /a config/,
      found: /nothing of that name/,
      where: /x\.json/,
    });
    throwsUserError(() => readTextFile(directory, 'a config', 10), { found: /a folder/ });
    throwsUserError(() => openFile('/dev/null', 'a config'), { found: /no regular file/ });
    writeFileSync(path, '0123456789a');
    throwsUserError(() => readTextFile(path, 'a config', 10), { expected: /at most 10 bytes/, found: /11 bytes/ });
    writeFileSync(path, Buffer.from([0xff, 0xfe]));
    throwsUserError(() => readTextFile(path, 'a config', 10), { expected: /UTF-8/ });
    symlinkSync('loop', join(directory, 'loop'));
    throwsUserError(() => openFile(join(directory, 'loop'), 'a config'), { found: /circle of symbolic links/ });
    if (process.getuid?.() !== 0) {
      chmodSync(path, 0);
      throwsUserError(() => openFile(path, 'a config'), { found: /no permission/ });
    }
    assert.ok(existsSync(path));
  });
});
