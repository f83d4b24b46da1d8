// SPDX-License-Identifier: Apache-2.0
// One linear layer of a block with what trains in it: nothing (frozen), a LoRA beside it, or the weight itself. This is the
// one place that combines them; linear ops and LoRA know nothing of each other.
import type { Device, F32, Weight } from '../device/index.js';
import type { LinearName } from './config.js';
import { drops, type Lora, loraBackward, loraDropped, loraForward, loraThrough } from './lora.js';

export interface Projection {
  readonly name: LinearName;
  readonly weight: Weight; // (N,K)
  /** (N,K) gradient of the weight, where the weight itself trains. */
  readonly gradient?: F32;
  lora?: Lora;
}

/** The (M,R) product that LoRA's backward pass reads, or undefined where there is no LoRA. */
export type Low = F32 | undefined;

export function allocateLow(device: Device, projection: Projection, M: number): Low {
  return projection.lora && device.allocate('activations', [M, projection.lora.A.shape[0]!]);
}

/** out (M,N) = inp (M,K)·Wᵀ (+ LoRA); adds to out where told. */
export function projectionForward(
  device: Device,
  projection: Projection,
  out: F32,
  inp: F32,
  low: Low,
  seed: number | undefined,
  accumulate = false,
): void {
  const { lora, weight } = projection;
  const lowRank = lora && loraForward(device, lora, inp, low!, seed);
  device.linearForward(out, inp, weight, { accumulate, ...(lowRank && { lowRank }) });
}

/** dinp (M,K) = (or += where told), undefined where nothing below trains; parameter gradients +=. */
export function projectionBackward(
  device: Device,
  projection: Projection,
  dinp: F32 | undefined,
  dout: F32,
  inp: F32,
  low: Low,
  seed: number | undefined,
  accumulate = false,
): void {
  const { lora, weight, gradient } = projection;
  if (gradient) device.linearWeightBackward(gradient, dout, inp);
  if (!lora) {
    if (dinp) device.linearBackward(dinp, dout, weight, { accumulate });
    return;
  }
  const dlow = loraBackward(device, lora, dout, inp, low!, seed);
  if (dinp && drops(lora, seed)) {
    device.linearBackward(dinp, dout, weight, { accumulate });
    loraDropped(device, lora, dinp, dlow, seed);
  } else if (dinp) {
    device.linearBackward(dinp, dout, weight, { accumulate, lowRank: loraThrough(lora, dlow) });
  }
  device.free(dlow);
}

/** The seed of a layer's dropout masks, apart for each linear as PEFT has it; undefined outside training. */
export type SeedOf = (layer: number, linear: LinearName) => number | undefined;
