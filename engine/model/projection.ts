// SPDX-License-Identifier: Apache-2.0
// One linear layer of a block with what trains in it: nothing (frozen), a LoRA beside it, or the weight itself. This is the
// one place that combines them; linear ops and LoRA know nothing of each other.
import type { Device, F32, Weight } from '../device/index.js';
import type { LinearName } from './config.js';
import { type Lora, loraBackward, loraForward } from './lora.js';

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
  device.linearForward(out, inp, projection.weight, { accumulate });
  if (projection.lora) loraForward(device, projection.lora, out, inp, low!, seed);
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
  if (dinp) device.linearBackward(dinp, dout, projection.weight, { accumulate });
  if (projection.gradient) device.linearWeightBackward(projection.gradient, dout, inp);
  if (projection.lora) loraBackward(device, projection.lora, dinp, dout, inp, low!, seed);
}

/** The seed of a layer's dropout masks, apart for each linear as PEFT has it; undefined outside training. */
export type SeedOf = (layer: number, linear: LinearName) => number | undefined;
