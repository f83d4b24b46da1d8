// SPDX-License-Identifier: Apache-2.0
// The shape of a LLaMA model. Read from files elsewhere; this is what the engine needs to know.

export type RopeScaling =
  | { type: 'linear'; factor: number }
  | {
      type: 'llama3';
      factor: number;
      lowFrequencyFactor: number;
      highFrequencyFactor: number;
      originalMaxPositions: number;
    };

export interface LlamaConfig {
  vocabularySize: number; // V
  width: number; // C
  feedForwardWidth: number; // F
  layers: number; // L
  queryHeads: number; // Hq
  keyValueHeads: number; // Hkv
  headWidth: number; // D
  rmsNormEps: number;
  ropeTheta: number;
  ropeScaling?: RopeScaling | undefined;
  /** The head is the embedding table. */
  tiedHead: boolean;
  maxPositions: number;
}

/** The seven linear layers of a block, in the order of the forward pass. */
export const LINEAR_NAMES = ['q', 'k', 'v', 'o', 'gate', 'up', 'down'] as const;
export type LinearName = (typeof LINEAR_NAMES)[number];

/** (N,K) of each linear layer: outputs, inputs. */
export function linearShape(config: LlamaConfig, name: LinearName): [number, number] {
  const { width: C, feedForwardWidth: F, queryHeads, keyValueHeads, headWidth: D } = config;
  switch (name) {
    case 'q':
      return [queryHeads * D, C];
    case 'k':
    case 'v':
      return [keyValueHeads * D, C];
    case 'o':
      return [C, queryHeads * D];
    case 'gate':
    case 'up':
      return [F, C];
    case 'down':
      return [C, F];
  }
}

export type WeightName =
  | 'embedding'
  | 'finalNorm'
  | 'head'
  | `layers.${number}.${'attentionNorm' | 'feedForwardNorm' | LinearName}`;

/** Every weight of a model with its shape, in the order of the forward pass. A tied head is not a weight of its own. */
export function weightShapes(config: LlamaConfig): { name: WeightName; shape: number[] }[] {
  const { vocabularySize: V, width: C } = config;
  const list: { name: WeightName; shape: number[] }[] = [{ name: 'embedding', shape: [V, C] }];
  for (let i = 0; i < config.layers; i++) {
    list.push({ name: `layers.${i}.attentionNorm`, shape: [C] });
    for (const linear of ['q', 'k', 'v', 'o'] as const)
      list.push({ name: `layers.${i}.${linear}`, shape: linearShape(config, linear) });
    list.push({ name: `layers.${i}.feedForwardNorm`, shape: [C] });
    for (const linear of ['gate', 'up', 'down'] as const)
      list.push({ name: `layers.${i}.${linear}`, shape: linearShape(config, linear) });
  }
  list.push({ name: 'finalNorm', shape: [C] });
  if (!config.tiedHead) list.push({ name: 'head', shape: [V, C] });
  return list;
}
