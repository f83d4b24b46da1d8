// SPDX-License-Identifier: Apache-2.0
// The state of a run on disk: folders `checkpoints/step-N`, each complete and checksummed, and a file `latest` that names the
// one to go on from. A folder is written under another name, synced, and renamed; `latest` moves last; so whatever moment the
// power fails at, the run has either its old state or its new one. Knows files, not what training needs in them.
// Run its tests: `npm test -- checkpoints/run-state`.
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../errors.js';
import { exists, type FileLayer, readTextFile, systemFiles, writeFileAtomically } from './files.js';
import { parseJsonObject } from './json.js';

const FOLDER = 'checkpoints';
const LATEST = 'latest';
const MANIFEST = 'manifest.json';
const NAME = /^step-\d{8}$/;
/** Folders being written, and being replaced or removed: a killed run leaves them behind. */
const UNFINISHED = /^\.step-\d{8}\.tmp$/;
const SET_ASIDE = /^\.step-\d{8}\.old$/;
const MAX_MANIFEST_BYTES = 1 << 20;

export interface SaveOptions {
  step: number;
  /** Checkpoints to keep, the new one included. */
  keep: number;
  layer?: FileLayer;
}

/** Writes the state of a run as of a step. @param write puts the files into the folder it is given */
export async function saveRunState(
  run: string,
  { step, keep, layer = systemFiles }: SaveOptions,
  write: (folder: string, layer: FileLayer) => Promise<void>,
): Promise<string> {
  const parent = join(run, FOLDER);
  const name = `step-${String(step).padStart(8, '0')}`;
  const target = join(parent, name);
  const temporary = join(parent, `.${name}.tmp`);
  fs.mkdirSync(parent, { recursive: true });
  sweep(parent, UNFINISHED);
  fs.mkdirSync(temporary);
  try {
    await write(temporary, layer);
    writeFileAtomically(
      join(temporary, MANIFEST),
      `${JSON.stringify({ version: 1, step, files: digests(temporary) }, null, 1)}\n`,
      layer,
    );
    setAside(parent, name, layer); // the same step again: at a stage's end, or after a resume from an earlier one
    layer.rename(temporary, target);
    layer.syncDirectory(parent);
  } catch (error) {
    removeTree(temporary);
    throw error;
  }
  writeFileAtomically(join(parent, LATEST), `${name}\n`, layer);
  for (const old of listRunStates(run).slice(0, -Math.max(1, keep))) if (old !== name) setAside(parent, old, layer);
  sweep(parent, SET_ASIDE);
  return target;
}

/** Before a checkpoint is removed: killed half-way, it must not stand there as one with files missing. */
function setAside(parent: string, name: string, layer: FileLayer): void {
  if (exists(join(parent, name))) layer.rename(join(parent, name), join(parent, `.${name}.old`));
}

function sweep(parent: string, names: RegExp): void {
  for (const name of fs.readdirSync(parent)) if (names.test(name)) removeTree(join(parent, name));
}

/** Names of the complete checkpoints of a run, oldest first. */
export function listRunStates(run: string): string[] {
  const parent = join(run, FOLDER);
  if (!exists(parent)) return [];
  return fs
    .readdirSync(parent)
    .filter((name) => NAME.test(name))
    .sort();
}

/**
 * The folder of a run's newest checkpoint, or of the one named, with every file's checksum verified.
 * @throws UserError when there is none, or when one of its files is damaged: the error names the newest that is not
 */
export function findRunState(run: string, name?: string): string {
  const parent = join(run, FOLDER);
  const known = listRunStates(run);
  const latest = readLatest(parent);
  if (name === undefined && latest !== undefined && !known.includes(latest)) {
    const replaced = join(parent, `.${latest}.old`); // killed between the two renames that replace a checkpoint
    if (exists(replaced) && faultOf(replaced) === undefined) return replaced;
  }
  if (known.length === 0) {
    throw new UserError({
      expected: 'a run with checkpoints',
      found: 'none',
      where: run,
      remedy: 'give the output folder of a run that was stopped',
    });
  }
  const wanted = name ?? (latest !== undefined && known.includes(latest) ? latest : known.at(-1)!);
  if (!known.includes(wanted)) {
    throw new UserError({
      expected: `one of the run's checkpoints (${known.join(', ')})`,
      found: `'${wanted}'`,
      where: parent,
    });
  }
  const fault = faultOf(join(parent, wanted));
  if (fault === undefined) return join(parent, wanted);
  const intact = known.reverse().find((other) => other !== wanted && faultOf(join(parent, other)) === undefined);
  throw new UserError({
    expected: 'a checkpoint as it was written',
    found: fault,
    where: join(parent, wanted),
    remedy: intact
      ? `go on from the one before it: '--checkpoint ${intact}'`
      : 'no other checkpoint of this run is intact',
  });
}

function readLatest(parent: string): string | undefined {
  if (!exists(join(parent, LATEST))) return undefined;
  const name = readTextFile(join(parent, LATEST), 'the name of the latest checkpoint', 100).trim();
  return NAME.test(name) ? name : undefined;
}

/** What is wrong with a checkpoint, or undefined. */
function faultOf(folder: string): string | undefined {
  try {
    const path = join(folder, MANIFEST);
    const manifest = parseJsonObject(
      readTextFile(path, 'the list of its files', MAX_MANIFEST_BYTES),
      'the list of its files',
      path,
    );
    const files = manifest['files'];
    if (typeof files !== 'object' || files === null) return `a damaged ${MANIFEST}`;
    const found = digests(folder);
    for (const [name, digest] of Object.entries(files)) {
      if (found[name] === undefined) return `no ${name}`;
      if (found[name] !== digest) return `${name} with other contents than were written`;
    }
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** SHA-256 of every file of a folder but its manifest. */
function digests(folder: string): Record<string, string> {
  const names = fs
    .readdirSync(folder)
    .filter((name) => name !== MANIFEST)
    .sort();
  return Object.fromEntries(names.map((name) => [name, digestOf(join(folder, name))]));
}

function digestOf(path: string): string {
  const hash = createHash('sha256');
  const file = fs.openSync(path, 'r');
  const chunk = Buffer.allocUnsafe(1 << 20);
  try {
    for (;;) {
      const count = fs.readSync(file, chunk);
      if (count === 0) break;
      hash.update(chunk.subarray(0, count));
    }
  } finally {
    fs.closeSync(file);
  }
  return hash.digest('hex');
}

function removeTree(path: string): void {
  fs.rmSync(path, { recursive: true, force: true });
}
