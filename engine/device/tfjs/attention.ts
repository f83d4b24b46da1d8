// SPDX-License-Identifier: Apache-2.0
// Attention over TensorFlow.js, causal and segment-aware with grouped queries, as whole matrices of scores. The query heads
// that share a key-value head are folded into rows, (B·Hkv, G·Tq, D) with G = Hq/Hkv: keys and values are never repeated, and
// the sum of their gradients over the group is the product's own. Functions of tensors alone, within a `tf.tidy`.
import type { T, Tf } from './memory.js';

/** (B,T,H,D) → (B·Hkv, G·T, D); keys and values have G = 1. */
function fold(tf: Tf, x: T, Hkv: number): T {
  const [B, length, H, D] = x.shape as [number, number, number, number];
  const G = H / Hkv;
  const grouped = tf.transpose(tf.reshape(x, [B, length, Hkv, G, D]), [0, 2, 3, 1, 4]);
  return tf.reshape(grouped, [B * Hkv, G * length, D]);
}

/** The way back, to (B,T,H,D). */
function unfold(tf: Tf, x: T, [B, length, H, D]: number[], Hkv: number): T {
  const grouped = tf.reshape(x, [B!, Hkv, H! / Hkv, length!, D!]);
  return tf.reshape(tf.transpose(grouped, [0, 3, 1, 2, 4]), [B!, length!, H!, D!]);
}

/**
 * Scaled scores (B·Hkv, G·Tq, Tk), minus infinity where a query does not see a key.
 * starts (B,Tq) as f32, which a GPU compares by itself: positions are far below 2^24.
 */
function maskedScores(tf: Tf, q: T, k: T, starts: T): T {
  const [B, Tq, Hq, D] = q.shape as [number, number, number, number];
  const [, Tk, Hkv] = k.shape as [number, number, number, number];
  const scores = tf.mul(tf.matMul(fold(tf, q, Hkv), fold(tf, k, Hkv), false, true), 1 / Math.sqrt(D));
  const key = tf.range(0, Tk);
  const position = tf.reshape(tf.range(Tk - Tq, Tk), [Tq, 1]);
  const sees = tf.logicalAnd(tf.greaterEqual(key, tf.reshape(starts, [B, Tq, 1])), tf.lessEqual(key, position));
  const grouped = tf.reshape(scores, [B, Hq, Tq, Tk]);
  const masked = tf.where(tf.reshape(sees, [B, 1, Tq, Tk]), grouped, tf.scalar(Number.NEGATIVE_INFINITY));
  return tf.reshape(masked, scores.shape);
}

/** out (B,Tq,Hq,D) and lse (B,Hq,Tq), q (B,Tq,Hq,D), k and v (B,Tk,Hkv,D), starts (B,Tq) as f32. */
export function attentionForward(tf: Tf, q: T, k: T, v: T, starts: T): { out: T; lse: T } {
  const [B, Tq, Hq] = q.shape as [number, number, number, number];
  const Hkv = v.shape[2]!;
  const scores = maskedScores(tf, q, k, starts);
  const largest = tf.max(scores, -1, true);
  const exponentials = tf.exp(tf.sub(scores, largest));
  const total = tf.sum(exponentials, -1, true);
  const out = tf.matMul(tf.div(exponentials, total), fold(tf, v, Hkv));
  return {
    out: unfold(tf, out, q.shape, Hkv),
    lse: tf.reshape(tf.add(largest, tf.log(total)), [B, Hq, Tq]),
  };
}

/** dq (B,T,Hq,D), dk and dv (B,T,Hkv,D), from what forward left: out (B,T,Hq,D), lse (B,Hq,T). */
export function attentionBackward(
  tf: Tf,
  { dout, q, k, v, out, lse, starts }: Record<'dout' | 'q' | 'k' | 'v' | 'out' | 'lse' | 'starts', T>,
): { dq: T; dk: T; dv: T } {
  const D = q.shape[3]!;
  const Hkv = k.shape[2]!;
  const scores = maskedScores(tf, q, k, starts);
  const P = tf.exp(tf.sub(scores, tf.reshape(lse, [scores.shape[0]!, scores.shape[1]!, 1])));
  const douts = fold(tf, dout, Hkv);
  const mean = tf.sum(tf.mul(douts, fold(tf, out, Hkv)), -1, true); // Σ P·dP
  const dP = tf.matMul(douts, fold(tf, v, Hkv), false, true);
  const dscores = tf.mul(tf.mul(P, tf.sub(dP, mean)), 1 / Math.sqrt(D));
  return {
    dq: unfold(tf, tf.matMul(dscores, fold(tf, k, Hkv)), q.shape, Hkv),
    dk: unfold(tf, tf.matMul(dscores, fold(tf, q, Hkv), true, false), k.shape, Hkv),
    dv: unfold(tf, tf.matMul(P, douts, true, false), v.shape, Hkv),
  };
}
