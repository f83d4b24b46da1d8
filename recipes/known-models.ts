// SPDX-License-Identifier: Apache-2.0
// Shapes of published models, so that a run can be planned before anything is downloaded. From their config.json files.

/** As in a model directory's config; `storedAs` is the type of its published weights. */
const llama1 = {
  vocabularySize: 32000,
  rmsNormEps: 1e-6,
  ropeTheta: 10000,
  tiedHead: false,
  maxPositions: 2048,
  headWidth: 128,
};

export const KNOWN_MODELS = {
  /** timdettmers/guanaco-33b-merged, huggyllama/llama-30b */
  'guanaco-33b': { ...llama1, width: 6656, feedForwardWidth: 17920, layers: 60, queryHeads: 52, keyValueHeads: 52 },
  'llama-13b': { ...llama1, width: 5120, feedForwardWidth: 13824, layers: 40, queryHeads: 40, keyValueHeads: 40 },
  'llama-7b': { ...llama1, width: 4096, feedForwardWidth: 11008, layers: 32, queryHeads: 32, keyValueHeads: 32 },
  /** meta-llama/Meta-Llama-3-8B */
  'llama3-8b': {
    ...llama1,
    vocabularySize: 128256,
    rmsNormEps: 1e-5,
    ropeTheta: 500000,
    maxPositions: 8192,
    width: 4096,
    feedForwardWidth: 14336,
    layers: 32,
    queryHeads: 32,
    keyValueHeads: 8,
  },
  /** TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T */
  'tinyllama-1.1b': {
    ...llama1,
    rmsNormEps: 1e-5,
    headWidth: 64,
    width: 2048,
    feedForwardWidth: 5632,
    layers: 22,
    queryHeads: 32,
    keyValueHeads: 4,
  },
};
