// SPDX-License-Identifier: Apache-2.0
// Matrix products over TensorFlow.js, as functions of tensors alone, within a `tf.tidy`. The weight is dense by then.
import type { T, Tf } from './memory.js';

export const scaled = (tf: Tf, x: T, factor: number): T => (factor === 1 ? x : tf.mul(x, factor));

/** (M,N) = alpha·inp (M,K)·weightᵀ (N,K) */
export const linearForward = (tf: Tf, inp: T, weight: T, alpha: number): T =>
  scaled(tf, tf.matMul(inp, weight, false, true), alpha);

/** (M,K) = alpha·dout (M,N)·weight (N,K) */
export const linearBackward = (tf: Tf, dout: T, weight: T, alpha: number): T =>
  scaled(tf, tf.matMul(dout, weight), alpha);

/** (N,K) = alpha·doutᵀ (M,N)·inp (M,K) */
export const linearWeightBackward = (tf: Tf, dout: T, inp: T, alpha: number): T =>
  scaled(tf, tf.matMul(dout, inp, true, false), alpha);
