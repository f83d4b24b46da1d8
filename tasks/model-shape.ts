// SPDX-License-Identifier: Apache-2.0
// What a plan must know of a model, without reading a weight: from a model directory's headers, from a config alone, or from
// the published shape of a model known by its name.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { hasWeights, isLinearWeight, openModel, readLlamaConfig } from '../checkpoints/index.js';
import { KNOWN_MODELS } from '../recipes/index.js';
import type { ModelShape } from './run-settings.js';

/** The shape of a model directory's model, or of a published model by its name. */
export function modelShape(model: string): ModelShape {
  if (isKnown(model)) return { config: KNOWN_MODELS[model as keyof typeof KNOWN_MODELS], storedAs: 'bf16' };
  if (!hasWeights(model) && existsSync(join(model, 'config.json')))
    return { config: readLlamaConfig(model), storedAs: statedTypes(model) };
  const files = openModel(model); // reads headers alone
  const types = new Map(files.tensorNames.map((name) => [name, files.storedAs(name)]));
  files.close();
  return { config: files.config, storedAs: (name) => types.get(name)! };
}

/** A published model's name, and no folder here. */
export const isKnown = (model: string): boolean => Object.hasOwn(KNOWN_MODELS, model) && !existsSync(model);

const STATED_TYPES: Record<string, 'f32' | 'bf16' | 'f16'> = { float32: 'f32', float16: 'f16', bfloat16: 'bf16' };

/** How a config says that its weights are stored, where they are not there: 16 bits if it says nothing. */
function statedTypes(directory: string): ModelShape['storedAs'] {
  const fields = JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8')) as Record<string, unknown>;
  const dense = STATED_TYPES[String(fields['dtype'] ?? fields['torch_dtype'])] ?? 'bf16';
  return fields['quantization_config'] ? (name) => (isLinearWeight(name) ? 'nf4' : dense) : dense;
}
