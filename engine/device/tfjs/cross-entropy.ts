// SPDX-License-Identifier: Apache-2.0
// The head and cross-entropy over TensorFlow.js. Only rows with a target reach the head, a bounded number of logits at a time,
// so the logits (M,V) never exist whole. Within a `tf.tidy` of the caller's; each chunk has one of its own.
import { scaled } from './linear.js';
import type { T, Tf } from './memory.js';

/** Logits that exist at a time, each of them in a few tensors. */
export const LOGITS = 1 << 23;
const NO_TARGET = -100;

export interface HeadGradients {
  scale: number;
  /** The head trains. */
  weight: boolean;
}

/** A type and no interface, because `tf.tidy` looks for tensors in plain records. */
type HeadResult = {
  loss: T; // (M)
  dinp?: T | undefined; // (M,C)
  dweight?: T | undefined; // (V,C)
};

/**
 * Losses (M), 0 where `labels` (M) has no target, and the gradients of scale·Σ loss where asked for; inp (M,C), weight (V,C).
 * The tensors are new.
 */
export function crossEntropy(tf: Tf, inp: T, weight: T, labels: Int32Array, gradients?: HeadGradients): HeadResult {
  const [M, C] = inp.shape as [number, number];
  const rows = Int32Array.from(labels.keys()).filter((m) => labels[m] !== NO_TARGET);
  const size = Math.max(1, Math.floor(LOGITS / weight.shape[0]!));
  const chunks: HeadResult[] = [];
  for (let start = 0; start < rows.length; start += size) {
    const chunk = rows.slice(start, start + size);
    const targets = Float32Array.from(chunk, (m) => labels[m]!);
    const result = tf.tidy((): HeadResult => {
      const x = tf.gather(inp, tf.tensor1d(chunk, 'int32'));
      return headOf(tf, x, weight, tf.tensor1d(targets), gradients);
    });
    chunks.push(result);
  }
  const at = tf.tensor2d(rows, [rows.length, 1], 'int32');
  const whole = (parts: T[], shape: number[]) =>
    parts.length ? tf.scatterND(at, tf.concat(parts), shape as never) : tf.zeros(shape);
  const weights = chunks.flatMap(({ dweight }) => dweight ?? []);
  return {
    loss: whole(
      chunks.map(({ loss }) => loss),
      [M],
    ),
    dinp:
      gradients &&
      whole(
        chunks.map(({ dinp }) => dinp!),
        [M, C],
      ),
    dweight: gradients?.weight ? (weights.length ? tf.addN(weights) : tf.zerosLike(weight)) : undefined,
  };
}

/** The same of rows that all have a target; labels (M) as f32, which a GPU compares by itself. */
export function headOf(tf: Tf, inp: T, weight: T, labels: T, gradients?: HeadGradients): HeadResult {
  const logits = tf.matMul(inp, weight, false, true);
  const lse = tf.logSumExp(logits, -1);
  const isLabel = tf.equal(tf.expandDims(labels, -1), tf.range(0, weight.shape[0]!)); // (M,V)
  const loss = tf.sub(lse, tf.sum(tf.where(isLabel, logits, tf.scalar(0)), -1));
  if (!gradients) return { loss };
  const softmax = tf.exp(tf.sub(logits, tf.expandDims(lse, -1)));
  const dlogits = tf.sub(softmax, tf.cast(isLabel, 'float32'));
  return {
    loss,
    dinp: scaled(tf, tf.matMul(dlogits, weight), gradients.scale),
    dweight: gradients.weight ? scaled(tf, tf.matMul(dlogits, inp, true, false), gradients.scale) : undefined,
  };
}
