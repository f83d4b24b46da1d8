// SPDX-License-Identifier: Apache-2.0
// Writes the tiny base model before its first step: random weights, and the vocabulary beside them. The recipe
// pretraining.yaml trains every weight of it. Run: node dist/samples/tiny-base/start.js
import { copyFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type LlamaConfig, writeModel } from '../../checkpoints/index.js';
import { randomStart } from '../../engine/index.js';

/** 2.8 million parameters: small enough for the repository, large enough to translate a first reader's sentences. */
const CONFIG: LlamaConfig = {
  vocabularySize: 2000,
  width: 192,
  feedForwardWidth: 512,
  layers: 6,
  queryHeads: 6,
  keyValueHeads: 3,
  headWidth: 32,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  ropeScaling: undefined,
  tiedHead: true,
  maxPositions: 512,
  bosTokenId: 1,
  eosTokenIds: [2],
};

const here = fileURLToPath(new URL('../../../samples/tiny-base/', import.meta.url));
const start = `${here}start/`;
const source = randomStart(CONFIG, 1);
await writeModel(start, CONFIG, (name) => source.weight(name).data as Float32Array, { dtype: 'bf16' });
copyFileSync(`${here}tokenizer.model`, `${start}tokenizer.model`);
console.log(`${start}: a model of random weights`);
