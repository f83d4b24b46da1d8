// SPDX-License-Identifier: Apache-2.0
// config.json of a LLaMA model, as transformers has written it through its versions (LLaMA-1 days, 4, 5), to the shape that
// the engine needs and back. Absent fields have transformers' defaults where models rely on them. Whatever would change the
// computation and is not implemented is refused by name: a model is never run as something that it is not.
// Run its tests: `npm test -- checkpoints/llama-config`.
import { join } from 'node:path';
import { UserError } from '../errors.js';
import { exists } from './files.js';
import { Fields, readJsonObject } from './json.js';
import { ADAPTER_CONFIG_FILE } from './names.js';

export const CONFIG_FILE = 'config.json';
const GENERATION_CONFIG_FILE = 'generation_config.json';

export type RopeScaling =
  | { type: 'linear'; factor: number }
  | {
      type: 'llama3';
      factor: number;
      lowFrequencyFactor: number;
      highFrequencyFactor: number;
      originalMaxPositions: number;
    };

/** The shape of a LLaMA model, and the special tokens that its files name. */
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
  ropeScaling: RopeScaling | undefined;
  /** The head is the embedding table. */
  tiedHead: boolean;
  maxPositions: number;
  bosTokenId?: number | undefined;
  /** Tokens that end a text; the first is the one to put at the end of training examples. */
  eosTokenIds: number[];
  padTokenId?: number | undefined;
}

/** Far above every published model; what is above is a damaged file, and would cost memory before it is found out. */
const MAX_DIMENSION = 1 << 24;
export const MAX_LAYERS = 1024;
const MAX_POSITIONS = 2 ** 31 - 1;

/** Reads `config.json` of a model directory, and the end tokens of its `generation_config.json`. @throws UserError */
export function readLlamaConfig(directory: string): LlamaConfig {
  const path = join(directory, CONFIG_FILE);
  if (!exists(path) && exists(join(directory, ADAPTER_CONFIG_FILE))) {
    throw new UserError({
      expected: 'a model folder with config.json',
      found: 'an adapter',
      where: directory,
      remedy: 'give this folder as the adapter, and the folder of its base model as the model',
    });
  }
  const fields = new Fields(readJsonObject(path, 'a model folder with config.json'), path);
  const config = parseLlamaConfig(fields);
  // Chat models often name their end-of-turn token only here; transformers stops at these tokens.
  const generationPath = join(directory, GENERATION_CONFIG_FILE);
  if (exists(generationPath)) {
    const generation = new Fields(readJsonObject(generationPath, 'a generation config'), generationPath);
    if (generation.has('eos_token_id')) config.eosTokenIds = endTokens(generation, config.vocabularySize);
  }
  return config;
}

export function parseLlamaConfig(fields: Fields): LlamaConfig {
  checkFamily(fields);
  checkVariants(fields);
  const dimension = (key: string, byDefault?: number) =>
    fields.wholeNumber(key, { min: 1, max: MAX_DIMENSION, ...(byDefault !== undefined && { default: byDefault }) });
  const width = dimension('hidden_size');
  const queryHeads = dimension('num_attention_heads');
  const keyValueHeads = dimension('num_key_value_heads', queryHeads);
  if (queryHeads % keyValueHeads !== 0) {
    throw fields.error('num_key_value_heads', `a divisor of num_attention_heads (${queryHeads})`, keyValueHeads);
  }
  if (!fields.has('head_dim') && width % queryHeads !== 0) {
    throw fields.error('hidden_size', `a multiple of num_attention_heads (${queryHeads}), as head_dim is not given`);
  }
  const headWidth = dimension('head_dim', width / queryHeads);
  if (headWidth % 2 !== 0) throw fields.error('head_dim', 'an even number, for rotary positions turn pairs', headWidth);
  const vocabularySize = dimension('vocab_size');
  const maxPositions = fields.wholeNumber('max_position_embeddings', { min: 1, max: MAX_POSITIONS, default: 2048 });
  return {
    vocabularySize,
    width,
    feedForwardWidth: dimension('intermediate_size'),
    layers: fields.wholeNumber('num_hidden_layers', { min: 1, max: MAX_LAYERS }),
    queryHeads,
    keyValueHeads,
    headWidth,
    rmsNormEps: fields.number('rms_norm_eps', { min: 0, below: 1, default: 1e-6 }),
    ...parseRope(fields, maxPositions),
    tiedHead: fields.boolean('tie_word_embeddings', false),
    maxPositions,
    bosTokenId: fields.get('bos_token_id') === null ? undefined : tokenId(fields, 'bos_token_id', vocabularySize, 1),
    eosTokenIds: endTokens(fields, vocabularySize),
    padTokenId: fields.has('pad_token_id') ? tokenId(fields, 'pad_token_id', vocabularySize) : undefined,
  };
}

function checkFamily(fields: Fields): void {
  const type = fields.get('model_type');
  // Mistral is LLaMA but for its defaults and its sliding window: accepted where the file states that it differs in neither.
  const plainMistral = type === 'mistral' && fields.get('sliding_window') === null && fields.has('num_key_value_heads');
  if (type === 'llama' || plainMistral) return;
  throw fields.error(
    'model_type',
    type === 'mistral'
      ? "'llama', or 'mistral' with \"sliding_window\": null and num_key_value_heads"
      : "'llama' (LLaMA 1 to 3, Guanaco, Vicuna, TinyLlama and others of that architecture)",
    type,
    'choose a base model of the LLaMA architecture',
  );
}

