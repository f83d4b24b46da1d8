// SPDX-License-Identifier: Apache-2.0
// A GGUF file of a LLaMA model as a model like any other: its keys as a config, its tensors under Hugging Face's names. The one
// table between llama.cpp's names and ours stands here, for reading and writing. What would make it another model (experts,
// other position scalings, biases) is refused by name. Run its tests: `npm test -- checkpoints/gguf`.
import { dirname } from 'node:path';
import { UserError } from '../errors.js';
import { type GgufHeader, type GgufValue, LongList } from './gguf.js';
import { type GgufFile, type GgufName, openGguf } from './gguf-tensors.js';
import { Fields, type JsonObject } from './json.js';
import { formatLlamaConfig, type LlamaConfig, parseLlamaConfig, type RopeScaling } from './llama-config.js';
import { type Model, StoredModel } from './model.js';
import { weightPlaces } from './names.js';

const LAYER_NAMES: Readonly<Record<string, string>> = {
  attentionNorm: 'attn_norm',
  q: 'attn_q',
  k: 'attn_k',
  v: 'attn_v',
  o: 'attn_output',
  feedForwardNorm: 'ffn_norm',
  gate: 'ffn_gate',
  up: 'ffn_up',
  down: 'ffn_down',
};
const MODEL_NAMES: Readonly<Record<string, string>> = {
  embedding: 'token_embd.weight',
  finalNorm: 'output_norm.weight',
  head: 'output.weight',
};
/** Factors that divide the rotary frequencies, where LLaMA 3.1's scaling is on. */
export const ROPE_FACTORS = 'rope_freqs.weight';

/** llama.cpp's name for a weight of ours. */
export function ggufName(name: string): string {
  const [, layer, part] = name.split('.');
  return MODEL_NAMES[name] ?? `blk.${layer}.${LAYER_NAMES[part!]}.weight`;
}

/** Whether llama.cpp has the rows of a weight (or of a LoRA's B beside it) in its own order. */
export function isPermuted(name: string): boolean {
  return /\.[qk]$/.test(name);
}

/** Opens a GGUF file of a LLaMA model. @throws UserError with all bad tensors at once */
export function openGgufModel(path: string): Model {
  let config: LlamaConfig | undefined;
  const renamed: [string, string][] = [];
  const file = openGguf(path, (header) => {
    config = readConfig(header, path);
    const ours = names(config);
    return (stored) => {
      if (stored === ROPE_FACTORS) return undefined;
      const known = ours.get(stored) ?? { name: stored };
      if (known.name !== stored) renamed.push([stored, known.name]);
      return known;
    };
  });
  try {
    config!.ropeScaling ??= readRopeFactors(path, config!);
    const tensors = new Map([...file.tensors.keys()].map((name) => [name, file as GgufFile]));
    const weights = { tensors, disagreements: [], path, renamed, close: () => file.close() };
    const text = formatLlamaConfig(config!, 'float32');
    return new StoredModel(dirname(path), config!, JSON.parse(text) as JsonObject, weights);
  } catch (error) {
    file.close();
    throw error;
  }
}

/** llama.cpp's names of a model's weights, with ours in files. */
function names(config: LlamaConfig): Map<string, GgufName> {
  return new Map(
    weightPlaces(config).map(({ name, fileName }) => [
      ggufName(name),
      { name: fileName, headWidth: isPermuted(name) ? config.headWidth : undefined },
    ]),
  );
}

