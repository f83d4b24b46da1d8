// SPDX-License-Identifier: Apache-2.0
// AdamW: with 32-bit states over TensorFlow.js, and with 8-bit states on the host, because TensorFlow.js cannot search a map of
// codes; there the order of operations is that of kernels/reference/optimizer.cc, and so are the codes.
import { type AdamwSettings, STATE_BLOCK } from '../device.js';
import type { T, Tf } from './memory.js';
import { nearestCode, SIGNED_DYNAMIC_MAP, UNSIGNED_DYNAMIC_MAP } from './quantization.js';

/** New param, m and v, all (n), within a `tf.tidy`. */
export function adamw(
  tf: Tf,
  { param, grad, m, v }: Record<'param' | 'grad' | 'm' | 'v', T>,
  { learningRate, beta1, beta2, eps, weightDecay, step, gradScale }: AdamwSettings,
): { param: T; m: T; v: T } {
  const g = tf.mul(grad, gradScale);
  const newM = tf.add(tf.mul(m, beta1), tf.mul(g, 1 - beta1));
  const newV = tf.add(tf.mul(v, beta2), tf.mul(tf.square(g), 1 - beta2));
  const size = tf.add(tf.sqrt(tf.div(newV, 1 - beta2 ** step)), eps);
  const update = tf.div(tf.div(newM, 1 - beta1 ** step), size);
  const decayed = tf.mul(param, 1 - learningRate * weightDecay);
  return { param: tf.sub(decayed, tf.mul(update, learningRate)), m: newM, v: newV };
}

/** The arrays of 8-bit AdamW, changed in place but for `grad`. */
export interface Adamw8bitArrays {
  param: Float32Array; // (n)
  grad: Float32Array; // (n)
  m: Uint8Array; // (n) codes of the signed map
  v: Uint8Array; // (n) codes of the unsigned map
  mAbsmax: Float32Array; // (⌈n/256⌉)
  vAbsmax: Float32Array; // (⌈n/256⌉)
}

export function adamw8bit(arrays: Adamw8bitArrays, settings: AdamwSettings): void {
  for (let block = 0; block * STATE_BLOCK < arrays.param.length; block++) updateBlock(arrays, settings, block);
}

function updateBlock(arrays: Adamw8bitArrays, settings: AdamwSettings, block: number): void {
  const { param, grad, m, v, mAbsmax, vAbsmax } = arrays;
  const { learningRate, beta1, beta2, eps, weightDecay, step, gradScale } = settings;
  const [b1, b2] = [Math.fround(beta1), Math.fround(beta2)]; // bitsandbytes holds its rates in f32
  const correction2 = Math.sqrt(1 - beta2 ** step);
  const stepSize = (learningRate * correction2) / (1 - beta1 ** step);
  const start = block * STATE_BLOCK;
  const size = Math.min(STATE_BLOCK, param.length - start);
  const [newM, newV] = [new Float32Array(size), new Float32Array(size)];
  for (let j = 0; j < size; j++) {
    const i = start + j;
    const g = grad[i]! * gradScale;
    const oldM = Math.fround(SIGNED_DYNAMIC_MAP[m[i]!]! * mAbsmax[block]!);
    const oldV = Math.fround(UNSIGNED_DYNAMIC_MAP[v[i]!]! * vAbsmax[block]!);
    newM[j] = b1 * oldM + Math.fround(1 - b1) * g;
    newV[j] = b2 * oldV + Math.fround(1 - b2) * g * g;
    const updated = param[i]! - stepSize * (newM[j]! / (Math.sqrt(newV[j]!) + correction2 * eps));
    param[i] = updated * (1 - learningRate * weightDecay);
  }
  const largestM = newM.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const largestV = newV.reduce((most, x) => Math.max(most, x), 0);
  for (let j = 0; j < size; j++) {
    let code = nearestCode(SIGNED_DYNAMIC_MAP, largestM > 0 ? Math.fround(newM[j]! / largestM) : 0);
    // The direction of a step must survive the rounding; zero counts as positive.
    if (newM[j] !== 0 && SIGNED_DYNAMIC_MAP[code]! < 0 !== newM[j]! < 0) code += newM[j]! > 0 ? 1 : -1;
    m[start + j] = code;
    v[start + j] = nearestCode(UNSIGNED_DYNAMIC_MAP, largestV > 0 ? Math.fround(newV[j]! / largestV) : 0);
  }
  mAbsmax[block] = largestM;
  vAbsmax[block] = largestV;
}
