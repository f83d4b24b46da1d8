// SPDX-License-Identifier: Apache-2.0
// tacotune profile: where the time of a training step goes, as a table, as JSON, and as a trace for a viewer.
import { z } from 'zod';
import { writeFileAtomically } from '../checkpoints/index.js';
import { loadRecipe } from '../recipes/index.js';
import { DEFAULT_STEPS, type Profile, type ProfileRow, profile, traceOf } from '../tasks/index.js';
import { command, jsonOption, recipeArgument, setOption } from './command.js';
import { digits, duration, quantity, table } from './format.js';
import { interruptSignal } from './interrupt.js';

export default command({
  options: z.strictObject({
    recipe: recipeArgument,
    steps: z.int().min(1).default(DEFAULT_STEPS).describe('steps that are measured, after two that warm up'),
    byLayer: z.boolean().default(false).describe('a second table, by place in the model'),
    trace: z.string().min(1).optional().describe('file for a trace that chrome://tracing and ui.perfetto.dev open'),
    set: setOption,
    json: jsonOption,
  }),
  recipeFlags: true,
  examples: [
    ['profile my-recipe.yaml', 'time, speed and share of the ceiling of each op'],
    ['profile my-recipe.yaml --steps 20 --by-layer --trace trace.json', 'more of it'],
  ],
  async run({ recipe: path, steps, byLayer, trace, json }, changes) {
    const { recipe } = loadRecipe(path, changes);
    const signal = interruptSignal('Stopping after this step');
    const { profile: result, records } = await profile(recipe, { steps, signal });
    if (trace !== undefined) {
      writeFileAtomically(trace, JSON.stringify(traceOf(records)));
      console.error(`written: ${trace}`);
    }
    console.log(json ? JSON.stringify(result, null, 2) : profileText(result, byLayer));
  },
});

function profileText(p: Profile, byLayer: boolean): string {
  const { flops, bandwidth } = p.ceilings;
  const facts = [
    ['step', `${duration(p.stepMs / 1000)} for ${digits(p.tokensPerStep)} tokens, mean of ${p.steps} steps`],
    ['compute', `${p.compute} on ${p.kernels}, activations: ${p.activations}`],
    [
      'ceilings',
      `${quantity(flops, 'FLOP/s')} in a large product, ${quantity(bandwidth, 'B/s')} in a large copy, measured now`,
    ],
  ];
  const rest = ['outside of ops', '', digits(p.rest.ms), percent(p.rest.share)];
  return [
    table(facts, '<<'),
    '',
    rowsText('op', p.ops, rest),
    ...(byLayer ? ['', rowsText('place', p.places)] : []),
  ].join('\n');
}

function rowsText(title: string, rows: readonly ProfileRow[], last: string[] = []): string {
  const heads = [title, 'calls', 'ms', 'of step', 'GFLOP', 'MB', 'GFLOP/s', 'GB/s', 'of ceiling'];
  const lines = rows.map((row) => [
    row.name,
    digits(row.calls),
    digits(row.ms),
    percent(row.share),
    digits(row.flops / 1e9),
    digits(row.bytes / 1e6),
    digits(row.flopsPerSecond / 1e9),
    digits(row.bytesPerSecond / 1e9),
    `${percent(row.ofCeiling)} ${row.boundBy}`,
  ]);
  return table([heads, ...lines, last], '<>>>>>>><');
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`.padStart(7);
