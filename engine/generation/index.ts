// SPDX-License-Identifier: Apache-2.0
// The entrance of engine/generation/.
export { type GenerationSettings, generateTokens } from './generate.js';
export { argmax, GREEDY, probabilities, type SamplingSettings, sample } from './sampling.js';
