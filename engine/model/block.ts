// SPDX-License-Identifier: Apache-2.0
// A decoder block: two halves, and what of them is kept between the passes. A policy trades memory for work; whatever it
// keeps, the results are the same bits, because recomputing runs the same ops on the same inputs with the same seeds.
import type { F32 } from '../device/index.js';
import {
  type AttentionKept,
  type AttentionWeights,
  attentionBackward,
  attentionForward,
  freeAttentionKept,
  type LayerCache,
} from './attention.js';
import type { PassContext } from './context.js';
import {
  downForward,
  type FeedForwardKept,
  type FeedForwardWeights,
  feedForwardBackward,
  freeFeedForwardKept,
  gatesForward,
} from './feed-forward.js';
import type { Low } from './projection.js';

/** What is kept of each block, from most memory to least. */
export const ACTIVATION_POLICIES = ['keep-all', 'keep-midpoints', 'keep-inputs'] as const;
export type ActivationPolicy = (typeof ACTIVATION_POLICIES)[number];

export interface Block {
  readonly attention: AttentionWeights;
  readonly feedForward: FeedForwardWeights;
}

/** What a block's backward pass starts from. */
export interface BlockRecord {
  readonly inp: F32; // (M,C)
  /** Undefined: made again. */
  attention: { mid: F32; kept: AttentionKept } | undefined;
  feedForward: FeedForwardKept | undefined;
  readonly lowDown: Low;
}

/** Runs a block on inp (M,C) and returns its output (M,C) with the record, which owns inp. */
export function blockForward(
  ctx: PassContext,
  layer: number,
  block: Block,
  inp: F32,
  policy: ActivationPolicy,
): { out: F32; record: BlockRecord } {
  const { device } = ctx;
  const mid = device.allocate('activations', inp.shape);
  const attention = attentionForward(ctx, layer, block.attention, mid, inp);
  if (policy === 'keep-inputs') freeAttentionKept(ctx, attention);
  const feedForward = gatesForward(ctx, layer, block.feedForward, mid);
  const out = device.allocate('activations', inp.shape);
  const lowDown = downForward(ctx, layer, block.feedForward, out, mid, feedForward);
  if (policy !== 'keep-all') freeFeedForwardKept(ctx, feedForward);
  if (policy === 'keep-inputs') device.free(mid);
  const record: BlockRecord = {
    inp,
    attention: policy === 'keep-inputs' ? undefined : { mid, kept: attention },
    feedForward: policy === 'keep-all' ? feedForward : undefined,
    lowDown,
  };
  return { out, record };
}

/** dx (M,C) holds dout on entry and dinp on return (undefined contents where not wanted). Gives the record's memory back. */
export function blockBackward(
  ctx: PassContext,
  layer: number,
  block: Block,
  dx: F32,
  record: BlockRecord,
  wantInput: boolean,
): void {
  const { device } = ctx;
  const { inp } = record;
  const { mid, kept } = record.attention ?? recomputeAttention(ctx, layer, block, inp);
  const feedForward = record.feedForward ?? gatesForward(ctx, layer, block.feedForward, mid);
  feedForwardBackward(ctx, layer, block.feedForward, dx, mid, feedForward, record.lowDown);
  freeFeedForwardKept(ctx, feedForward);
  if (record.lowDown) device.free(record.lowDown);
  device.free(mid);
  attentionBackward(ctx, layer, block.attention, dx, inp, kept, wantInput);
  freeAttentionKept(ctx, kept);
  device.free(inp);
}

function recomputeAttention(
  ctx: PassContext,
  layer: number,
  block: Block,
  inp: F32,
): { mid: F32; kept: AttentionKept } {
  const mid = ctx.device.allocate('activations', inp.shape);
  return { mid, kept: attentionForward(ctx, layer, block.attention, mid, inp) };
}

/** Runs a block for inference: inp (M,C) is overwritten by the output, nothing is kept but the cache's new keys and values. */
export function blockInference(ctx: PassContext, layer: number, block: Block, inp: F32, cache?: LayerCache): void {
  const { device } = ctx;
  const mid = device.allocate('activations', inp.shape);
  freeAttentionKept(ctx, attentionForward(ctx, layer, block.attention, mid, inp, cache), cache !== undefined);
  const feedForward = gatesForward(ctx, layer, block.feedForward, mid);
  const lowDown = downForward(ctx, layer, block.feedForward, inp, mid, feedForward);
  freeFeedForwardKept(ctx, feedForward);
  if (lowDown) device.free(lowDown);
  device.free(mid);
}
