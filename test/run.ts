// SPDX-License-Identifier: Apache-2.0
// The test entry: loads every *.test.js below dist/test whose path contains one of the given words (all without words),
// runs them in one process through uvu, and closes with one line of counts. It fails when a test failed, when none ran, and
// when something was rejected that no test waited for.
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const words = process.argv.slice(2);
const files = readdirSync(here, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.test.js'))
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
  .sort();

let stray: unknown;
process.on('unhandledRejection', (reason) => {
  stray ??= reason ?? new Error('a rejection without a reason');
});

const globals = globalThis as unknown as { UVU_DEFER: number; UVU_QUEUE: unknown[]; UVU_INDEX: number };
// uvu reads these when it is first imported: deferred, it leaves the running to us.
globals.UVU_DEFER = 1;
globals.UVU_QUEUE = [];
const { exec } = await import('uvu');
const { counts } = await import('./support/harness.js');
for (const [index, file] of files.entries()) {
  globals.UVU_INDEX = index;
  globals.UVU_QUEUE.push([file]);
  await import(pathToFileURL(join(here, file)).href);
  await new Promise((resolve) => setImmediate(resolve)); // suites enqueue themselves in a microtask
}
await exec(false);
await new Promise((resolve) => setImmediate(resolve));

const problems: string[] = [];
if (counts.passed + counts.failed + counts.skipped === 0) problems.push('no test ran');
if (stray !== undefined)
  problems.push(`a promise was rejected outside any test: ${stray instanceof Error ? stray.stack : String(stray)}`);
for (const problem of problems) console.error(`FAIL ${problem}`);
const failed = counts.failed + problems.length;
console.log(`${counts.passed} passed, ${failed} failed, ${counts.skipped} skipped`);
process.exit(failed > 0 ? 1 : 0);
