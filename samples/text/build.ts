// SPDX-License-Identifier: Apache-2.0
// Writes the bundled text: samples/mits/ (committed) and samples/text/pretraining/ (not committed, made from the same sources).
// Run: node scripts/setup.mjs && node dist/samples/text/build.js
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { sampleFiles } from './index.js';

const samples = fileURLToPath(new URL('../../../samples/', import.meta.url));
for (const folder of ['mits', 'text/pretraining']) mkdirSync(samples + folder, { recursive: true });
for (const [name, text] of Object.entries(sampleFiles())) {
  writeFileSync(samples + name, text);
  console.log(`samples/${name}: ${Buffer.byteLength(text)} bytes, ${text.split('\n').length - 1} lines`);
}
