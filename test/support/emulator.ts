// SPDX-License-Identifier: Apache-2.0
// Runs a script of the suite on the emulated GPU, in a process of its own: the driver is opened once a process, and no other
// test may find a GPU. What the scripts build is built when it is first needed.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { skip } from './harness.js';

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

const compiled = new Map<string, string>();

/** Runs scripts/build-cuda.mjs once a process and returns what it said; skips the running test where there is no nvcc. */
export function buildCuda(...flags: string[]): string {
  const what = flags.join(' ');
  const known = compiled.get(what);
  if (known !== undefined) return known;
  const script = join(root, 'scripts', 'build-cuda.mjs');
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...flags], { encoding: 'utf8' });
  if (status === 3) skip('no nvcc here');
  if (status !== 0) throw new Error(`the kernels were not compiled: ${stdout}${stderr}`);
  compiled.set(what, stdout + stderr);
  return stdout + stderr;
}

/** The environment in which the emulator is a process's CUDA driver; the checked one watches every access of kernels. */
export function emulatedDriver(library: 'emulated' | 'checked' = 'emulated'): Record<string, string> {
  buildEmulator(...(library === 'checked' ? ['--checked'] : []));
  const driver = join(folder, `libcuda-${library}.so`);
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

export interface OpResult {
  op: string;
  cases: number;
  /** Of its products, those that cuBLASLt computed. */
  elsewhere: number;
  troubles: string[];
}

/** Starts the child that runs all cases of all ops on the GPU that `environment` names. */
export function runOps(environment: Record<string, string>, ...args: string[]): Promise<OpResult[]> {
  const child = spawn(process.execPath, [join(root, 'dist', 'test', 'cuda', 'run-ops.js'), ...args], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [out, error] = ['', ''];
  child.stdout.on('data', (piece: Buffer) => {
    out += piece;
  });
  child.stderr.on('data', (piece: Buffer) => {
    error += piece;
  });
  return new Promise((resolve, reject) => {
    child.on('close', (status) => {
      if (status !== 0) return reject(new Error(`the child ended with ${status}: ${error}`));
      resolve(
        out
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line) as OpResult),
      );
    });
  });
}
