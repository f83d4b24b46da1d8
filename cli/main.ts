#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// The command line's entrance: the list of commands, and what happens to errors. A command is loaded only when it is asked
// for, since start-up is felt each time. Exit codes: 0 done, 1 an error, 2 wrong usage, 130 stopped by a second Ctrl-C.
import { readFileSync } from 'node:fs';
import yargs, { type Argv } from 'yargs';
import { nearest, UserError } from '../errors.js';
import type { Command } from './command.js';

interface Leaf {
  /** Name and positional argument, as yargs has them. */
  usage: string;
  description: string;
  load(): Promise<{ default: Command }>;
}

/** A name that stands for several commands. */
interface Group {
  usage: string;
  description: string;
  commands: readonly Leaf[];
}

type Entry = Leaf | Group;

const COMMANDS: readonly Entry[] = [
  { usage: 'train [recipe]', description: 'train an adapter, or go on with a run', load: () => import('./train.js') },
  { usage: 'generate', description: 'let a model go on from a prompt, or answer', load: () => import('./generate.js') },
  { usage: 'score', description: 'loss per token of texts under a model', load: () => import('./score.js') },
  {
    usage: 'plan <recipe>',
    description: 'memory and time of a run, before it starts',
    load: () => import('./plan.js'),
  },
  {
    usage: 'profile <recipe>',
    description: 'where the time of a step goes, by op',
    load: () => import('./profile.js'),
  },
  {
    usage: 'doctor',
    description: 'what this machine computes with, and whether it computes rightly',
    load: () => import('./doctor.js'),
  },
  {
    usage: 'inspect <path>',
    description: 'what a model, adapter, tokenizer or run is',
    load: () => import('./inspect.js'),
  },
  {
    usage: 'convert <input> <output>',
    description: 'models and adapters as safetensors, from .bin, GGUF, or in another type',
    load: () => import('./convert.js'),
  },
  {
    usage: 'merge',
    description: 'a base model and an adapter as one model',
    load: () => import('./merge.js'),
  },
  {
    usage: 'export <format>',
    description: 'models and adapters for llama.cpp',
    load: () => import('./export.js'),
  },
  {
    usage: 'quantize <model>',
    description: 'make the 4-bit copy of a model',
    load: () => import('./quantize.js'),
  },
  {
    usage: 'data',
    description: 'training data: import, check, show, count',
    commands: [
      {
        usage: 'import <sources..>',
        description: 'rows of any files into one folder, read by position',
        load: () => import('./data-import.js'),
      },
      {
        usage: 'lint <sources..>',
        description: 'what is wrong with rows: missing, double, in another language, too long',
        load: () => import('./data-lint.js'),
      },
      {
        usage: 'preview <sources..>',
        description: 'one row as training will see it, with what counts in the loss',
        load: () => import('./data-preview.js'),
      },
      {
        usage: 'stats <sources..>',
        description: 'how many rows there are, by language and source',
        load: () => import('./data-stats.js'),
      },
    ],
  },
  { usage: 'demo', description: 'train on the samples that come with the package', load: () => import('./demo.js') },
];

const args = process.argv.slice(2);

// A reader that has seen enough (`| head`) is no error: results end there, while a run goes on without its progress.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});
process.stderr.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

const parser = yargs(args)
  .scriptName('tacotune')
  .usage('$0 <command>\n\nFine-tunes LLaMA-family models with 4-bit LoRA.')
  .locale('en') // messages are matched below
  .strict()
  .exitProcess(false)
  .parserConfiguration({ 'dot-notation': false, 'greedy-arrays': false, 'parse-numbers': false })
  .version(packageVersion())
  .alias('help', 'h')
  .example('$0 <command> --help', 'options of a command, with examples')
  .wrap(Math.min(120, process.stderr.columns ?? 100))
  .demandCommand(1, 1)
  .fail((message, error) => {
    throw error ?? wrongUsage(message);
  });