/** The keys of a file as the config.json that they stand for, so that both are checked by the same rules. */
function readConfig({ metadata, tensors }: GgufHeader, path: string): LlamaConfig {
  const refuse = (key: string, expected: string) =>
    new UserError({
      expected: `${key}: ${expected}`,
      found: text(metadata.get(key)),
      where: path,
      remedy: 'choose a base model of the LLaMA architecture',
    });
  const architecture = metadata.get('general.architecture');
  if (architecture !== 'llama') throw refuse('general.architecture', "'llama'");
  const at = (key: string): GgufValue | undefined => metadata.get(`llama.${key}`);
  if (Number(at('expert_count') ?? 0) > 0) throw refuse('llama.expert_count', '0: experts are not implemented');
  const heads = at('attention.head_count');
  const headWidth = at('attention.key_length') ?? Number(at('embedding_length')) / Number(heads);
  for (const key of ['attention.value_length', 'rope.dimension_count']) {
    if ((at(key) ?? headWidth) !== headWidth) throw refuse(`llama.${key}`, `${text(headWidth)}, the width of a head`);
  }
  const scaling = at('rope.scaling.type') ?? 'none';
  if (scaling !== 'none' && scaling !== 'linear') throw refuse('llama.rope.scaling.type', "'none' or 'linear'");
  const factor = at('rope.scaling.factor') ?? at('rope.scale_linear') ?? 1;
  const isLinear =
    scaling === 'linear' || (scaling === 'none' && at('rope.scale_linear') !== undefined && factor !== 1);
  const token = (name: string) => metadata.get(`tokenizer.ggml.${name}_token_id`);
  const fields = {
    model_type: 'llama',
    hidden_size: at('embedding_length'),
    intermediate_size: at('feed_forward_length'),
    num_hidden_layers: at('block_count'),
    num_attention_heads: heads,
    num_key_value_heads: at('attention.head_count_kv') ?? heads,
    head_dim: headWidth,
    rms_norm_eps: shortest(at('attention.layer_norm_rms_epsilon')),
    rope_theta: shortest(at('rope.freq_base')) ?? 10_000,
    rope_scaling: isLinear ? { type: 'linear', factor } : null,
    max_position_embeddings: at('context_length') ?? 2048,
    vocab_size: tensors.get(MODEL_NAMES['embedding']!)?.shape[0],
    tie_word_embeddings: !tensors.has(MODEL_NAMES['head']!),
    bos_token_id: token('bos') ?? 1,
    eos_token_id: token('eos') ?? 2,
    ...(token('padding') !== undefined && { pad_token_id: token('padding') }),
  };
  return parseLlamaConfig(new Fields(fields, path));
}

/** f32 numbers were decimal ones once: 1e-5 is 0.000009999999747378752 as f32, and would be another config. */
function shortest(value: GgufValue | undefined): GgufValue | undefined {
  return typeof value === 'number' ? Number(value.toPrecision(7)) : value;
}

function text(value: GgufValue | undefined): string {
  if (value instanceof LongList) return `a list of ${value.length}`;
  return value === undefined
    ? 'nothing'
    : Array.isArray(value)
      ? `a list of ${value.length}`
      : String(value).slice(0, 80);
}

/** LLaMA 3.1 and later: low 1, high 4, and these. Its GGUF files have the factors that follow from them, not the settings. */
const SCALING_FACTORS = [8, 32, 16, 4, 2, 64];
const ORIGINAL_POSITIONS = [8192, 4096, 2048, 1024, 512, 256, 128, 64, 16_384, 32_768, 131_072];
const FACTOR_TOLERANCE = 1e-4;

/** The scaling of positions that a file's factors stand for. @throws UserError when none of the known ones */
function readRopeFactors(path: string, config: LlamaConfig): RopeScaling | undefined {
  const file = openGguf(path);
  try {
    if (!file.tensors.has(ROPE_FACTORS)) return undefined;
    const stored = file.read(ROPE_FACTORS);
    const same = (scaling: RopeScaling) => {
      const factors = ropeFactors({ ...config, ropeScaling: scaling })!;
      return (
        stored.length === factors.length &&
        factors.every((factor, i) => Math.abs(Number(stored[i]) - factor) <= FACTOR_TOLERANCE * factor)
      );
    };
    if (stored instanceof Float32Array && stored.every((factor) => factor === 1)) return undefined;
    for (const factor of SCALING_FACTORS) {
      for (const originalMaxPositions of ORIGINAL_POSITIONS) {
        const scaling: RopeScaling = {
          type: 'llama3',
          factor,
          lowFrequencyFactor: 1,
          highFrequencyFactor: 4,
          originalMaxPositions,
        };
        if (same(scaling)) return scaling;
      }
    }
    throw new UserError({
      expected: `${ROPE_FACTORS} of LLaMA 3.1's scaling of positions`,
      found: `other factors (${[...(stored as Float32Array).subarray(0, 4)].join(', ')} …)`,
      where: path,
      remedy: 'take the original model: its config says how positions are scaled',
    });
  } finally {
    file.close();
  }
}

/** What divides each rotary frequency under LLaMA 3.1's scaling, as llama.cpp's converter computes it; undefined without it. */
export function ropeFactors({ headWidth, ropeTheta, ropeScaling }: LlamaConfig): Float32Array | undefined {
  if (ropeScaling?.type !== 'llama3') return undefined;
  const { factor, lowFrequencyFactor, highFrequencyFactor, originalMaxPositions } = ropeScaling;
  return Float32Array.from({ length: headWidth / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * ropeTheta ** ((2 * i) / headWidth);
    if (wavelength < originalMaxPositions / highFrequencyFactor) return 1;
    if (wavelength > originalMaxPositions / lowFrequencyFactor) return factor;
    const smooth =
      (originalMaxPositions / wavelength - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}
