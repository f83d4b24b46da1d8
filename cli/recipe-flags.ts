// SPDX-License-Identifier: Apache-2.0
// A flag for every key of a recipe. Apart from parsing.ts, since commands without a recipe need not load what reads one.
import type { Argv } from 'yargs';
import { recipeSchema } from '../recipes/index.js';
import { type Flag, flagsOf, yargsOptions } from './options.js';

export function recipeFlags(): Flag[] {
  return flagsOf(recipeSchema, (key) => key).map((flag) => ({ ...flag, required: false })); // the recipe has what it must have
}

export function addRecipeFlags(y: Argv): void {
  const flags = recipeFlags();
  y.options(yargsOptions(flags));
  for (const flag of flags) {
    const section = flag.key.includes('.') ? flag.key.split('.')[0]! : 'run';
    y.group(flag.name, `Recipe, ${section}:`);
  }
}
