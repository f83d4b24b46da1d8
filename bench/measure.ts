// SPDX-License-Identifier: Apache-2.0
// Timing on machines that do other work too. All cases of a group run in turn, round after round, so that whatever slows the
// machine slows all of them, ceilings included; and CPU time is kept beside wall time, because it forgives others their share.

export interface Case {
  name: string;
  run(): void;
  /** Floating-point operations of one run. */
  flops?: number;
  /** Bytes of memory that one run reads and writes at least. */
  bytes?: number;
}

/** Milliseconds of one run. */
export interface Timing {
  /** Wall time. */
  median: number;
  best: number;
  /** Median of process CPU time divided by threads: what wall time would be with the processor to oneself. */
  cpu: number;
}

export const STATISTICS = ['median', 'best', 'cpu'] as const satisfies (keyof Timing)[];

/** Runs every case once to warm up, then `rounds` times in turn. */
export function interleave(cases: Case[], rounds: number, threads: number): Timing[] {
  const samples = cases.map(() => ({ wall: [] as number[], cpu: [] as number[] }));
  for (let round = -1; round < rounds; round++) {
    for (const [i, { run }] of cases.entries()) {
      const cpuBefore = process.cpuUsage();
      const start = performance.now();
      run();
      const wall = performance.now() - start;
      const { user, system } = process.cpuUsage(cpuBefore);
      if (round < 0) continue;
      samples[i]!.wall.push(wall);
      samples[i]!.cpu.push((user + system) / 1000 / threads);
    }
  }
  return samples.map(({ wall, cpu }) => ({ median: median(wall), best: Math.min(...wall), cpu: median(cpu) }));
}

export function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1]!;
}

/** Lines of aligned columns: the first to the left, numbers to the right. */
export function formatTable(rows: string[][]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, i) => (i ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
