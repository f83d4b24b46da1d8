// SPDX-License-Identifier: Apache-2.0
// When a stage of the curriculum ends: a pure function of the stage's rule and what was measured. Its state is a small plain
// object, so a run can be stopped anywhere and goes on as if it had not been.

/** Whichever comes first; a stage without a rule ends with its data. */
export interface StageEnd {
  steps?: number | undefined;
  /** Tokens seen in the stage. */
  tokens?: number | undefined;
  /** The held-out loss is below this. */
  heldOutLoss?: number | undefined;
  /** The best held-out loss has not improved by `improvement` in the last `patience` evaluations. */
  plateau?: { patience: number; improvement: number } | undefined;
}

export interface StageProgress {
  steps: number;
  tokens: number;
  /** Held-out losses measured in the stage, in order. */
  heldOutLosses: number[];
}

/** The reason to end the stage now, in words for the log, or undefined to go on. */
export function reasonToEnd(end: StageEnd, progress: StageProgress): string | undefined {
  const { steps, tokens, heldOutLosses } = progress;
  if (end.steps !== undefined && steps >= end.steps) return `${steps} steps done`;
  if (end.tokens !== undefined && tokens >= end.tokens) return `${tokens} tokens seen`;
  const latest = heldOutLosses.at(-1);
  if (end.heldOutLoss !== undefined && latest !== undefined && latest < end.heldOutLoss) {
    return `held-out loss ${latest.toFixed(4)} is below ${end.heldOutLoss}`;
  }
  if (end.plateau && heldOutLosses.length > end.plateau.patience) {
    const { patience, improvement } = end.plateau;
    const before = Math.min(...heldOutLosses.slice(0, -patience));
    const since = Math.min(...heldOutLosses.slice(-patience));
    if (before - since < improvement)
      return `held-out loss improved by less than ${improvement} in ${patience} evaluations`;
  }
  return undefined;
}