/** What LLaMA configs can ask for and the engine does not do. */
function checkVariants(fields: Fields): void {
  const quantization = fields.object('quantization_config');
  if (quantization) checkQuantization(quantization);
  const act = fields.string('hidden_act', 'silu');
  if (act !== 'silu' && act !== 'swish') throw fields.error('hidden_act', "'silu'", act);
  for (const key of ['attention_bias', 'mlp_bias']) {
    if (fields.boolean(key, false)) throw fields.error(key, 'false: linear layers with a bias are not implemented');
  }
}

/** NF4 of bitsandbytes is read; how the weights were made shows in their tensors. */
function checkQuantization(fields: Fields): void {
  const remedy = "take the original model and quantise it while loading (--quantize nf4), or with 'tacotune quantize'";
  const method = fields.get('quant_method') ?? 'bitsandbytes';
  if (method !== 'bitsandbytes') {
    throw fields.error('quant_method', "'bitsandbytes', or a model that is not quantised", method, remedy);
  }
  if (!fields.boolean('load_in_4bit', false)) {
    throw fields.error('load_in_4bit', 'true: 8-bit weights are not implemented', fields.get('load_in_4bit'), remedy);
  }
  const type = fields.get('bnb_4bit_quant_type') ?? 'fp4';
  if (type !== 'nf4') throw fields.error('bnb_4bit_quant_type', "'nf4'", type, remedy);
}

function parseRope(fields: Fields, maxPositions: number): Pick<LlamaConfig, 'ropeTheta' | 'ropeScaling'> {
  // transformers 4 has rope_theta beside rope_scaling, transformers 5 both within rope_parameters.
  const key = fields.has('rope_scaling') ? 'rope_scaling' : 'rope_parameters';
  const rope = fields.object(key);
  for (const place of [fields, rope]) {
    if (place?.has('partial_rotary_factor') && place.get('partial_rotary_factor') !== 1) {
      throw place.error('partial_rotary_factor', '1: rotary positions on a part of each head are not implemented');
    }
  }
  const theta = (place: Fields) => place.number('rope_theta', { above: 0, default: 10_000 });
  const ropeTheta = theta(rope?.has('rope_theta') ? rope : fields);
  return { ropeTheta, ropeScaling: rope && parseScaling(rope, maxPositions) };
}

function parseScaling(rope: Fields, maxPositions: number): RopeScaling | undefined {
  const typeKey = rope.has('rope_type') ? 'rope_type' : 'type';
  const type = rope.string(typeKey, rope.has('factor') ? undefined : 'default');
  const factor = () => rope.number('factor', { min: 1 });
  switch (type) {
    case 'default':
      return undefined;
    case 'linear':
      return { type, factor: factor() };
    case 'llama3': {
      const lowFrequencyFactor = rope.number('low_freq_factor', { above: 0 });
      return {
        type,
        factor: factor(),
        lowFrequencyFactor,
        highFrequencyFactor: rope.number('high_freq_factor', { above: lowFrequencyFactor }),
        originalMaxPositions: rope.wholeNumber('original_max_position_embeddings', {
          min: 1,
          max: MAX_POSITIONS,
          default: maxPositions,
        }),
      };
    }
    default:
      throw rope.error(typeKey, "'default', 'linear' or 'llama3': other scalings of positions are not implemented");
  }
}

/** A token's id. Old configs mark an absent token by a number below zero. */
function tokenId(fields: Fields, key: string, vocabularySize: number, byDefault?: number): number | undefined {
  const range = { min: -MAX_DIMENSION, max: vocabularySize - 1 };
  const id = fields.wholeNumber(key, { ...range, ...(byDefault !== undefined && { default: byDefault }) });
  return id < 0 ? undefined : id;
}

function endTokens(fields: Fields, vocabularySize: number): number[] {
  const value = fields.get('eos_token_id');
  if (value === null) return [];
  const ids = Array.isArray(value) ? value : [value ?? 2];
  if (!ids.every((id) => Number.isSafeInteger(id) && id < vocabularySize)) {
    throw fields.error('eos_token_id', `a token id, or a list of them, below vocab_size (${vocabularySize})`);
  }
  return ids.filter((id) => id >= 0);
}

/** The text of a config.json that transformers 4 and 5 read. @param dtype of the weights beside it */
export function formatLlamaConfig(config: LlamaConfig, dtype: 'float32' | 'float16' | 'bfloat16'): string {
  const { ropeScaling: scaling, eosTokenIds: eos } = config;
  const fields = {
    architectures: ['LlamaForCausalLM'],
    attention_bias: false,
    bos_token_id: config.bosTokenId ?? null,
    eos_token_id: eos.length > 1 ? eos : (eos[0] ?? null),
    head_dim: config.headWidth,
    hidden_act: 'silu',
    hidden_size: config.width,
    intermediate_size: config.feedForwardWidth,
    max_position_embeddings: config.maxPositions,
    mlp_bias: false,
    model_type: 'llama',
    num_attention_heads: config.queryHeads,
    num_hidden_layers: config.layers,
    num_key_value_heads: config.keyValueHeads,
    pad_token_id: config.padTokenId ?? null,
    rms_norm_eps: config.rmsNormEps,
    rope_scaling: scaling ? formatScaling(scaling) : null,
    rope_theta: config.ropeTheta,
    tie_word_embeddings: config.tiedHead,
    torch_dtype: dtype,
    use_cache: true,
    vocab_size: config.vocabularySize,
  };
  return `${JSON.stringify(fields, null, 2)}\n`;
}

function formatScaling(scaling: RopeScaling): object {
  if (scaling.type === 'linear') return { factor: scaling.factor, rope_type: scaling.type, type: scaling.type };
  return {
    factor: scaling.factor,
    high_freq_factor: scaling.highFrequencyFactor,
    low_freq_factor: scaling.lowFrequencyFactor,
    original_max_position_embeddings: scaling.originalMaxPositions,
    rope_type: scaling.type,
  };
}
