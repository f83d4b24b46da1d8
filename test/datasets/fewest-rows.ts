// SPDX-License-Identifier: Apache-2.0
// How few rows examples could share at best: a bound that no packing beats, to hold ours against.

/**
 * Rows of T that examples of these lengths need at least (the bound L2 of Martello & Toth, "Lower bounds and reduction
 * procedures for the bin packing problem", 1990): those longer than T/2 have a row each, and what they leave is all that
 * shorter ones get for nothing; those shorter than some length may be left out, whichever gives the most.
 */
export function fewestRows(lengths: ArrayLike<number>, T: number): number {
  const sorted = Array.from(lengths).sort((a, b) => a - b);
  const sums = [0];
  for (const length of sorted) sums.push(sums.at(-1)! + length);
  /** How many are at most so long. */
  const upTo = (length: number) => {
    let [low, high] = [0, sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle]! <= length) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  const half = upTo(T / 2);
  let best = 0;
  for (const least of new Set([0, ...sorted.slice(0, half)])) {
    const alone = upTo(T - least); // from here on nothing of `least` or more fits beside
    const from = Math.min(upTo(least - 1), half);
    const room = (alone - half) * T - (sums[alone]! - sums[half]!);
    const short = sums[half]! - sums[from]!;
    best = Math.max(best, sorted.length - half + Math.max(0, Math.ceil((short - room) / T)));
  }
  return best;
}
