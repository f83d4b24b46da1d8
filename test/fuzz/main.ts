// SPDX-License-Identifier: Apache-2.0
// Fuzzes the readers that it is told, in this process, and prints what happened as JSON: the test starts it as a child, so that a
// crash, a hang and the memory show. By hand: node dist/test/fuzz/main.js SEED CASES [READER …]
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UserError } from '../../errors.js';
import { generator } from '../checkpoints/support.js';
import { damaged } from './mutate.js';
import { folderFor, TARGETS } from './targets.js';

export interface FuzzResult {
  reader: string;
  cases: number;
  refused: number;
  slowestMs: number;
  /** The largest that the process had been. */
  peakMiB: number;
  /** The first case that ended in anything but success or a UserError that says where. */
  fault?: string;
}

const [seed, cases, ...names] = process.argv.slice(2);
const root = mkdtempSync(join(tmpdir(), 'tacotune-fuzz-'));
try {
  for (const name of names.length > 0 ? names : Object.keys(TARGETS)) {
    console.log(JSON.stringify(await fuzz(name, Number(seed), Number(cases))));
  }
} finally {
  rmSync(root, { recursive: true, force: true });
}

async function fuzz(reader: string, seed: number, cases: number): Promise<FuzzResult> {
  const target = await TARGETS[reader]!(folderFor(root, reader));
  const source = readFileSync(target.path);
  await target.read(); // the undamaged file is good
  const random = generator(seed);
  const result: FuzzResult = { reader, cases, refused: 0, slowestMs: 0, peakMiB: 0 };
  for (let run = 0; run < cases; run++) {
    const bytes = damaged(source, target.kind, random);
    rmSync(target.path);
    writeFileSync(target.path, bytes);
    const start = performance.now();
    try {
      await target.read();
    } catch (error) {
      result.refused++;
      const fault = faultOf(error);
      if (fault !== undefined) {
        return {
          ...result,
          fault: `seed ${seed}, run ${run}: ${fault}\nfile: ${bytes.toString('base64').slice(0, 20_000)}`,
        };
      }
    }
    result.slowestMs = Math.max(result.slowestMs, performance.now() - start);
  }
  result.peakMiB = process.resourceUsage().maxRSS / 1024;
  return result;
}

/** What is wrong with an error, or undefined where it is as errors of readers are to be. */
function faultOf(error: unknown): string | undefined {
  if (!(error instanceof UserError)) return error instanceof Error ? (error.stack ?? error.message) : String(error);
  if (error.expected === '' || error.found === '') return `an error without words: ${error.message}`;
  if (error.where === undefined || !error.where.includes(root)) return `an error without a place: ${error.message}`;
  return error.message.length > 4000 ? `an error of ${error.message.length} characters` : undefined;
}
