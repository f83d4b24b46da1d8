// SPDX-License-Identifier: Apache-2.0
// Finds TensorFlow.js, which is an optional peer: tfjs-node-gpu, then tfjs-node, then the packages in JavaScript and wasm. One
// that is there but does not work is a normal state of these packages (their binding is downloaded or built by a script that
// may not have run), so it is told apart from one that is missing, and both say what to do.
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { UserError } from '../../../errors.js';

export interface FoundTensorFlow {
  readonly packageName: string;
  readonly version: string;
  /** Directory of the package. */
  readonly directory: string;
  /** 'tensorflow' (native), 'wasm' or 'cpu' (JavaScript). */
  readonly backend: string;
}

/** Those with a native binding. */
const NODE_PACKAGES = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'];
/** Those that need a backend beside them; the first one that is there is used. */
const PLAIN_PACKAGES = ['@tensorflow/tfjs', '@tensorflow/tfjs-core'];
export const PLAIN_BACKENDS = {
  wasm: '@tensorflow/tfjs-backend-wasm',
  cpu: '@tensorflow/tfjs-backend-cpu',
};

/** Where packages are looked for: from here, and from the working directory. */
export const FOLDERS = [import.meta.dirname, process.cwd()];

/**
 * The first of the packages that is found from one of `folders`. Loads nothing.
 * @throws UserError where none is there, or a plain one has no backend beside it
 */
export function findTensorFlow(folders: readonly string[] = FOLDERS): FoundTensorFlow {
  for (const packageName of [...NODE_PACKAGES, ...PLAIN_PACKAGES]) {
    for (const folder of folders) {
      const manifest = resolve(folder, `${packageName}/package.json`);
      if (manifest === undefined) continue;
      const directory = dirname(manifest);
      const { version } = requireFrom(directory, manifest) as { version: string };
      return { packageName, version, directory, backend: backendOf(packageName, directory) };
    }
  }
  throw new UserError({
    expected: `TensorFlow.js for the tfjs device: one of ${[...NODE_PACKAGES, ...PLAIN_PACKAGES].join(', ')}`,
    found: 'none of them',
    where: `node_modules seen from ${folders.join(' and ')}`,
    remedy: `npm install ${NODE_PACKAGES[1]} (or ${NODE_PACKAGES[0]}), or leave 'device' out: cpu needs no further package`,
  });
}

function backendOf(packageName: string, directory: string): string {
  if (NODE_PACKAGES.includes(packageName)) return 'tensorflow';
  const found = Object.entries(PLAIN_BACKENDS).find(([, name]) => resolve(directory, name) !== undefined);
  if (found) return found[0];
  throw broken(packageName, directory, `no backend beside it (${Object.values(PLAIN_BACKENDS).join(', ')})`);
}

/** The path of a file of a package, as Node finds it from a folder. */
function resolve(folder: string, file: string): string | undefined {
  try {
    return createRequire(join(folder, 'here.js')).resolve(file);
  } catch {
    return undefined;
  }
}

export function requireFrom(directory: string, packageName: string): unknown {
  return createRequire(join(directory, 'here.js'))(packageName);
}

/** The error of a package that is there and does not work. */
export function broken(packageName: string, directory: string, found: string, cause?: unknown): UserError {
  const native = NODE_PACKAGES.includes(packageName);
  return new UserError({
    expected: `${packageName} to load, since it is installed`,
    found: found
      .trim()
      .split('\n')
      .slice(0, 3)
      .join(' ')
      .replace(/[.\s]+$/, ''),
    where: directory,
    remedy: native
      ? `let its install script bring TensorFlow and the binding: 'npm rebuild ${packageName}' (npm 12: allow its scripts first); or remove the package, or use 'device: cpu'`
      : `npm install ${PLAIN_BACKENDS.cpu}, or use 'device: cpu'`,
    cause,
  });
}