for (const entry of COMMANDS) register(parser, entry);

function register(y: Argv, entry: Entry): void {
  if ('commands' in entry) {
    y.command(entry.usage, entry.description, (inner) => {
      for (const command of entry.commands) register(inner, command);
      return inner.demandCommand(1, 1);
    });
    return;
  }
  let loaded: Command;
  const prepare = async (inner: Argv) => {
    loaded = (await entry.load()).default;
    const { configure } = await import('./parsing.js');
    return configure(inner, entry.usage, loaded);
  };
  y.command(entry.usage, entry.description, prepare as never, async (argv) => {
    const { valuesOf } = await import('./parsing.js');
    const { values, changes } = await valuesOf(loaded, argv);
    await loaded.run(values, changes);
  });
}

try {
  if (args.length === 0) {
    parser.showHelp('error');
    process.exitCode = 2;
  } else {
    await parser.parseAsync();
  }
} catch (error) {
  report((error as Error | undefined)?.name === 'YError' ? wrongUsage((error as Error).message) : error);
}

/** yargs' message for a faulty command line as an error of ours, with the nearest command or flag. */
function wrongUsage(message: string): UserError {
  const { command, path, known } = commandOf(args);
  const help = `'tacotune ${[...path, ''].join(' ')}--help' shows what there is`;
  const usage = (expected: string, found: string, near?: string) =>
    new UserError({ expected, found, remedy: near ? `did you mean '${near}'?` : help, usage: true });
  if (!command) {
    const given = args[path.length];
    const what = path.length === 0 ? 'a command' : `a command of 'tacotune ${path.join(' ')}'`;
    return usage(what, given ? `'${given}'` : 'none', given && nearest(given, known));
  }

  const full = [...path.slice(0, -1), command.usage].join(' ');
  const after = (opening: RegExp) => opening.exec(message) && message.slice(message.indexOf(':') + 2);
  const missing = after(/^Missing required argument/);
  if (missing) return usage(missing.replace(/[^, ]+/g, '--$&').replaceAll(',', ' and'), 'none');
  const bare = after(/^Not enough arguments following/);
  if (bare) return usage(`a value after --${bare}`, 'none');
  if (message.startsWith('Not enough non-option')) return usage(`'tacotune ${full}'`, 'nothing more');
  const unknown = after(/^Unknown (argument|command)/)?.split(', ')[0];
  if (!unknown) return usage('a command line that can be understood', message);
  if (args.includes(unknown)) return usage(`'tacotune ${full}' with flags`, `'${unknown}' besides`);
  const near = nearest(unknown, knownFlags());
  return usage(
    `a flag of 'tacotune ${path.join(' ')}'`,
    `'${unknown.length > 1 ? '-' : ''}-${unknown}'`,
    near && `--${near}`,
  );
}

/** The command that a command line names, as far as it does: the names on the way, and those that could come next. */
function commandOf(line: readonly string[]): { command?: Leaf; path: string[]; known: string[] } {
  let entries = COMMANDS;
  const path: string[] = [];
  for (const word of line) {
    const entry = entries.find(({ usage }) => usage.split(' ')[0] === word);
    if (!entry) break;
    path.push(word);
    if ('load' in entry) return { command: entry, path, known: [] };
    entries = entry.commands;
  }
  return { path, known: entries.map(({ usage }) => usage.split(' ')[0]!) };
}

/** The flags of the command that is being parsed. */
function knownFlags(): string[] {
  const { key } = (parser as unknown as { getOptions(): { key: Record<string, unknown> } }).getOptions();
  return Object.keys(key).filter((name) => name.length > 1);
}

function report(error: unknown): void {
  if (error instanceof UserError) {
    console.error(error.message);
    process.exitCode = error.exitCode;
    return;
  }
  console.error(error);
  console.error('This is a bug in tacotune: please report it with the lines above.');
  process.exitCode = 1;
}

function packageVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
