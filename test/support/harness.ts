// SPDX-License-Identifier: Apache-2.0
// The way tests are written here: uvu's suites behind a door that closes its gaps. A suite registers itself, so none can be
// forgotten; a thrown non-Error becomes an Error, since uvu would end green on it; a test may skip itself with a reason.
// Run all: `npm test`; some: `npm test -- ops tokenizer` (words that file names contain).
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite as uvuSuite } from 'uvu';
import { INSTRUCTION_SET_VARIABLE, native } from '../../kernels/index.js';

export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** Filled while suites run; run.ts compares it with what uvu reports. */
export const counts: Counts = { passed: 0, failed: 0, skipped: 0 };

class Skip extends Error {}

/** Ends the running test as skipped. The reason is printed. */
export function skip(reason: string): never {
  throw new Skip(reason);
}

type Body = () => void | Promise<void>;

export type Suite = (name: string, body: Body) => void;

/** A named group of tests. Call it with a name and a body for each test. */
export function suite(name: string, timeoutMs = 120_000): Suite {
  const inner = uvuSuite(name);
  let queued = false;
  return (testName, body) => {
    inner(testName, () => guarded(name, testName, body, timeoutMs));
    if (!queued) {
      queued = true;
      // After the module's top level has added all its tests.
      queueMicrotask(() => inner.run());
    }
  };
}

async function guarded(suiteName: string, testName: string, body: Body, timeoutMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`took longer than ${timeoutMs / 1000} s`)), timeoutMs);
  });
  try {
    await Promise.race([body(), expired]);
    counts.passed++;
  } catch (error) {
    if (error instanceof Skip) {
      counts.skipped++;
      console.log(`\n  SKIP ${suiteName}: ${testName} (${error.message})`);
      return;
    }
    counts.failed++;
    throw error instanceof Error ? error : new Error(`a test threw something that is no Error: ${String(error)}`);
  } finally {
    clearTimeout(timer);
  }
}

/** The project's root folder, from dist/test/support/. */
export const projectRoot = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

/** A path below the folder of reference data beside the project; skips the running test where it is not there. */
export function shared(...parts: string[]): string {
  const path = join(projectRoot, '..', 'shared', ...parts);
  if (!existsSync(path)) skip(`no ${join('..', 'shared', ...parts)}`);
  return path;
}

/** Runs a body once on every instruction set this processor has (only on the one that the environment forces, if it does). */
export async function onEachInstructionSet(body: (set: string) => void | Promise<void>): Promise<void> {
  const before = native().instructionSet();
  try {
    for (const set of process.env[INSTRUCTION_SET_VARIABLE] ? [before] : native().instructionSets()) {
      native().selectInstructionSet(set);
      await body(set);
    }
  } finally {
    native().selectInstructionSet(before);
  }
}
