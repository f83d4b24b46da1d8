// SPDX-License-Identifier: Apache-2.0
// The one error grammar: what was expected, what was found, where, and what to do. Everything a user can cause is a
// UserError: commands print its message alone and exit with 1 (2 where `usage` is set). Any other exception is our bug and
// keeps its stack.

export interface UserErrorParts {
  /** What was expected, with the name of the thing: `rank: a whole number ≥ 1`. */
  expected: string;
  /** What was there instead. */
  found: string;
  /** File, line, tensor, key: whatever lets the reader go there. */
  where?: string;
  /** What to do about it. */
  remedy?: string;
  /** The command line itself is wrong: exit code 2. */
  usage?: boolean;
  cause?: unknown;
}

/** An error that the user can act on. */
export class UserError extends Error {
  override readonly name = 'UserError';
  readonly expected: string;
  readonly found: string;
  readonly where: string | undefined;
  readonly remedy: string | undefined;
  readonly exitCode: 1 | 2;

  constructor(parts: UserErrorParts) {
    const lines = [`Expected ${parts.expected}, found ${parts.found}.`];
    if (parts.where) lines.push(`  where: ${parts.where}`);
    if (parts.remedy) lines.push(`  remedy: ${parts.remedy}`);
    super(lines.join('\n'), { cause: parts.cause });
    this.expected = parts.expected;
    this.found = parts.found;
    this.where = parts.where;
    this.remedy = parts.remedy;
    this.exitCode = parts.usage ? 2 : 1;
  }
}

/** The nearest of `known` to a mistyped `name`, or undefined when none is near: for "did you mean …?". */
export function nearest(name: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.ceil(name.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Levenshtein distance, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}
