// SPDX-License-Identifier: Apache-2.0
// The stand-in driver: mistakes of host code that a GPU forgives nearly always show on it every time, and doing it right
// passes, with copies of other streams as late and as early as their events allow. And the fragments of mma.sync and ldmatrix
// lie where the PTX ISA says, in every order of threads.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { buildEmulator, emulatedDriver } from '../support/emulator.js';
import { projectRoot, suite } from '../support/harness.js';

const test = suite('cuda: emulator', 300_000);

function misuse(args: string[], settings: Record<string, string> = {}): string {
  buildEmulator('--misuse');
  const { stdout } = spawnSync(join(projectRoot, 'build', 'emulator', 'misuse'), args, {
    encoding: 'utf8',
    env: { ...process.env, ...emulatedDriver(), ...settings },
  });
  return stdout.trim();
}

const late = { TACOTUNE_EMULATOR_STREAMS: 'late' };
const early = { TACOTUNE_EMULATOR_STREAMS: 'early' };

/** What each mistake shows, and in which order of streams. */
const MISTAKES: Record<string, { settings: Record<string, string>; shows: RegExp }> = {
  'kernel-before-its-input': { settings: late, shows: /^wrong$/ },
  'input-overwritten-too-early': { settings: early, shows: /^wrong$/ },
  'pinned-memory-reused': { settings: late, shows: /^wrong$/ },
  'result-read-too-early': { settings: late, shows: /^wrong$/ },
  'fresh-memory': { settings: late, shows: /^wrong$/ },
  'copy-too-long': { settings: late, shows: /513 bytes at .* are not within one allocation/ },
  'kernel-writes-too-far': { settings: late, shows: /wrote behind the end of an allocation of 508 bytes/ },
  'host-touches-device-memory': { settings: late, shows: /^signal 11$/ },
  'shared-memory-not-asked-for': { settings: late, shows: /60000 bytes of dynamic shared memory, allowed are 49152/ },
  'no-context': { settings: late, shows: /^error 201$/ },
  'a-file-that-is-no-module': { settings: late, shows: /CUDA_ERROR_INVALID_IMAGE/ },
  'out-of-memory': { settings: late, shows: /^error 2$/ },
  'freed-twice': { settings: late, shows: /no allocation begins there/ },
  'wild-pointer': { settings: late, shows: /^errors 700 700$/ },
};
const NO_MISTAKES = ['pageable-memory-reused', 'managed-memory', 'polling'];

test('each mistake of host code shows, and its remedy works', () => {
  assert.equal(misuse([]).split('\n').sort(), [...Object.keys(MISTAKES), ...NO_MISTAKES].sort());
  for (const [name, { settings, shows }] of Object.entries(MISTAKES)) {
    assert.match(misuse([name], settings), shows, name);
    for (const order of [late, early]) assert.is(misuse([name, 'fixed'], order), 'right', `${name}, done right`);
  }
  for (const name of NO_MISTAKES)
    for (const order of [late, early]) assert.match(misuse([name], order), /^right/, name);
});

test('a setting that is not understood is refused', () => {
  const said = misuse(['probe'], { TACOTUNE_EMULATOR_ORDER: 'greedy' });
  assert.match(said, /expected fifo, .* for TACOTUNE_EMULATOR_ORDER, got 'greedy'/);
});

test('fragments lie where the PTX ISA says, in every order of threads', () => {
  for (const order of ['fifo', 'reversed', 'random:3', 'greedy-up', 'greedy-down', 'greedy:3'])
    for (const copies of ['lazy', 'eager']) {
      const said = misuse(['probe'], { TACOTUNE_EMULATOR_ORDER: order, TACOTUNE_EMULATOR_COPIES: copies });
      assert.is(
        said,
        'mma.m16n8k16: 0 of 4194304 wrong\nldmatrix: 0 of 256 wrong\ncp.async: 0 of 128 wrong',
        `${order}, ${copies}`,
      );
    }
});
