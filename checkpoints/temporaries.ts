// SPDX-License-Identifier: Apache-2.0
// Names of files that are being written, which tell who writes them: what a killed process left is removed by the next one that
// writes into the folder, what a living one writes is left alone. A folder may be shared by machines, of which each clears up
// after its own processes only.
import { createHash, randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';

const host = createHash('sha256').update(hostname()).digest('hex').slice(0, 8);
const NAME = /^\..+\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.tmp$/;

/** A name beside a file for its new contents; hidden, and used by nobody else. */
export function temporaryName(path: string): string {
  return join(dirname(path), `.${basename(path)}.${host}-${process.pid}-${randomBytes(4).toString('hex')}.tmp`);
}

/** Removes what processes of this machine that are gone have left in a folder. */
export function sweepTemporaries(directory: string): void {
  for (const name of namesIn(directory)) {
    const [, writtenOn, pid] = NAME.exec(name) ?? [];
    if (writtenOn !== host || isAlive(Number(pid))) continue;
    try {
      fs.unlinkSync(join(directory, name));
    } catch {
      // Another process is as quick, or may not: nothing depends on it.
    }
  }
}

function namesIn(directory: string): string[] {
  try {
    return fs.readdirSync(directory);
  } catch {
    return []; // whoever writes there next will say why
  }
}

/** Whether a process of this machine is there, whoever owns it. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
