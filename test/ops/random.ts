// SPDX-License-Identifier: Apache-2.0
// Seeded random data of op tests and benchmarks: the same seed gives the same numbers on every machine.

export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  /** A number in [0,1) with 32 random bits (mulberry32, Tommy Ettinger's generator in the public domain). */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number in [low,high). */
  integer(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low));
  }

  /** Normally distributed values (Box and Muller) with the given standard deviation. */
  normal(n: number, deviation = 1): Float32Array {
    return Float32Array.from(
      { length: n },
      () => deviation * Math.sqrt(-2 * Math.log(1 - this.next())) * Math.cos(2 * Math.PI * this.next()),
    );
  }

  uniform(n: number, low: number, high: number): Float32Array {
    return Float32Array.from({ length: n }, () => low + this.next() * (high - low));
  }

  integers(n: number, low: number, high: number): Int32Array {
    return Int32Array.from({ length: n }, () => this.integer(low, high));
  }

  bytes(n: number): Uint8Array {
    return Uint8Array.from({ length: n }, () => this.integer(0, 256));
  }

  /** Values of about 1 in a storage type of dense weights (0 f32, 1 bf16, 2 f16), as its bits. */
  stored(n: number, type: number): Float32Array | Uint16Array {
    if (type === 0) return this.normal(n);
    const lowestExponent = type === 1 ? 124 : 12; // values from 1/8 to 2, either sign
    const fractionBits = type === 1 ? 7 : 10;
    return Uint16Array.from(
      { length: n },
      () =>
        (this.integer(0, 2) << 15) |
        (this.integer(lowestExponent, lowestExponent + 4) << fractionBits) |
        this.integer(0, 1 << fractionBits),
    );
  }
}
