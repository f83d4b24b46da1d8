// SPDX-License-Identifier: Apache-2.0
// The one table between the names of tensors in files and ours, with the shapes they must have. Files keep Hugging Face's
// names verbatim; everywhere else the short names of this table stand. Knows no file format.
// Run its tests: `npm test -- checkpoints/names`.
import type { LlamaConfig } from './llama-config.js';

/** The seven linear layers of a block, in the order of the forward pass: path within the layer, and (N,K): outputs, inputs. */
const LINEARS = {
  q: { module: 'self_attn.q_proj', shape: (c: LlamaConfig) => [c.queryHeads * c.headWidth, c.width] },
  k: { module: 'self_attn.k_proj', shape: (c: LlamaConfig) => [c.keyValueHeads * c.headWidth, c.width] },
  v: { module: 'self_attn.v_proj', shape: (c: LlamaConfig) => [c.keyValueHeads * c.headWidth, c.width] },
  o: { module: 'self_attn.o_proj', shape: (c: LlamaConfig) => [c.width, c.queryHeads * c.headWidth] },
  gate: { module: 'mlp.gate_proj', shape: (c: LlamaConfig) => [c.feedForwardWidth, c.width] },
  up: { module: 'mlp.up_proj', shape: (c: LlamaConfig) => [c.feedForwardWidth, c.width] },
  down: { module: 'mlp.down_proj', shape: (c: LlamaConfig) => [c.width, c.feedForwardWidth] },
} as const;

/** The order within a layer is that of the forward pass. */
const LAYER_MODULES = {
  attentionNorm: { module: 'input_layernorm', shape: (c: LlamaConfig) => [c.width] },
  q: LINEARS.q,
  k: LINEARS.k,
  v: LINEARS.v,
  o: LINEARS.o,
  feedForwardNorm: { module: 'post_attention_layernorm', shape: (c: LlamaConfig) => [c.width] },
  gate: LINEARS.gate,
  up: LINEARS.up,
  down: LINEARS.down,
} as const;

export type LinearName = keyof typeof LINEARS;
export const LINEAR_NAMES = Object.keys(LINEARS) as LinearName[];

export type WeightName = 'embedding' | `layers.${number}.${keyof typeof LAYER_MODULES}` | 'finalNorm' | 'head';

/** Whether a weight is that of a linear layer within a block: those that are quantised and adapted. */
export function isLinearWeight(name: WeightName): boolean {
  return LINEAR_NAMES.some((linear) => name.endsWith(`.${linear}`));
}

export interface WeightPlace {
  name: WeightName;
  /** The tensor's name in files. */
  fileName: string;
  shape: number[];
}

/** Every weight of a model, in the order of the forward pass. A tied head is not a weight of its own. */
export function weightPlaces(config: LlamaConfig): WeightPlace[] {
  const { vocabularySize: V, width: C } = config;
  const places: WeightPlace[] = [{ name: 'embedding', fileName: EMBEDDING_FILE_NAME, shape: [V, C] }];
  for (let i = 0; i < config.layers; i++) {
    for (const [key, { module, shape }] of Object.entries(LAYER_MODULES)) {
      const name = `layers.${i}.${key as keyof typeof LAYER_MODULES}` as const;
      places.push({ name, fileName: `model.layers.${i}.${module}.weight`, shape: shape(config) });
    }
  }
  places.push({ name: 'finalNorm', fileName: 'model.norm.weight', shape: [C] });
  if (!config.tiedHead) places.push({ name: 'head', fileName: HEAD_FILE_NAME, shape: [V, C] });
  return places;
}

export const EMBEDDING_FILE_NAME = 'model.embed_tokens.weight';
export const HEAD_FILE_NAME = 'lm_head.weight';

/** Tables that old versions of transformers stored though they follow from the config. */
export function isDerivedTensor(fileName: string): boolean {
  return fileName.endsWith('rotary_emb.inv_freq');
}

/** A linear layer's last name in files (`q_proj`): what PEFT calls a target module. */
export function targetModule(linear: LinearName): string {
  return LINEARS[linear].module.split('.')[1]!;
}

export function linearOfTargetModule(module: string): LinearName | undefined {
  return LINEAR_NAMES.find((linear) => targetModule(linear) === module);
}

export const ADAPTER_CONFIG_FILE = 'adapter_config.json';
export type AdapterTensorName = `layers.${number}.${LinearName}.${'A' | 'B'}`;

export function adapterFileName(layer: number, linear: LinearName, factor: 'A' | 'B'): string {
  return `base_model.model.model.layers.${layer}.${LINEARS[linear].module}.lora_${factor}.weight`;
}

/** What training frameworks put into names: wrappers of torch's parallel, compiled and sharded modules. */
const WRAPPERS = /(?<=^|\.)(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\./g;
/** PEFT wraps the model once as `base_model.model.`; adapters taken from its state have the adapter's own name at the end. */
const ADAPTER_TENSOR =
  /^(?:base_model\.model\.)*(?:model\.)*layers\.(0|[1-9]\d{0,4})\.((?:self_attn|mlp)\.[a-z]+_proj)\.lora_([AB])(?:\.(?!weight$)[\w-]+)?\.weight$/;

/** Our name for an adapter's tensor, by PEFT's name or one of those found in the wild; undefined when it is none. */
export function parseAdapterFileName(
  fileName: string,
): { layer: number; linear: LinearName; factor: 'A' | 'B' } | undefined {
  const [, layer, module, factor] = ADAPTER_TENSOR.exec(fileName.replace(WRAPPERS, '')) ?? [];
  const linear = LINEAR_NAMES.find((name) => LINEARS[name].module === module);
  return linear && { layer: Number(layer), linear, factor: factor as 'A' | 'B' };
}
