// SPDX-License-Identifier: Apache-2.0
// The attention half of a block, forward and backward: mid = inp + o(attention(rope(q), rope(k), v)) with q, k, v of the
// normalised input. Backward reads what forward kept and makes the normalised input again, which costs one pass over it.
import type { F32 } from '../device/index.js';
import type { PassContext } from './context.js';
import { allocateLow, type Low, type Projection, projectionBackward, projectionForward } from './projection.js';

export interface AttentionWeights {
  readonly norm: F32; // (C)
  /** (C), where the norm trains. */
  readonly normGradient?: F32;
  readonly q: Projection; // (Hq·D,C)
  readonly k: Projection; // (Hkv·D,C)
  readonly v: Projection; // (Hkv·D,C)
  readonly o: Projection; // (C,Hq·D)
}

/** What the backward pass of the half reads besides its input. */
export interface AttentionKept {
  readonly rstd: F32; // (M)
  readonly q: F32; // (B,T,Hq,D) after rope
  readonly k: F32; // (B,T,Hkv,D) after rope
  readonly v: F32; // (B,T,Hkv,D)
  readonly out: F32; // (B,T,Hq,D)
  readonly lse: F32; // (B,Hq,T)
  readonly low: { readonly q: Low; readonly k: Low; readonly v: Low; readonly o: Low };
}

/** Keys and values of earlier tokens, of one sequence (B = 1). */
export interface LayerCache {
  readonly k: F32; // (capacity,Hkv,D)
  readonly v: F32; // (capacity,Hkv,D)
  /** Tokens already in it. */
  readonly length: number;
}

/**
 * mid (M,C) = inp (M,C) + attention half.
 * @param cache where keys and values of this pass are appended and earlier ones read; without it, the batch sees itself only
 */
export function attentionForward(
  ctx: PassContext,
  layer: number,
  weights: AttentionWeights,
  mid: F32,
  inp: F32,
  cache?: LayerCache,
): AttentionKept {
  const { device, config, B, T, M } = ctx;
  const { queryHeads: Hq, keyValueHeads: Hkv, headWidth: D } = config;
  const rstd = device.allocate('activations', [M]);
  const normed = device.allocate('activations', [M, config.width]);
  device.rmsnormForward(normed, rstd, inp, weights.norm, config.rmsNormEps);

  const low = {
    q: allocateLow(device, weights.q, M),
    k: allocateLow(device, weights.k, M),
    v: allocateLow(device, weights.v, M),
    o: allocateLow(device, weights.o, M),
  };
  const q = device.allocate('activations', [B, T, Hq, D]);
  const at = (tensor: F32, start: number, count: number) => device.view(tensor, start * Hkv * D, [1, count, Hkv, D]);
  const k = cache ? at(cache.k, cache.length, T) : device.allocate('activations', [B, T, Hkv, D]);
  const v = cache ? at(cache.v, cache.length, T) : device.allocate('activations', [B, T, Hkv, D]);
  projectionForward(device, weights.q, q, normed, low.q, ctx.seedOf(layer, 'q'));
  projectionForward(device, weights.k, k, normed, low.k, ctx.seedOf(layer, 'k'));
  projectionForward(device, weights.v, v, normed, low.v, ctx.seedOf(layer, 'v'));
  device.free(normed);
  device.ropeForward(q, ctx.rotary, ctx.positions);
  device.ropeForward(k, ctx.rotary, ctx.positions);

  const out = device.allocate('activations', [B, T, Hq, D]);
  const lse = device.allocate('activations', [B, Hq, T]);
  const keys = cache ? at(cache.k, 0, cache.length + T) : k;
  const values = cache ? at(cache.v, 0, cache.length + T) : v;
  device.attentionForward(out, lse, q, keys, values, ctx.starts);
  device.copy(mid, inp);
  projectionForward(device, weights.o, mid, out, low.o, ctx.seedOf(layer, 'o'), true);
  return { rstd, q, k, v, out, lse, low };
}

/**
 * dx (M,C) holds dmid on entry and dinp on return.
 * @param wantInput false in the lowest block of a frozen model, where nothing reads dinp
 */
export function attentionBackward(
  ctx: PassContext,
  layer: number,
  weights: AttentionWeights,
  dx: F32,
  inp: F32,
  kept: AttentionKept,
  wantInput: boolean,
): void {
  const { device, config, M } = ctx;
  // mid = inp + o(out) →
  const dout = device.allocate('activations', kept.out.shape);
  projectionBackward(device, weights.o, dout, dx, kept.out, kept.low.o, ctx.seedOf(layer, 'o'));
  // out = attention(q, k, v) →
  const dq = device.allocate('activations', kept.q.shape);
  const dk = device.allocate('activations', kept.k.shape);
  const dv = device.allocate('activations', kept.v.shape);
  device.attentionBackward(dq, dk, dv, dout, kept.q, kept.k, kept.v, kept.out, kept.lse, ctx.starts);
  device.free(dout);
  // q, k = rope(…) →
  device.ropeBackward(dq, ctx.rotary, ctx.positions);
  device.ropeBackward(dk, ctx.rotary, ctx.positions);
  // q, k, v = projections of the normalised input, made again →
  const normed = device.allocate('activations', [M, config.width]);
  device.rmsnormForward(normed, kept.rstd, inp, weights.norm, config.rmsNormEps);
  const dnormed = wantInput ? device.allocate('activations', [M, config.width]) : undefined;
  projectionBackward(device, weights.q, dnormed, dq, normed, kept.low.q, ctx.seedOf(layer, 'q'));
  projectionBackward(device, weights.k, dnormed, dk, normed, kept.low.k, ctx.seedOf(layer, 'k'), true);
  projectionBackward(device, weights.v, dnormed, dv, normed, kept.low.v, ctx.seedOf(layer, 'v'), true);
  for (const tensor of [dq, dk, dv, normed]) device.free(tensor);
  // normed = rmsnorm(inp), and inp also flows past the half →
  if (dnormed) {
    device.rmsnormBackward(dx, weights.normGradient, dnormed, inp, kept.rstd, weights.norm, true);
    device.free(dnormed);
  }
}

/** Gives back what forward kept. With a cache, k and v are the cache's. */
export function freeAttentionKept(ctx: PassContext, kept: AttentionKept, cached = false): void {
  const { device } = ctx;
  for (const tensor of [kept.rstd, kept.q, kept.out, kept.lse]) device.free(tensor);
  if (!cached) for (const tensor of [kept.k, kept.v]) device.free(tensor);
  for (const low of Object.values(kept.low)) if (low) device.free(low);
}
