// SPDX-License-Identifier: Apache-2.0
// The feed-forward half of a block, forward and backward: out = mid + down(swiglu(gate, up)) with gate and up of the
// normalised mid. Backward makes the normalised input and the swiglu again (one pass over each) and never the down product.
import type { F32 } from '../device/index.js';
import type { PassContext } from './context.js';
import { allocateLow, type Low, type Projection, projectionBackward, projectionForward } from './projection.js';

export interface FeedForwardWeights {
  readonly norm: F32; // (C)
  /** (C), where the norm trains. */
  readonly normGradient?: F32;
  readonly gate: Projection; // (F,C)
  readonly up: Projection; // (F,C)
  readonly down: Projection; // (C,F)
}

/** What the backward pass of the half reads besides its input. */
export interface FeedForwardKept {
  readonly rstd: F32; // (M)
  readonly gate: F32; // (M,F)
  readonly up: F32; // (M,F)
  readonly low: { readonly gate: Low; readonly up: Low };
}

/** gate and up of mid: all that backward needs, so recomputing a block's second half stops here. */
export function gatesForward(ctx: PassContext, layer: number, weights: FeedForwardWeights, mid: F32): FeedForwardKept {
  const { device, config, M } = ctx;
  const { width: C, feedForwardWidth: F } = config;
  const rstd = device.allocate('activations', [M]);
  const normed = device.allocate('activations', [M, C]);
  device.rmsnormForward(normed, rstd, mid, weights.norm, config.rmsNormEps);
  const low = { gate: allocateLow(device, weights.gate, M), up: allocateLow(device, weights.up, M) };
  const gate = device.allocate('activations', [M, F]);
  const up = device.allocate('activations', [M, F]);
  projectionForward(device, weights.gate, gate, normed, low.gate, ctx.seedOf(layer, 'gate'));
  projectionForward(device, weights.up, up, normed, low.up, ctx.seedOf(layer, 'up'));
  device.free(normed);
  return { rstd, gate, up, low };
}

/** out (M,C) = mid (M,C) + down(swiglu(gate, up)). Returns the low-rank product of down, which backward reads. */
export function downForward(
  ctx: PassContext,
  layer: number,
  weights: FeedForwardWeights,
  out: F32,
  mid: F32,
  kept: FeedForwardKept,
): Low {
  const { device } = ctx;
  const hidden = device.allocate('activations', kept.gate.shape);
  device.swigluForward(hidden, kept.gate, kept.up);
  device.copy(out, mid);
  const low = allocateLow(device, weights.down, ctx.M);
  projectionForward(device, weights.down, out, hidden, low, ctx.seedOf(layer, 'down'), true);
  device.free(hidden);
  return low;
}

/** dx (M,C) holds dout on entry and dmid on return. gate and up of `kept` are overwritten by their gradients. */
export function feedForwardBackward(
  ctx: PassContext,
  layer: number,
  weights: FeedForwardWeights,
  dx: F32,
  mid: F32,
  kept: FeedForwardKept,
  lowDown: Low,
): void {
  const { device, config, M } = ctx;
  const { gate, up } = kept;
  // out = mid + down(hidden) →
  const hidden = device.allocate('activations', gate.shape);
  if (weights.down.lora || weights.down.gradient) device.swigluForward(hidden, gate, up);
  const dhidden = device.allocate('activations', gate.shape);
  projectionBackward(device, weights.down, dhidden, dx, hidden, lowDown, ctx.seedOf(layer, 'down'));
  device.free(hidden);
  // hidden = swiglu(gate, up) →
  device.swigluBackward(gate, up, dhidden, gate, up);
  device.free(dhidden);
  // gate, up = projections of the normalised mid, made again →
  const normed = device.allocate('activations', [M, config.width]);
  device.rmsnormForward(normed, kept.rstd, mid, weights.norm, config.rmsNormEps);
  const dnormed = device.allocate('activations', [M, config.width]);
  projectionBackward(device, weights.gate, dnormed, gate, normed, kept.low.gate, ctx.seedOf(layer, 'gate'));
  projectionBackward(device, weights.up, dnormed, up, normed, kept.low.up, ctx.seedOf(layer, 'up'), true);
  device.free(normed);
  // normed = rmsnorm(mid), and mid also flows past the half →
  device.rmsnormBackward(dx, weights.normGradient, dnormed, mid, kept.rstd, weights.norm, true);
  device.free(dnormed);
}

export function freeFeedForwardKept(ctx: PassContext, kept: FeedForwardKept): void {
  for (const tensor of [kept.rstd, kept.gate, kept.up]) ctx.device.free(tensor);
  for (const low of Object.values(kept.low)) if (low) ctx.device.free(low);
}
