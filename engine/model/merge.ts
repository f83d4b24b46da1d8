// SPDX-License-Identifier: Apache-2.0
// Merging an adapter into the weights it was trained beside: W + s·B·A in f32. For the result to equal the unmerged model,
// W must be the dense weight itself, not its 4-bit copy.
import type { Device, WeightValues } from '../device/index.js';
import { type LoraSettings, loraScale } from './lora.js';

/** The factors of one linear layer: A (R,K), B (N,R). */
export interface LoraFactors {
  readonly A: Float32Array;
  readonly B: Float32Array;
}

/**
 * (N,K) merged weight, or some rows of one with as many rows of B.
 * @param device must compute in f32, or the product would be rounded
 */
export async function mergedWeight(
  device: Device,
  weight: WeightValues,
  factors: LoraFactors,
  settings: LoraSettings,
): Promise<WeightValues> {
  if (device.compute !== 'f32') throw new Error(`merging needs a device that computes in f32, got ${device.compute}`);
  const [N, K] = weight.shape as [number, number];
  const R = settings.rank;
  const merged = device.allocate('weights', [N, K]);
  const A = device.allocate('adapter', [R, K]);
  const B = device.allocate('adapter', [N, R]);
  device.uploadWeight(merged, weight);
  device.upload(A, factors.A);
  device.upload(B, factors.B);
  // dinp (N,K) += s·dout (N,R)·weight (R,K) is the product B·A that is wanted.
  device.linearBackward(merged, B, A, { alpha: loraScale(settings), accumulate: true });
  const data = await device.download(merged);
  for (const tensor of [merged, A, B]) device.free(tensor);
  return { dtype: 'f32', shape: [N, K], data };
}
