// SPDX-License-Identifier: Apache-2.0
// Between yargs and a command: declares the command's options (and a flag for every key of a recipe, where it takes one), and
// turns what was parsed into checked values and changes to the recipe. Apart from main.ts, since zod takes time to load.
import type { Argv } from 'yargs';
import type { Command } from './command.js';
import { checkedValues, flagsOf, givenValues, kebab, yargsOptions } from './options.js';

/** Declares a command's options to yargs. @param usage the command's name and positional arguments */
export async function configure(y: Argv, usage: string, command: Command): Promise<Argv> {
  const positionals = [...usage.matchAll(/[<[](.*?)(?:\.\.)?[>\]]/g)].map(([, name]) => name!);
  const flags = flagsOf(command.options, kebab);
  const options = yargsOptions(flags.filter(({ key }) => !positionals.includes(key)));
  for (const name of positionals) {
    const { describe } = yargsOptions(flags)[name]!;
    y.positional(name, { describe, type: 'string' });
  }
  y.options(options);
  for (const [title, keys] of Object.entries(command.groups ?? {})) {
    y.group(
      keys.map((key) => kebab(String(key))),
      `${title}:`,
    );
  }
  if (command.recipeFlags) (await import('./recipe-flags.js')).addRecipeFlags(y);
  for (const [call, meaning] of command.examples) y.example(`$0 ${call}`, meaning);
  return y;
}

/** What a command runs on. @throws UserError (usage) */
export async function valuesOf(command: Command, argv: Record<string, unknown>) {
  const values = checkedValues(command.options, argv);
  const given = command.recipeFlags
    ? givenValues((await import('./recipe-flags.js')).recipeFlags(), argv)
    : new Map<string, unknown>();
  const changes = [...given].map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  const set = (values as { set?: string[] }).set ?? [];
  return { values, changes: [...changes, ...set] };
}
