// SPDX-License-Identifier: Apache-2.0
// Learning rates as a function of the step alone, as transformers computes them: step 0 of a warm-up has rate 0.

export const SCHEDULES = ['constant', 'linear', 'cosine'] as const;

export interface Schedule {
  kind: (typeof SCHEDULES)[number];
  /** Steps over which the rate rises from 0. */
  warmupSteps: number;
  /** Steps of the whole run; linear and cosine reach 0 there. */
  totalSteps: number;
}

/** The factor on the learning rate of step `step` (from 0). */
export function scheduleFactor({ kind, warmupSteps, totalSteps }: Schedule, step: number): number {
  if (step < warmupSteps) return step / warmupSteps;
  if (kind === 'constant') return 1;
  const progress = Math.min(1, (step - warmupSteps) / Math.max(1, totalSteps - warmupSteps));
  return kind === 'linear' ? 1 - progress : 0.5 * (1 + Math.cos(Math.PI * progress));
}
