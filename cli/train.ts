// SPDX-License-Identifier: Apache-2.0
// tacotune train: a recipe in, an adapter out, with what happens in between as lines on stderr. Paths of what was written go
// to stdout.
import { join } from 'node:path';
import { z } from 'zod';
import { UserError } from '../errors.js';
import { loadRecipe } from '../recipes/index.js';
import { type RunEvent, resume, type StartEvent, train } from '../tasks/index.js';
import { command, recipeArgument, setOption } from './command.js';
import { bytes, digits, duration, quantity, table } from './format.js';
import { interruptSignal } from './interrupt.js';
import { Progress, TimeLeft } from './progress.js';

export default command({
  options: z.strictObject({
    recipe: recipeArgument.optional(),
    output: z.string().min(1).optional().describe('folder for adapter, log and recipe; default: runs/NAME-OF-RECIPE'),
    initAdapter: z.string().min(1).optional().describe('adapter directory to start from'),
    resume: z
      .string()
      .min(1)
      .optional()
      .describe('folder of a run that was stopped or killed: goes on with it, without a recipe'),
    checkpoint: z.string().min(1).optional().describe('checkpoint to resume from; default: the newest'),
    set: setOption,
  }),
  recipeFlags: true,
  examples: [
    ['train my-recipe.yaml --output runs/first', 'train as the recipe says'],
    ['train my-recipe.yaml --optimizer.learningRate 1e-4 --set stages.0.steps=100', 'with changes'],
    ['train my-recipe.yaml --init-adapter runs/first', 'a new run that starts from an adapter'],
    ['train --resume runs/first', 'go on with a run that was stopped'],
  ],
  async run({ recipe: path, output, initAdapter, resume: stopped, checkpoint }, changes) {
    const signal = interruptSignal('Stopping after this step; everything will be saved');
    if (stopped !== undefined) {
      const other = path ?? output ?? initAdapter ?? changes[0];
      if (other !== undefined) {
        throw new UserError({
          expected: '--resume alone: a run goes on as it began',
          found: `'${other}' beside it`,
          remedy: 'for a new run from its adapter, give a recipe and --init-adapter',
          usage: true,
        });
      }
      return showRun(resume(stopped, { checkpoint, signal }));
    }
    if (path === undefined) {
      throw new UserError({
        expected: 'a recipe, or --resume with the folder of a run',
        found: 'neither',
        usage: true,
      });
    }
    const { recipe, name } = loadRecipe(path, changes);
    await showRun(train(recipe, { output: output ?? join('runs', name), initAdapter, signal }));
  },
});

/** Shows a run's events as they come. */
export async function showRun(events: AsyncIterable<RunEvent>): Promise<void> {
  const view = new RunView(new Progress());
  let written: string[] = [];
  for await (const event of events) {
    view.show(event);
    if (event.type === 'saved') written = event.files;
  }
  for (const file of written) console.log(file);
}

export class RunView {
  readonly #progress: Progress;
  readonly #timeLeft = new TimeLeft();
  #totalSteps = 0;
  /** Length of the longest stage name, for the columns to stand still. */
  #nameWidth = 0;

  constructor(progress: Progress) {
    this.#progress = progress;
  }

  show(event: RunEvent): void {
    const progress = this.#progress;
    switch (event.type) {
      case 'start':
        this.#totalSteps = event.totalSteps;
        this.#nameWidth = Math.max(...event.stages.map(({ name }) => name.length));
        progress.print(startText(event));
        return;
      case 'step':
        this.#timeLeft.add(event.stepMs);
        if (event.skipped) progress.print(`step ${event.step} skipped: values that are not finite in ${event.skipped}`);
        progress.update(this.#stepLine(event), event.step === 1 || event.step === this.#totalSteps);
        return;
      case 'evaluation':
        progress.print(`${event.stage}: step ${event.step}, held-out loss ${event.heldOutLoss.toFixed(4)}`);
        return;
      case 'stage-end':
        progress.end();
        progress.print(`${event.stage} ends: ${event.reason}`);
        return;
      case 'end':
        progress.end();
        progress.print(`${event.reason === 'aborted' ? 'stopped' : 'done'} after ${event.step} steps`);
        return;
      case 'saved':
        progress.print(`saved as of step ${event.step}`);
        return;
      case 'notice':
        progress.print(event.text);
        return;
    }
  }

  #stepLine(event: Extract<RunEvent, { type: 'step' }>): string {
    const of = String(this.#totalSteps);
    return [
      event.stage.padEnd(this.#nameWidth),
      `step ${String(event.step).padStart(of.length)}/${of}`,
      `loss ${(event.loss?.toFixed(4) ?? '-').padStart(7)}`,
      `norm ${(event.gradNorm === null ? '-' : digits(event.gradNorm)).padStart(5)}`,
      `lr ${event.learningRate.toExponential(2)}`,
      `${quantity(event.tokensPerSecond).padStart(6)} tok/s`,
      event.step < this.#totalSteps ? `${duration(this.#timeLeft.seconds(this.#totalSteps - event.step))} left` : '',
    ]
      .join('  ')
      .trimEnd();
  }
}

function startText(event: StartEvent): string {
  const { plan, stages } = event;
  const { all, trainable } = plan.parameters;
  const { budgetBytes, runtimeBytes, dataBytes } = event.memory;
  const facts = [
    ['output', event.output],
    ['parameters', `${quantity(all)}, ${quantity(trainable)} of them train`],
    ['compute', `${event.compute} inputs, f32 sums: ${event.computeReason}`],
    ['device', `${event.device}: ${event.kernels}${event.device === 'cpu' ? ` (${event.deviceReason})` : ''}`],
    ['activations', plan.policy],
    [
      'steps',
      `${event.totalSteps} of ${plan.tokensPerStep} tokens${event.resumedAt > 0 ? `, ${event.resumedAt} done` : ''}`,
    ],
  ];
  const memory = Object.entries(plan.memory).map(([kind, size]) => [kind, bytes(size)]);
  const lines = stages.map(({ name, steps, examples, heldOutExamples }) => [
    name,
    `${steps} steps`,
    `${examples} examples`,
    heldOutExamples > 0 ? `${heldOutExamples} held out` : '',
  ]);
  return [
    table(facts, '<<'),
    'memory',
    table(
      [
        ...memory,
        ...(dataBytes > 0 ? [['data', bytes(dataBytes)]] : []),
        ['runtime', bytes(runtimeBytes)],
        ['peak', bytes(plan.peakBytes + runtimeBytes + dataBytes)],
      ],
      '<>',
      2,
    ),
    `  of ${bytes(budgetBytes)} that it may use`,
    'stages',
    table(lines, '<>>>', 2),
  ].join('\n');
}
