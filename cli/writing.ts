// SPDX-License-Identifier: Apache-2.0
// What commands that write models share: where to, in what pieces, whether to compare, how far it is, what it came to.
import { z } from 'zod';
import type { ModelOutput, ModelOutputOptions } from '../tasks/model-output.js';
import { bytes, duration, quantity } from './format.js';
import { interruptSignal } from './interrupt.js';
import { Progress } from './progress.js';

export const writingOptions = {
  shardGigabytes: z
    .number()
    .positive()
    .default(5)
    .describe('a larger model is written in files of at most so many gigabytes'),
  verify: z.boolean().default(false).describe('read everything again and compare every tensor'),
};

/** Progress on stderr and Ctrl-C for a task that writes. */
export function watched(): Required<Pick<ModelOutputOptions, 'onProgress' | 'signal'>> & { end(): void } {
  const progress = new Progress();
  const signal = interruptSignal('Stopping after this weight; complete files stay');
  const start = performance.now();
  return {
    signal,
    onProgress(phase, done, total) {
      const speed = (1000 * done) / (performance.now() - start);
      const verb = phase === 'write' ? 'written' : 'compared';
      progress.update(`${verb} ${bytes(done)} of ${bytes(total)}, ${quantity(speed, 'B/s')}`, done === total);
    },
    end: () => progress.end(),
  };
}

/** The last line on stderr. */
export function outputText({ bytes: size, seconds, resumed, verified }: ModelOutput): string {
  const parts = [`${bytes(size)} in ${duration(seconds)}`];
  if (resumed > 0) parts.push(`${resumed} ${resumed === 1 ? 'file was' : 'files were'} there from before`);
  if (verified !== undefined) parts.push(`${verified} tensors compared: all as written`);
  return parts.join('; ');
}
