// SPDX-License-Identifier: Apache-2.0
// Continues a sequence of tokens, one by one, over a cache of keys and values. It knows ids only.
import { UserError } from '../../errors.js';
import type { Device } from '../device/index.js';
import type { LayerCache, Llama, LlamaConfig } from '../model/index.js';
import { uniformGenerator } from '../random.js';
import { type SamplingSettings, sample } from './sampling.js';

export interface GenerationSettings extends SamplingSettings {
  maxNewTokens: number;
  /** Generation ends with one of these; it is given out too. */
  stopIds: readonly number[];
  seed: number;
}

/** Keys and values of all layers for one sequence of at most `capacity` tokens. */
class KeyValueCache {
  readonly #layers: { k: LayerCache['k']; v: LayerCache['v'] }[];
  length = 0;

  constructor(
    private readonly device: Device,
    { layers, keyValueHeads, headWidth }: LlamaConfig,
    capacity: number,
  ) {
    const make = () => device.allocate('activations', [capacity, keyValueHeads, headWidth]);
    this.#layers = Array.from({ length: layers }, () => ({ k: make(), v: make() }));
  }

  get layers(): LayerCache[] {
    return this.#layers.map(({ k, v }) => ({ k, v, length: this.length }));
  }

  dispose(): void {
    for (const { k, v } of this.#layers) {
      this.device.free(k);
      this.device.free(v);
    }
  }
}

/** Tokens of the prompt that run through the model at once: bounds the memory of a long prompt. */
const PREFILL_TOKENS = 512;

/**
 * Yields the tokens that follow the prompt, until a stop token, the limit, or an abort.
 * @throws UserError when the prompt is empty or leaves no room in the model's context
 */
export async function* generateTokens(
  llama: Llama,
  prompt: ArrayLike<number>,
  settings: GenerationSettings,
  signal?: AbortSignal,
): AsyncGenerator<number> {
  const { config, device } = llama;
  if (prompt.length === 0) throw new UserError({ expected: 'a prompt of at least one token', found: 'none' });
  const room = config.maxPositions - prompt.length;
  if (room < 1) {
    throw new UserError({
      expected: `a prompt shorter than the model's context of ${config.maxPositions} tokens`,
      found: `${prompt.length} tokens`,
      remedy: 'shorten the prompt',
    });
  }
  const limit = Math.min(settings.maxNewTokens, room);
  const uniform = uniformGenerator(settings.seed);
  const ids = Array.from(prompt);
  const cache = new KeyValueCache(device, config, prompt.length + limit);
  try {
    let logits: Float32Array = new Float32Array(0);
    for (let start = 0; start < prompt.length; start += PREFILL_TOKENS) {
      const part = ids.slice(start, start + PREFILL_TOKENS);
      logits = await llama.nextLogits(part, cache.layers, cache.length);
      cache.length += part.length;
    }
    for (let count = 0; count < limit && !signal?.aborted; count++) {
      if (count > 0) {
        logits = await llama.nextLogits(ids.slice(-1), cache.layers, cache.length);
        cache.length++;
      }
      const id = sample(logits, ids, settings, uniform);
      ids.push(id);
      yield id;
      if (settings.stopIds.includes(id)) return;
    }
  } finally {
    cache.dispose();
  }
}
