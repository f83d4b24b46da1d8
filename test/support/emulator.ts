// SPDX-License-Identifier: Apache-2.0
// Runs a script of the suite on the emulated GPU, in a process of its own: the driver is opened once a process, and no other
// test may find a GPU. The emulator is built when it is first needed.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const folder = join(root, 'build', 'emulator');

const built = new Set<string>();

/** Brings what scripts/build-emulator.mjs makes up to date, once a process. */
export function buildEmulator(...flags: string[]): void {
  const what = flags.join(' ');
  if (built.has(what)) return;
  const script = join(root, 'scripts', 'build-emulator.mjs');
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...flags], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`the emulator was not built: ${stdout}${stderr}`);
  built.add(what);
}

/** The environment in which the emulator is this process's CUDA driver. */
export function emulatedDriver(): Record<string, string> {
  buildEmulator();
  const driver = join(folder, 'libcuda-emulated.so');
  if (!existsSync(driver)) throw new Error(`no emulator at ${driver}`);
  return { TACOTUNE_CUDA_DRIVER: driver, TACOTUNE_CUDA_MODULES: join(folder, 'modules') };
}

export interface EmulatedResult {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs `dist/<script>` with the emulated GPU. */
export function onEmulatedGpu(
  script: string,
  args: string[] = [],
  environment: Record<string, string> = {},
): EmulatedResult {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, 'dist', script), ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...emulatedDriver(), ...environment },
    maxBuffer: 1 << 28,
  });
  return { status, stdout, stderr };
}
