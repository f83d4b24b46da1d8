// SPDX-License-Identifier: Apache-2.0
// Embedding, norms, rotation, the gated unit, dropout and whole sums over TensorFlow.js: forward and backward of each side by side, as
// functions of tensors alone. They run within a `tf.tidy` of the caller's. Derivations stand in kernels/reference/.
import type { T, Tf } from './memory.js';

// ---- embedding: out[m] = weight[ids[m]] ------------------------------------------------------------------------------

/** (M,C) from weight (V,C), ids (M) int32. */
export const embeddingForward = (tf: Tf, ids: T, weight: T): T => tf.gather(weight, ids as never);

/** The gradient (V,C) of the weight. Rows of an id that repeats are added up. */
export const embeddingBackward = (tf: Tf, dout: T, ids: T, V: number): T =>
  tf.scatterND(tf.reshape(ids, [-1, 1]), dout, [V, dout.shape[1]!]);

// ---- rmsnorm: rstd = 1/sqrt(mean(inp²)+eps), out = inp·rstd·weight -----------------------------------------------------

/** out (M,C) and rstd (M,1), inp (M,C), weight (C). */
export function rmsnormForward(tf: Tf, inp: T, weight: T, eps: number): { out: T; rstd: T } {
  const rstd = tf.rsqrt(tf.add(tf.mean(tf.square(inp), -1, true), eps));
  return { out: tf.mul(tf.mul(inp, rstd), weight), rstd };
}

/** dinp (M,C), rstd (M,1). */
export function rmsnormBackward(tf: Tf, dout: T, inp: T, rstd: T, weight: T): T {
  const normed = tf.mul(inp, rstd);
  const dnormed = tf.mul(dout, weight);
  return tf.mul(rstd, tf.sub(dnormed, tf.mul(normed, tf.mean(tf.mul(dnormed, normed), -1, true))));
}

/** dweight (C). */
export const rmsnormWeightBackward = (tf: Tf, dout: T, inp: T, rstd: T): T =>
  tf.sum(tf.mul(dout, tf.mul(inp, rstd)), 0);

// ---- rope: pairs (x[d], x[d+D/2]) turn by the angle of their position ------------------------------------------------

/** x (M,H,D), table (P,2,D/2), positions (M) int32; direction -1 turns back, which is the gradient. */
export function rope(tf: Tf, x: T, table: T, positions: T, direction: 1 | -1): T {
  const [M, , D] = x.shape as [number, number, number];
  const half = D / 2;
  const rows = tf.gather(table, positions as never); // (M,2,D/2)
  const part = (i: number) => tf.slice(rows, [0, i, 0], [M, 1, half]);
  const [cosine, sine] = [part(0), direction === 1 ? part(1) : tf.neg(part(1))];
  const [a, b] = tf.split(x, 2, -1) as [T, T];
  return tf.concat([tf.sub(tf.mul(a, cosine), tf.mul(b, sine)), tf.add(tf.mul(b, cosine), tf.mul(a, sine))], -1);
}

// ---- swiglu: out = silu(gate)·up ---------------------------------------------------------------------------------------

export const swigluForward = (tf: Tf, gate: T, up: T): T => tf.mul(tf.mul(gate, tf.sigmoid(gate)), up);

export function swigluBackward(tf: Tf, dout: T, gate: T, up: T): { dgate: T; dup: T } {
  const sigmoid = tf.sigmoid(gate);
  const slope = tf.mul(sigmoid, tf.add(tf.mul(gate, tf.sub(1, sigmoid)), 1)); // silu'
  return { dgate: tf.mul(tf.mul(dout, up), slope), dup: tf.mul(dout, tf.mul(gate, sigmoid)) };
}

// ---- dropout: forward and backward are one function, since the mask is drawn again -------------------------------------

/** keep: bool of x's shape. */
export const dropout = (tf: Tf, x: T, keep: T, p: number): T => tf.where(keep, tf.div(x, 1 - p), tf.zerosLike(x));

// ---- the sum of all elements ---------------------------------------------------------------------------------------------

const ROW = 1024;

/** Of x (n), in rows and then of the rows: a backend that adds f32 one by one (wasm) would lose digits over a million. */
export function sumOf(tf: Tf, x: T): T {
  if (x.size === 0) return tf.scalar(0);
  const whole = Math.floor(x.size / ROW) * ROW;
  if (whole === 0) return tf.sum(x);
  const rows = tf.sum(tf.reshape(tf.slice(x, [0], [whole]), [-1, ROW]), -1);
  return sumOf(tf, whole === x.size ? rows : tf.concat([rows, tf.slice(x, [whole], [x.size - whole])]));
}
