// SPDX-License-Identifier: Apache-2.0
// tacotune demo: trains on the samples that come with the package, and shows the same questions answered before and after.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { type DemoAnswer, demo } from '../tasks/index.js';
import { command } from './command.js';
import { interruptSignal } from './interrupt.js';
import { Progress } from './progress.js';
import { RunView } from './train.js';

/** The package's samples, from dist/cli/. */
const SAMPLES = fileURLToPath(new URL('../../samples', import.meta.url));

export default command({
  options: z.strictObject({
    output: z.string().min(1).default(join('runs', 'demo')).describe('folder of the run; made anew each time'),
  }),
  examples: [['demo', 'about a minute on two cores']],
  async run({ output }) {
    const signal = interruptSignal('Stopping after this step; the adapter will be saved');
    const progress = new Progress();
    const view = new RunView(progress);
    for await (const event of demo(SAMPLES, output, signal)) {
      if (event.type === 'answers') progress.print(answersText(event.when, event.answers));
      else view.show(event);
    }
    console.log(`Everything is in ${output}: adapter, log.jsonl, recipe.yaml`);
  },
});

function answersText(when: 'before' | 'after', answers: readonly DemoAnswer[]): string {
  const blocks = answers.map(({ language, question, answer }) => {
    const shown = answer.trim().replaceAll('\n', '\n     ');
    return `  ${language}: ${question}\n  -> ${shown || '(nothing)'}`;
  });
  return [`\nanswers ${when} training`, ...blocks, ''].join('\n');
}
