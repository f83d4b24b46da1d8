// SPDX-License-Identifier: Apache-2.0
// The entrance of engine/model/.
export type { LayerCache } from './attention.js';
export { type Batch, countTargets, countTokens, IGNORED_LABEL, shiftedLabels, singleRow } from './batch.js';
export { ACTIVATION_POLICIES, type ActivationPolicy } from './block.js';
export {
  LINEAR_NAMES,
  type LinearName,
  type LlamaConfig,
  linearShape,
  type RopeScaling,
  type WeightName,
  weightShapes,
} from './config.js';
export { type GradientPassOptions, Llama, type LlamaOptions, type Observer } from './llama.js';
export { initializeLora, type LoraSettings, loraName, loraScale, loraSpecs } from './lora.js';
export { type LoraFactors, mergedWeight } from './merge.js';
export type { Parameter, ParameterGroup, Parameters } from './parameters.js';
export type { SeedOf } from './projection.js';
export { inverseFrequencies, rotaryTable } from './rotary.js';
export { type Quantization, randomStart, type StoredType, shapesOnly, type WeightSource } from './weights.js';
