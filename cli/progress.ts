// SPDX-License-Identifier: Apache-2.0
// A live line at the bottom of a terminal, and its plain counterpart in a log file: there a line is printed at most every few
// seconds. Ordinary lines pass above the live one. Knows nothing of what it shows.

/** Where there is no terminal, a line is enough as often as this. */
const PLAIN_INTERVAL_MS = 2000;

export class Progress {
  #live = '';
  #printedAt = Number.NEGATIVE_INFINITY;

  constructor(private readonly stream: NodeJS.WriteStream = process.stderr) {}

  /** Replaces the live line. @param keep it as a line of its own where lines are not live: the first and last of something */
  update(line: string, keep = false): void {
    if (this.stream.isTTY) {
      this.#live = line;
      this.#draw(this.#clipped());
      return;
    }
    const now = performance.now();
    if (!keep && now - this.#printedAt < PLAIN_INTERVAL_MS) return;
    this.#printedAt = now;
    this.stream.write(`${line}\n`);
  }

  /** Prints lines above the live one. */
  print(text: string): void {
    if (this.stream.isTTY && this.#live !== '') this.#draw('');
    this.stream.write(`${text}\n`);
    if (this.stream.isTTY && this.#live !== '') this.#draw(this.#clipped());
  }

  /** Leaves the live line where it is, and begins a new one. */
  end(): void {
    if (this.stream.isTTY && this.#live !== '') this.stream.write('\n');
    this.#live = '';
  }

  #draw(text: string): void {
    this.stream.write(`\r\u001b[K${text}`);
  }

  /** A line that wrapped could not be taken back. */
  #clipped(): string {
    return this.#live.slice(0, Math.max(1, (this.stream.columns ?? 80) - 1));
  }
}

/** Seconds until `total` steps are done, from how long the latest ones took. */
export class TimeLeft {
  #mean: number | undefined;

  /** The first step, which warms up, counts little. */
  add(stepMs: number): void {
    this.#mean = this.#mean === undefined ? stepMs : 0.9 * this.#mean + 0.1 * stepMs;
  }

  seconds(stepsLeft: number): number {
    return (stepsLeft * (this.#mean ?? Number.NaN)) / 1000;
  }
}
