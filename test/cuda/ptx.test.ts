// SPDX-License-Identifier: Apache-2.0
// What nvcc made of the kernels: its PTX runs in the interpreter, behind the same driver and over the same cases as the
// emulated sources, so the inline assembly that emulation replaces is judged too. Skipped, aloud, where there is no nvcc.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { buildCuda, buildEmulator, emulatedDriver, runOps } from '../support/emulator.js';
import { projectRoot, suite } from '../support/harness.js';

const test = suite('cuda: PTX', 600_000);

const interpreted = () => ({ ...emulatedDriver(), TACOTUNE_EMULATOR_ENGINE: 'ptx' });

/** The three probes on the PTX of a folder, and what they say. */
function probes(settings: Record<string, string> = {}): string {
  buildEmulator('--misuse');
  const { stdout } = spawnSync(join(projectRoot, 'build', 'emulator', 'misuse'), ['probe'], {
    encoding: 'utf8',
    env: { ...process.env, ...interpreted(), ...settings },
  });
  return stdout;
}

/** Copies the PTX, lets `change` edit the probe's, and runs the probes on that. */
function probesOfChanged(change: (text: string) => string): string {
  const folder = mkdtempSync(join(tmpdir(), 'tacotune-ptx-'));
  try {
    cpSync(join(projectRoot, 'build', 'ptx', 'probe.ptx'), join(folder, 'probe.ptx'));
    const before = readFileSync(join(folder, 'probe.ptx'), 'utf8');
    const after = change(before);
    assert.is.not(after, before, 'the change found nothing to change');
    writeFileSync(join(folder, 'probe.ptx'), after);
    return probes({ TACOTUNE_EMULATOR_PTX: folder });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('fragments lie where the PTX ISA says', () => {
  buildCuda('--ptx');
  for (const order of ['fifo', 'reversed'])
    assert.is(
      probes({ TACOTUNE_EMULATOR_ORDER: order }),
      'mma.m16n8k16: 0 of 4194304 wrong\nldmatrix: 0 of 256 wrong\ncp.async: 0 of 128 wrong\n',
    );
});

test('operands in the wrong order in inline assembly are seen', () => {
  buildCuda('--ptx');
  // The second and third register of A change places.
  const swapped = probesOfChanged((text) =>
    text.replace(/(mma\.sync[^;]*?\}, \{%r\d+,)(%r\d+,)(%r\d+,)/, (_, head, second, third) => head + third + second),
  );
  assert.match(swapped, /mma\.m16n8k16: [1-9]\d* of 4194304 wrong/);
  const plain = probesOfChanged((text) =>
    text.replace('ldmatrix.sync.aligned.m8n8.x4.trans', 'ldmatrix.sync.aligned.m8n8.x4'),
  );
  assert.match(plain, /ldmatrix: [1-9]\d* of 256 wrong/);
});

test('what the interpreter does not know is said by name', () => {
  buildCuda('--ptx');
  const said = probesOfChanged((text) => text.replace(/mma\.sync\.aligned\.m16n8k16/g, 'mma.sync.aligned.m16n8k32'));
  assert.match(said, /mma_probe_kernel: the interpreter does not know mma\.sync\.aligned\.m16n8k32/);
});

test('every op agrees with the reference, and what its kernels do is counted', async () => {
  buildCuda('--ptx');
  const folder = mkdtempSync(join(tmpdir(), 'tacotune-ptx-'));
  const file = join(folder, 'counters.json');
  try {
    const ops = await runOps({ ...interpreted(), TACOTUNE_EMULATOR_COUNTERS: file }, '--exact', '--small');
    const troubles = ops.flatMap(({ op, troubles }) => troubles.map((trouble) => `${op} ${trouble}`));
    assert.equal(troubles, []);
    assert.ok(ops.length >= 31, `only ${ops.length} ops ran`);

    const counters = JSON.parse(readFileSync(file, 'utf8')) as Record<string, Counters>;
    const copy = counters['copy_kernel']!;
    assert.is(copy.globalLoads.bytes, copy.globalStores.bytes, 'a copy stores what it loads');
    const products = Object.entries(counters).filter(([name]) => name.startsWith('gemm_forward_bf16'));
    assert.ok(products.length > 0);
    for (const [name, { mix, shared }] of products) {
      assert.ok(mix.mma > 0 && mix.ldmatrix > 0, `${name} has no tensor products`);
      assert.is(shared.wavefronts, shared.idealWavefronts, `${name} has bank conflicts`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

interface Counters {
  globalLoads: { bytes: number };
  globalStores: { bytes: number };
  shared: { wavefronts: number; idealWavefronts: number };
  mix: { mma: number; ldmatrix: number };
}
