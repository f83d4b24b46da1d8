// SPDX-License-Identifier: Apache-2.0
// Texts that were seen before, exactly or nearly, in memory that does not grow without bound. Near ones by MinHash: the
// smallest hashes of two texts' pieces agree as often as the texts share pieces (Broder 1997); one pass with one hash, pieces
// falling into bins (Li, Owen and Zhang 2012), empty bins filled from their neighbours (Shrivastava and Li 2014). Knows texts.
import { hashText, mix } from '../hash.js';

/** Bins of a signature; the estimated share of common pieces is within about ±0.05 of the true one. */
const BINS = 64;
/** Signatures that agree on a whole band are compared: with 8 bands of 8, 98 of 100 pairs that share nine tenths are. */
const BANDS = 8;
/** UTF-16 units of a piece. */
const PIECE = 5;
/** Shorter texts have too few pieces to tell. */
const MIN_LENGTH = 40;
/** Share of common pieces from which two texts are near duplicates. */
export const NEAR = 0.85;
/** Texts that are remembered, in at most 50 MB; after so many the memory is begun anew. */
export const REMEMBERED = 200_000;

export interface Seen {
  /** The number that the earlier text was given. */
  earlier: number;
  exact: boolean;
}

/** Remembers texts. */
export class Duplicates {
  /** First hash → entry. */
  private exact = new HashTable();
  /** Band of a signature → entry. */
  private bands = new HashTable();
  /** Of each entry: a second hash, the number it was given, and its signature. */
  private checks = new Uint32Array(1024);
  private numbers = new Float64Array(1024);
  private signatures = new Uint8Array(1024 * BINS);
  private count = 0;

  /** Adds a text under a number, and tells what it repeats. */
  add(text: string, number: number): Seen | undefined {
    const [key, check] = [hashText(text), hashText(`2 ${text}`)];
    const same = this.exact.get(key);
    // Two 32-bit hashes: among a million texts two agree in both once in 10⁷ sets.
    if (same !== undefined && this.checks[same] === check) return { earlier: this.numbers[same]!, exact: true };
    const normal = text.toLowerCase().replace(/\s+/g, ' ').trim();
    const signature = normal.length < MIN_LENGTH ? undefined : signatureOf(normal);
    const near = signature && this.nearest(signature);
    const entry = this.remember(check, number);
    this.exact.set(key, entry);
    if (signature) {
      this.signatures.set(signature, entry * BINS);
      for (let band = 0; band < BANDS; band++) this.bands.set(bandKey(signature, band), entry);
    }
    return near === undefined ? undefined : { earlier: this.numbers[near]!, exact: false };
  }

  private nearest(signature: Uint8Array): number | undefined {
    for (let band = 0; band < BANDS; band++) {
      const candidate = this.bands.get(bandKey(signature, band));
      if (candidate !== undefined && agreement(signature, this.signatures, candidate) >= NEAR) return candidate;
    }
    return undefined;
  }

  private remember(check: number, number: number): number {
    if (this.count === REMEMBERED) {
      [this.exact, this.bands, this.count] = [new HashTable(), new HashTable(), 0];
    }
    if (this.count === this.checks.length) {
      const capacity = 2 * this.count;
      this.checks = larger(this.checks, new Uint32Array(capacity));
      this.numbers = larger(this.numbers, new Float64Array(capacity));
      this.signatures = larger(this.signatures, new Uint8Array(capacity * BINS));
    }
    this.checks[this.count] = check;
    this.numbers[this.count] = number;
    return this.count++;
  }
}

function larger<A extends Uint8Array | Uint32Array | Float64Array>(old: A, fresh: A): A {
  fresh.set(old);
  return fresh;
}

const EMPTY = -1;

/** 32-bit keys to entries, the latest of each key; a third of what a Map takes. */
class HashTable {
  private keys = new Uint32Array(1024);
  private entries = new Int32Array(1024).fill(EMPTY);
  private used = 0;

  get(key: number): number | undefined {
    const entry = this.entries[this.place(key)]!;
    return entry === EMPTY ? undefined : entry;
  }

  set(key: number, entry: number): void {
    if (2 * this.used >= this.keys.length) this.grow();
    const place = this.place(key);
    if (this.entries[place] === EMPTY) this.used++;
    this.keys[place] = key;
    this.entries[place] = entry;
  }

  private place(key: number): number {
    const mask = this.keys.length - 1;
    let place = key & mask;
    while (this.entries[place] !== EMPTY && this.keys[place] !== key) place = (place + 1) & mask;
    return place;
  }

  private grow(): void {
    const { keys, entries } = this;
    this.keys = new Uint32Array(2 * keys.length);
    this.entries = new Int32Array(2 * keys.length).fill(EMPTY);
    this.used = 0;
    for (let i = 0; i < keys.length; i++) if (entries[i] !== EMPTY) this.set(keys[i]!, entries[i]!);
  }
}

/** The lowest 8 bits of the smallest hash in each bin: enough to compare, and small. */
function signatureOf(text: string): Uint8Array {
  const smallest = new Uint32Array(BINS).fill(0xffffffff);
  for (let i = 0; i + PIECE <= text.length; i++) {
    let h = 0x811c9dc5;
    for (let k = i; k < i + PIECE; k++) h = Math.imul(h ^ text.charCodeAt(k), 0x01000193);
    h = mix(h);
    const bin = h & (BINS - 1);
    if (h < smallest[bin]!) smallest[bin] = h;
  }
  const signature = new Uint8Array(BINS);
  for (let bin = 0; bin < BINS; bin++) {
    let distance = 0;
    while (smallest[(bin + distance) % BINS] === 0xffffffff && distance < BINS) distance++;
    // The distance goes in too, so that a bin filled from a neighbour differs from that neighbour.
    signature[bin] = mix(smallest[(bin + distance) % BINS]! + distance) & 0xff;
  }
  return signature;
}

function bandKey(signature: Uint8Array, band: number): number {
  const rows = BINS / BANDS;
  let h = band;
  for (let i = band * rows; i < (band + 1) * rows; i++) h = mix(h ^ signature[i]!) + i;
  return h >>> 0;
}

function agreement(signature: Uint8Array, all: Uint8Array, slot: number): number {
  let equal = 0;
  for (let i = 0; i < BINS; i++) if (signature[i] === all[slot * BINS + i]) equal++;
  return equal / BINS;
}
