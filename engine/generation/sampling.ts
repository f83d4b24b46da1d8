// SPDX-License-Identifier: Apache-2.0
// From logits to the next token: repetition penalty (Keskar et al. 2019), temperature, top-k, top-p (Holtzman et al. 2020),
// in the order of transformers. Temperature 0 is greedy.

export interface SamplingSettings {
  /** Divides the logits; 0 takes the most likely token. */
  temperature: number;
  /** Keeps the smallest set of tokens whose probabilities reach this; 1 keeps all. */
  topP: number;
  /** Keeps the k most likely tokens; 0 keeps all. */
  topK: number;
  /** Divides positive and multiplies negative logits of tokens that were seen; 1 is none. */
  repetitionPenalty: number;
}

export const GREEDY: SamplingSettings = { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1 };

/** The index of the largest logit; the first of equals. */
export function argmax(logits: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

function penalized(logits: Float32Array, seen: Iterable<number>, penalty: number): Float64Array {
  const out = Float64Array.from(logits);
  if (penalty !== 1) for (const id of new Set(seen)) out[id] = out[id]! > 0 ? out[id]! / penalty : out[id]! * penalty;
  return out;
}

/** (V) probabilities that the next token is drawn from. Tokens that are not kept have 0. */
export function probabilities(logits: Float32Array, seen: Iterable<number>, settings: SamplingSettings): Float64Array {
  const scores = penalized(logits, seen, settings.repetitionPenalty);
  if (settings.temperature > 0) for (let i = 0; i < scores.length; i++) scores[i] = scores[i]! / settings.temperature;
  const order = Array.from(scores.keys()).sort((a, b) => scores[b]! - scores[a]! || a - b);
  const largest = scores[order[0]!]!;
  const kept = settings.topK > 0 ? order.slice(0, settings.topK) : order;
  const masses = kept.map((id) => Math.exp(scores[id]! - largest));
  let total = masses.reduce((sum, mass) => sum + mass, 0);
  let count = kept.length;
  if (settings.topP < 1) {
    let reached = 0;
    for (count = 0; count < kept.length && reached < settings.topP * total; count++) reached += masses[count]!;
    count = Math.max(1, count);
    total = reached || masses[0]!;
  }
  const out = new Float64Array(scores.length);
  for (let i = 0; i < count; i++) out[kept[i]!] = masses[i]! / total;
  return out;
}

/** The next token. `uniform` gives numbers in [0,1); it is not called when greedy. */
export function sample(
  logits: Float32Array,
  seen: Iterable<number>,
  settings: SamplingSettings,
  uniform: () => number,
): number {
  if (settings.temperature === 0) return argmax(penalized(logits, seen, settings.repetitionPenalty));
  const weights = probabilities(logits, seen, settings);
  let rest = uniform();
  let last = 0;
  for (let id = 0; id < weights.length; id++) {
    if (weights[id] === 0) continue;
    last = id;
    rest -= weights[id]!;
    if (rest < 0) return id;
  }
  return last; // rounding left a crumb of mass
}
