// SPDX-License-Identifier: Apache-2.0
// Loads the TensorFlow.js that was found and starts its backend.
import { broken, FOLDERS, type FoundTensorFlow, findTensorFlow, PLAIN_BACKENDS, requireFrom } from './find.js';
import type { Tf } from './memory.js';

export interface LoadedTensorFlow extends FoundTensorFlow {
  readonly tf: Tf;
}

/**
 * Loads what `findTensorFlow` finds and makes its backend the current one.
 * @throws UserError where none is found, or the first one does not work
 */
export async function loadTensorFlow(folders: readonly string[] = FOLDERS): Promise<LoadedTensorFlow> {
  const found = findTensorFlow(folders);
  const { packageName, directory, backend } = found;
  const tf = requireTensorFlow(found);
  tf.env().set('PROD', true); // no advice on standard error to install another package
  if (!(await tf.setBackend(backend))) throw broken(packageName, directory, `backend '${backend}' does not start`);
  return { ...found, tf };
}

function requireTensorFlow({ packageName, directory, backend }: FoundTensorFlow): Tf {
  try {
    if (backend === 'tensorflow') {
      restoreUtil(directory);
      process.env['TF_CPP_MIN_LOG_LEVEL'] ??= '1'; // most of what TensorFlow says on standard error
    }
    const tf = requireFrom(directory, directory) as Tf;
    if (backend !== 'tensorflow') requireFrom(directory, PLAIN_BACKENDS[backend as keyof typeof PLAIN_BACKENDS]);
    return tf;
  } catch (error) {
    throw broken(packageName, directory, error instanceof Error ? error.message : String(error), error);
  }
}

/** tfjs-node calls two functions of node:util that Node 23 has removed. Its files see what is put back here. */
function restoreUtil(directory: string): void {
  const util = requireFrom(directory, 'node:util') as Record<string, unknown>;
  util['isNullOrUndefined'] ??= (value: unknown) => value === null || value === undefined;
  util['isArray'] ??= Array.isArray;
}
