// SPDX-License-Identifier: Apache-2.0
// Which elements dropout keeps: Philox4x32-10 (Salmon et al. 2011) exactly as kernels/ops.h defines it. TensorFlow.js has no
// 64-bit product of integers, so the mask is drawn by the host, the same bits on every backend.

/** The high 32 bits of the product of two unsigned 32-bit numbers. */
function highProduct(a: number, b: number): number {
  const [aLow, aHigh, bLow, bHigh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16); // below 2^32, as is the next sum
  const carry = (aLow * bHigh + (middle & 0xffff)) >>> 16;
  return (aHigh * bHigh + (middle >>> 16) + carry) >>> 0;
}

/** 1 where philox(seed, i) ≥ p, for i below n. `p` is taken as an f32, `seed` below 2^53. */
export function keepMask(n: number, p: number, seed: number): Uint8Array {
  const mask = new Uint8Array(n);
  const least = Math.fround(p);
  for (let block = 0; block * 4 < n; block++) {
    let [c0, c1, c2, c3] = [block >>> 0, Math.floor(block / 2 ** 32), 0, 0];
    let [key0, key1] = [seed >>> 0, Math.floor(seed / 2 ** 32)];
    for (let round = 0; round < 10; round++) {
      const [high0, low0] = [highProduct(0xd2511f53, c0), Math.imul(0xd2511f53, c0) >>> 0];
      const [high2, low2] = [highProduct(0xcd9e8d57, c2), Math.imul(0xcd9e8d57, c2) >>> 0];
      [c0, c1, c2, c3] = [(high2 ^ c1 ^ key0) >>> 0, low2, (high0 ^ c3 ^ key1) >>> 0, low0];
      key0 = (key0 + 0x9e3779b9) >>> 0;
      key1 = (key1 + 0xbb67ae85) >>> 0;
    }
    const words = [c0, c1, c2, c3];
    for (let word = 0; word < 4 && block * 4 + word < n; word++) {
      mask[block * 4 + word] = (words[word]! >>> 8) * 2 ** -24 >= least ? 1 : 0;
    }
  }
  return mask;
}
