// SPDX-License-Identifier: Apache-2.0
// Random numbers that are functions of a seed and a place, so that nothing has to be stored to repeat them: the same seed
// gives the same run, whatever was computed before, on any number of threads.

/** Mixes numbers into a seed below 2^53: two 32-bit mixers (finaliser of MurmurHash3, Appleby) with different starts. */
export function seedOf(...parts: number[]): number {
  let a = 0x9e3779b9;
  let b = 0x85ebca6b;
  for (const part of parts) {
    const low = part >>> 0;
    const high = Math.floor(part / 2 ** 32) >>> 0;
    a = mix(mix(a ^ low) + high);
    b = mix(mix(b + low) ^ high ^ a);
  }
  return (a >>> 11) * 2 ** 32 + (b >>> 0);
}

function mix(value: number): number {
  let x = value >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/** A generator of uniform numbers in [0,1) with 32 bits each (sfc32, Doty-Humphrey's small fast counter). */
export function uniformGenerator(seed: number): () => number {
  let a = seedOf(seed, 1) >>> 0;
  let b = seedOf(seed, 2) >>> 0;
  let c = seedOf(seed, 3) >>> 0;
  let counter = 1;
  const next = (): number => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum;
    return (sum >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 12; i++) next();
  return next;
}

/** `count` numbers of a normal distribution (Box & Muller 1958). */
export function normals(seed: number, count: number, deviation: number): Float32Array {
  const uniform = uniformGenerator(seed);
  const out = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    const radius = deviation * Math.sqrt(-2 * Math.log(1 - uniform()));
    const angle = 2 * Math.PI * uniform();
    out[i] = radius * Math.cos(angle);
    if (i + 1 < count) out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}

/** `count` numbers uniform in [-bound, bound). */
export function uniforms(seed: number, count: number, bound: number): Float32Array {
  const uniform = uniformGenerator(seed);
  return Float32Array.from({ length: count }, () => (2 * uniform() - 1) * bound);
}
