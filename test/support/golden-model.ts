// SPDX-License-Identifier: Apache-2.0
// The tiny models of the goldens as engine models, read by the plain reader of goldens.ts.

import type { Compute, Device, WeightSource } from '../../engine/index.js';
import {
  CpuDevice,
  LINEAR_NAMES,
  type LinearName,
  Llama,
  type LlamaConfig,
  type LlamaOptions,
  type WeightName,
} from '../../engine/index.js';
import { f32, type GoldenTensor, goldenJson, readGolden } from './goldens.js';

export type GoldenModel = 'mha' | 'gqa' | 'llama3rope';
export const GOLDEN_MODELS: readonly GoldenModel[] = ['mha', 'gqa', 'llama3rope'];

const MODULES: Record<LinearName, string> = {
  q: 'self_attn.q_proj',
  k: 'self_attn.k_proj',
  v: 'self_attn.v_proj',
  o: 'self_attn.o_proj',
  gate: 'mlp.gate_proj',
  up: 'mlp.up_proj',
  down: 'mlp.down_proj',
};

function fileName(name: WeightName): string {
  if (name === 'embedding') return 'model.embed_tokens.weight';
  if (name === 'finalNorm') return 'model.norm.weight';
  if (name === 'head') return 'lm_head.weight';
  const [, layer, part] = name.split('.') as [string, string, string];
  if (part === 'attentionNorm') return `model.layers.${layer}.input_layernorm.weight`;
  if (part === 'feedForwardNorm') return `model.layers.${layer}.post_attention_layernorm.weight`;
  return `model.layers.${layer}.${MODULES[part as LinearName]}.weight`;
}

export function peftName(layer: number, linear: LinearName, factor: 'A' | 'B'): string {
  return `base_model.model.model.layers.${layer}.${MODULES[linear]}.lora_${factor}.weight`;
}

/** The numbers of the goldens' README, written out: the config reader is tested elsewhere. */
export const CONFIGS: Record<GoldenModel, LlamaConfig> = {
  mha: {
    vocabularySize: 256,
    width: 64,
    feedForwardWidth: 176,
    layers: 2,
    queryHeads: 4,
    keyValueHeads: 4,
    headWidth: 16,
    rmsNormEps: 1e-6,
    ropeTheta: 10000,
    tiedHead: false,
    maxPositions: 256,
  },
  gqa: {
    vocabularySize: 320,
    width: 96,
    feedForwardWidth: 256,
    layers: 3,
    queryHeads: 6,
    keyValueHeads: 2,
    headWidth: 16,
    rmsNormEps: 1e-5,
    ropeTheta: 100000,
    tiedHead: true,
    maxPositions: 512,
  },
  llama3rope: {
    vocabularySize: 288,
    width: 64,
    feedForwardWidth: 160,
    layers: 2,
    queryHeads: 4,
    keyValueHeads: 2,
    headWidth: 32,
    rmsNormEps: 1e-5,
    ropeTheta: 500000,
    tiedHead: false,
    maxPositions: 512,
    ropeScaling: { type: 'llama3', factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalMaxPositions: 64 },
  },
};

const STORED = { F32: 'f32', BF16: 'bf16', F16: 'f16' } as const;

export interface GoldenLlamaOptions extends Partial<LlamaOptions> {
  compute?: Compute;
  device?: Device;
}

export function goldenSource(model: GoldenModel): WeightSource {
  const tensors = readGolden('models', model, 'model.safetensors');
  return {
    weight: (name) => {
      const tensor = tensors.get(fileName(name))!;
      return {
        dtype: STORED[tensor.dtype as keyof typeof STORED],
        shape: tensor.shape,
        data: tensor.data as Float32Array | Uint16Array,
      };
    },
  };
}

export function goldenLlama(model: GoldenModel, options: GoldenLlamaOptions = {}): Llama {
  const device = options.device ?? new CpuDevice({ compute: options.compute ?? 'f32', poison: true });
  return new Llama(device, CONFIGS[model], goldenSource(model), {
    quantization: options.quantization ?? 'none',
    adapter: options.adapter,
  });
}

export type AdapterCase = 'r8_all' | 'r32_qkvo';
export const ADAPTERS = {
  r8_all: { rank: 8, alpha: 16, dropout: 0, rslora: false, targets: LINEAR_NAMES },
  r32_qkvo: { rank: 32, alpha: 64, dropout: 0, rslora: false, targets: ['q', 'k', 'v', 'o'] },
} as const satisfies Record<AdapterCase, unknown>;

/** Fills the adapter's parameters from a golden file under PEFT's names; B zero where asked. */
export function loadGoldenAdapter(llama: Llama, tensors: Map<string, GoldenTensor>, zeroB = false): void {
  for (const { name, value } of llama.parameters!.list) {
    if (zeroB && name.endsWith('.B')) llama.device.fill(value, 0);
    else llama.device.upload(value, f32(tensors, peftNameOf(name)));
  }
}

/** `layers.3.q.A` → PEFT's name. */
export function peftNameOf(name: string): string {
  const [, layer, linear, factor] = name.split('.') as [string, string, LinearName, 'A' | 'B'];
  return peftName(Number(layer), linear, factor);
}

/** The batches of forward/<model>/inputs.safetensors: rows padded right or left. */
export function goldenInputs(model: GoldenModel, side: 'right' | 'left') {
  const tensors = readGolden('forward', model, 'inputs.safetensors');
  const get = (name: string) => Int32Array.from(tensors.get(`${side}.${name}`)!.data);
  return {
    B: 2,
    T: 33,
    ids: get('input_ids'),
    labels: get('labels'),
    positions: get('position_ids'),
    segments: get('attention_mask'),
  };
}

export const forwardFacts = () =>
  goldenJson<{ models: Record<GoldenModel, Record<string, Record<'f32base' | 'nf4base', Record<string, number>>>> }>(
    'forward',
    'forward.json',
  ).models;
