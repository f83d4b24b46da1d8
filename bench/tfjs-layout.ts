// SPDX-License-Identifier: Apache-2.0
// Lays out tfjs-node over the libraries of a tensorflow wheel, because its own install script downloads a TensorFlow of 2022
// and fails without that download. A wheel's libtensorflow_cc exports what the binding calls; the C headers in the wheel are
// enough to build it. 900 MB; nothing outside the folder is touched.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { UserError } from '../errors.js';

const VERSION = '4.22.0';

/** Parts of the wheel that are needed: two libraries, and the headers of the C interface with what they include. */
const LIBRARIES = ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'];
const HEADERS = [
  'tensorflow/c/*',
  'tensorflow/core/platform/ctstring*',
  'tensorflow/core/common_runtime/next_pluggable_device/c/*',
  'tsl/platform/ctstring*',
  'tsl/platform/platform.h',
  'xla/tsl/c/*',
];

/** The folder with `node_modules/@tensorflow/tfjs-node`, made from `wheel` unless it is there. */
export function layOut(folder: string, wheel: string | undefined): string {
  const nodePackage = join(folder, 'node_modules', '@tensorflow', 'tfjs-node');
  if (existsSync(join(nodePackage, 'lib', 'napi-v8', 'tfjs_binding.node'))) return folder;
  if (wheel === undefined || !existsSync(wheel)) {
    throw new UserError({
      expected: '--wheel FILE: a wheel of tensorflow-cpu (or tensorflow, for a GPU) for Linux on x86-64',
      found: wheel ?? 'none, and no layout from before',
      where: folder,
      remedy: "get one with 'pip download --no-deps tensorflow-cpu==2.21.0'",
    });
  }
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "private": true }');
  command(
    'npm',
    ['install', '--ignore-scripts', '--no-audit', '--no-fund', `@tensorflow/tfjs-node@${VERSION}`],
    folder,
  );
  takeLibraries(resolve(wheel), join(nodePackage, 'deps'), join(folder, 'wheel'));
  buildBinding(nodePackage);
  return folder;
}

function takeLibraries(wheel: string, deps: string, scratch: string): void {
  const wanted = [
    ...LIBRARIES.map((library) => `tensorflow/${library}`),
    ...HEADERS.map((header) => `tensorflow/include/${header}`),
  ];
  for (const folder of [scratch, deps]) rmSync(folder, { recursive: true, force: true });
  command('unzip', ['-q', wheel, ...wanted, '-d', scratch], dirname(scratch));
  const libraries = join(deps, 'lib');
  mkdirSync(libraries, { recursive: true });
  for (const library of LIBRARIES) {
    renameSync(join(scratch, 'tensorflow', library), join(libraries, library));
    // The names that the binding links against; what it records is the library's own name.
    const linked = library.replace(/(_cc)?\.so\.2$/, '.so');
    symlinkSync(library, join(libraries, linked));
  }
  cpSync(join(scratch, 'tensorflow', 'include'), join(deps, 'include'), { recursive: true });
  rmSync(scratch, { recursive: true });
}

function buildBinding(nodePackage: string): void {
  const gyp = join(dirname(createRequire(import.meta.url).resolve('node-gyp/package.json')), 'bin', 'node-gyp.js');
  const target = join(nodePackage, 'lib', 'napi-v8');
  const prefix = join(dirname(process.execPath), '..');
  const headers = existsSync(join(prefix, 'include', 'node', 'node_api.h')) ? [`--nodedir=${prefix}`] : [];
  const names = ['--module_name=tfjs_binding', `--module_path=${target}`, '--napi_build_version=8'];
  command(process.execPath, [gyp, 'rebuild', ...headers, ...names], nodePackage);
}

function command(program: string, args: string[], cwd: string): void {
  console.error(`tfjs: ${program} ${args[0]} …`);
  const { status, error, stdout, stderr } = spawnSync(program, args, { cwd, encoding: 'utf8', maxBuffer: 1 << 28 });
  if (status === 0) return;
  throw new UserError({
    expected: `'${program}' to succeed`,
    found: error ? error.message : `code ${status}: ${`${stdout}${stderr}`.trim().split('\n').slice(-5).join(' ')}`,
    where: cwd,
    remedy: `try it by hand: ${program} ${args.join(' ')}`,
  });
}
