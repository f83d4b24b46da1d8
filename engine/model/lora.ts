// SPDX-License-Identifier: Apache-2.0
// Low-rank adaptation (Hu et al. 2021) as in PEFT: out += s·(dropout(inp)·Aᵀ)·Bᵀ, s = alpha/R, or alpha/√R with rsLoRA
// (Kalajdzievski 2023). It knows nothing of the linear layer whose output it adds to, and says what that layer is to add.
import type { Device, F32, LowRank } from '../device/index.js';
import { seedOf, uniforms } from '../random.js';
import { type LinearName, type LlamaConfig, linearShape } from './config.js';
import type { Parameter, ParameterSpec, Parameters } from './parameters.js';

export interface LoraSettings {
  rank: number; // R
  alpha: number;
  /** Probability with which an element of the input of A is dropped in training. */
  dropout: number;
  /** Scale by alpha/√R instead of alpha/R. */
  rslora: boolean;
  targets: readonly LinearName[];
}

export interface Lora {
  readonly A: Parameter; // (R,K)
  readonly B: Parameter; // (N,R)
  readonly scale: number;
  readonly dropout: number;
}

export const loraName = (layer: number, linear: LinearName, factor: 'A' | 'B') =>
  `layers.${layer}.${linear}.${factor}` as const;

export function loraScale({ rank, alpha, rslora }: Pick<LoraSettings, 'rank' | 'alpha' | 'rslora'>): number {
  return alpha / (rslora ? Math.sqrt(rank) : rank);
}

/** The parameters of an adapter, in the order layer, linear, A, B. */
export function loraSpecs(config: LlamaConfig, { rank: R, targets }: LoraSettings): ParameterSpec[] {
  const specs: ParameterSpec[] = [];
  for (let i = 0; i < config.layers; i++) {
    for (const linear of targets) {
      const [N, K] = linearShape(config, linear);
      specs.push({ name: loraName(i, linear, 'A'), shape: [R, K], decays: true });
      specs.push({ name: loraName(i, linear, 'B'), shape: [N, R], decays: true });
    }
  }
  return specs;
}

/** A uniform as PEFT has it (Kaiming with a = √5: bound 1/√K), B zero, so that training starts at the base model. */
export function initializeLora(parameters: Parameters, seed: number): void {
  const { device } = parameters;
  for (const [index, { name, shape, value }] of parameters.list.entries()) {
    if (name.endsWith('.A')) device.upload(value, uniforms(seedOf(seed, index), value.size, 1 / Math.sqrt(shape[1]!)));
    else device.fill(value, 0);
  }
}

/** Whether a pass with this seed drops anything. */
export const drops = (lora: Lora, seed: number | undefined): seed is number => seed !== undefined && lora.dropout > 0;

/** A (M,K) dropped copy of `inp`, or `inp` itself where nothing drops. */
function dropped(device: Device, lora: Lora, inp: F32, seed: number | undefined): F32 {
  if (!drops(lora, seed)) return inp;
  const out = device.allocate('activations', inp.shape);
  device.dropoutForward(out, inp, lora.dropout, seed);
  return out;
}

/**
 * What a LoRA adds to its linear layer, s·low·Bᵀ, with low made here.
 * @param inp (M,K)
 * @param seed of the dropout mask; undefined outside training
 * @param low (M,R) receives dropout(inp)·Aᵀ, which backward reads
 */
export function loraForward(device: Device, lora: Lora, inp: F32, low: F32, seed: number | undefined): LowRank {
  const x = dropped(device, lora, inp, seed);
  device.linearForward(low, x, lora.A.value);
  if (x !== inp) device.free(x);
  return { low, factor: lora.B.value, alpha: lora.scale };
}

/** dlow (M,R), which the caller frees; dA and dB +=. Reads inp and low of the forward pass. */
export function loraBackward(device: Device, lora: Lora, dout: F32, inp: F32, low: F32, seed: number | undefined): F32 {
  const { A, B, scale } = lora;
  // out += s·low·Bᵀ →
  device.linearWeightBackward(B.gradient, dout, low, scale);
  const dlow = device.allocate('activations', low.shape);
  device.linearBackward(dlow, dout, B.value, { alpha: scale });
  // low = dropout(inp)·Aᵀ →
  const x = dropped(device, lora, inp, seed);
  device.linearWeightBackward(A.gradient, dlow, x);
  if (x !== inp) device.free(x);
  return dlow;
}

/** What dlow adds to the gradient of a linear layer's input where nothing dropped: dlow·A. */
export const loraThrough = ({ A }: Lora, dlow: F32): LowRank => ({ low: dlow, factor: A.value, alpha: 1 });

/** And where something did: dinp (M,K) += that, masked. */
export function loraDropped(device: Device, { A, dropout }: Lora, dinp: F32, dlow: F32, seed: number): void {
  const dx = device.allocate('activations', dinp.shape);
  device.linearBackward(dx, dlow, A.value);
  device.dropoutBackward(dinp, dx, dropout, seed, true);
  device.free(dx);
}
