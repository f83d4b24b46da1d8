// SPDX-License-Identifier: Apache-2.0
// The data files that a path names: a file itself, or all below a folder in an order that is the same everywhere.
import type { Dirent } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { UserError } from '../../errors.js';
import { meantName } from '../mits.js';
import { ENDINGS, isDataFile } from './records.js';

/** Written beside the data by Hugging Face's `datasets` and by import; JSON, but no rows. */
const NO_DATA = new Set(['dataset_info.json', 'dataset_infos.json', 'dataset_dict.json', 'state.json', 'import.json']);

/** A file itself, or all data files below a folder, sorted by code units. */
export async function dataFiles(named: string): Promise<string[]> {
  const path = await findPath(named);
  if (!(await stat(path)).isDirectory()) return [path];
  const entries: Dirent[] = await readdir(path, { recursive: true, withFileTypes: true });
  const files = entries
    .filter(({ name }) => !name.startsWith('.') && !NO_DATA.has(name) && isDataFile(name))
    .filter((entry) => entry.isFile() || entry.isSymbolicLink())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  if (files.length > 0) return files;
  throw new UserError({
    expected: `files ending in ${ENDINGS.join(', ')}`,
    found: 'none in the folder',
    where: path,
  });
}

/** A path that is there: the one named, or the one that MITS has under a name that was meant to be this. */
export async function findPath(named: string): Promise<string> {
  if (await isThere(named)) return named;
  const parent = dirname(resolve(named));
  const folder = parent === resolve(named) ? undefined : await findPath(parent).catch(() => undefined);
  const wanted = meantName(
    resolve(named)
      .slice(parent.length)
      .replace(/^[/\\]/, ''),
  );
  const names = folder === undefined ? [] : await readdir(folder).catch(() => []);
  const meant = names.find((name) => meantName(name) === wanted);
  if (meant !== undefined) return join(folder!, meant);
  throw new UserError({ expected: 'a data file or folder', found: 'nothing there', where: named });
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    (cause) => {
      if (cause.code === 'ENOENT') return false;
      throw new UserError({ expected: 'a data file or folder', found: cause.code, where: path, cause });
    },
  );
}
