// SPDX-License-Identifier: Apache-2.0
// tacotune plan: memory, work and time of a run, before it starts.
import { z } from 'zod';
import { loadRecipe } from '../recipes/index.js';
import { CARD_NAMES, type CardTime, type Plan, plan } from '../tasks/index.js';
import { command, jsonOption, recipeArgument, setOption } from './command.js';
import { bytes, digits, duration, quantity, table } from './format.js';

export default command({
  options: z.strictObject({
    recipe: recipeArgument,
    set: setOption,
    gpu: z.enum(CARD_NAMES).optional().describe('plan for this card, which need not be here'),
    time: z.boolean().default(true).describe('measure this machine for about a second, to tell the time'),
    json: jsonOption,
  }),
  recipeFlags: true,
  examples: [
    ['plan my-recipe.yaml', 'what a run of it needs here'],
    ['plan guanaco-33b --memoryGiB 32', 'whether a 33B model trains in 32 GiB; needs no weights'],
    ['plan guanaco-33b --gpu 4090', 'what each op of its step needs on that card'],
    ['plan my-recipe.yaml --set batch.context=1024 --json', 'the same for programs'],
  ],
  async run({ recipe: path, time, gpu, json }, changes) {
    const { recipe } = loadRecipe(path, changes);
    const result = await plan(recipe, { calibrate: time, gpu });
    console.log(json ? JSON.stringify(result, null, 2) : planText(result));
  },
});

function planText(p: Plan): string {
  const { model, compute, step, time } = p;
  const facts = [
    ['model', `${model.name}, ${quantity(model.parameters)} parameters, ${quantity(model.trainable)} of them train`],
    ['compute', `${compute.type} on ${compute.device} (${compute.kernels}): ${compute.reason}`],
    [
      'step',
      `${step.tokens} tokens, ${quantity(step.flops, 'FLOP')}, ${quantity(step.flopsPerToken, 'FLOP')} per token`,
    ],
  ];
  if (time) {
    facts.push([
      'time',
      `about ${duration(time.stepSeconds)} a step, ${quantity(time.tokensPerSecond)} tokens/s ${p.card ? `on ${p.card.card}, by its peaks` : 'on this machine'}`,
    ]);
    facts.push([
      '',
      time.seconds === undefined ? 'in all: depends on the data' : `in all about ${duration(time.seconds)}`,
    ]);
  }
  const stages = p.stages.map(({ name, end, steps }) => [
    name,
    end,
    steps === undefined || end === `${steps} steps` ? '' : `${steps} steps`,
  ]);
  return [
    table(facts, '<<'),
    '',
    'stages',
    table(stages, '<<>', 2),
    '',
    memoryText(p),
    ...(p.card ? ['', cardText(p.card)] : []),
  ].join('\n');
}

/** Every op of a step on a card. */
function cardText({ card, efficiency, ops, stepSeconds, peakStepSeconds }: CardTime): string {
  const rows = ops.map(({ op, calls, flops, bytes: moved, peakSeconds, seconds, boundBy }) => [
    op,
    String(calls),
    quantity(flops, 'FLOP'),
    quantity(moved, 'B'),
    duration(peakSeconds),
    duration(seconds),
    boundBy,
  ]);
  const { products, memory, secondsPerCall, reachable } = efficiency;
  return [
    `a step on ${card}: ${duration(peakStepSeconds)} at its peaks, ${duration(stepSeconds)} expected`,
    `(products at ${digits(100 * products * reachable)} % of the peak, memory at ${digits(100 * memory)} %, ${duration(secondsPerCall)} a call at least; not measured)`,
    table([['op', 'calls', 'work', 'moved', 'at peak', 'expected', 'bound by'], ...rows], '<>>>>><', 2),
  ].join('\n');
}

/** The memory of a run by purpose, and whether it fits. */
export function memoryText({
  memory,
  peakBytes,
  budgetBytes,
  fits,
  activations,
  pagedOptimizer,
  remedy,
}: Plan): string {
  const rows = Object.entries(memory).map(([kind, size]) => [kind, bytes(size)]);
  const verdict = fits
    ? `fits the ${bytes(budgetBytes)} there are, with activations: ${activations}${pagedOptimizer ? " and the optimizer's states in the host's memory" : ''}`
    : `does not fit the ${bytes(budgetBytes)} there are, not even with activations: ${activations}`;
  const advice = fits
    ? []
    : [
        remedy?.length
          ? `it would with ${remedy.map((change) => `--set ${change}`).join(' ')}`
          : 'no change of the recipe makes it fit',
      ];
  return ['memory', table([...rows, ['peak', bytes(peakBytes)]], '<>', 2), verdict, ...advice].join('\n');
}
