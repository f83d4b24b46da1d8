// SPDX-License-Identifier: Apache-2.0
// From one zod object to a command's options: names, help, defaults and checks are all read from it, so none can drift. yargs
// only splits the command line: values stay text until they are checked here, and a value of the wrong kind is told with the
// flag, what the flag takes and what was given.
import type { Options } from 'yargs';
import { z } from 'zod';
import { nearest, UserError } from '../errors.js';

/** A flag: one scalar of a schema, or a list of scalars, given with commas between them. */
export interface Flag {
  /** Path in the schema, `optimizer.learningRate`. */
  readonly key: string;
  /** Spelling on the command line, without dashes. */
  readonly name: string;
  readonly schema: z.ZodType;
  readonly shape: ValueShape;
  readonly description: string;
  readonly required: boolean;
  readonly default: unknown;
}

/** What JSON schema says of a scalar or a list. */
interface ValueShape {
  type?: string;
  enum?: string[];
  items?: ValueShape;
  minimum?: number;
  exclusiveMinimum?: number;
  maximum?: number;
  exclusiveMaximum?: number;
}

/**
 * Every scalar and list of scalars below an object; lists of objects have no flag.
 * @param spell the spelling of a key
 */
export function flagsOf(schema: z.ZodObject, spell: (key: string) => string, prefix = ''): Flag[] {
  return Object.entries(schema.shape).flatMap(([name, value]) => {
    const member = value as z.ZodType;
    const inner = unwrapped(member);
    if (inner instanceof z.ZodObject) return flagsOf(inner, spell, `${prefix}${name}.`);
    const shape = z.toJSONSchema(member, { io: 'input', unrepresentable: 'any' }) as ValueShape & { default?: unknown };
    if (shape.type === 'object' || shape.items?.type === 'object') return [];
    const required = !member.safeParse(undefined).success;
    const description = member.description ?? inner.description ?? '';
    const key = prefix + name;
    return [{ key, name: spell(key), schema: member, shape, description, required, default: shape.default }];
  });
}

/** A schema without what makes it optional. */
function unwrapped(schema: z.ZodType): z.ZodType {
  const optional = schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault;
  return optional ? unwrapped(schema.unwrap() as z.ZodType) : schema;
}

/** How a key is spelled in the help: `max-new-tokens`. yargs takes the other spelling (`maxNewTokens`) too. */
export function kebab(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** What yargs needs to split a command line and to print the help. */
export function yargsOptions(flags: readonly Flag[]): Record<string, Options> {
  return Object.fromEntries(
    flags.map((flag) => {
      const { type, enum: choices } = flag.shape.items ?? flag.shape;
      const options: Options = {
        describe: choices ? `${flag.description} [${choices.join(', ')}]` : flag.description,
        demandOption: flag.required,
        requiresArg: type !== 'boolean',
        ...(type === 'boolean' && { type: 'boolean' }),
        ...(flag.shape.type === 'array' && { array: true }),
        ...(flag.default !== undefined && { defaultDescription: String(flag.default) }),
      };
      return [flag.name, options];
    }),
  );
}

/** The values given for `flags`, checked. Defaults are not filled in. @throws UserError (usage) */
export function givenValues(flags: readonly Flag[], argv: Record<string, unknown>): Map<string, unknown> {
  const values = new Map<string, unknown>();
  for (const flag of flags) {
    const given = argv[flag.name];
    if (given === undefined) continue;
    const value = typed(given, flag.shape);
    if (!flag.schema.safeParse(value).success) throw wrongValue(flag, given);
    values.set(flag.key, value);
  }
  return values;
}

/** The values of a flat schema from the command line, checked, defaults filled in. @throws UserError (usage) */
export function checkedValues<S extends z.ZodObject>(schema: S, argv: Record<string, unknown>): z.infer<S> {
  return schema.parse(Object.fromEntries(givenValues(flagsOf(schema, kebab), argv)));
}

/** Text from the command line as what the schema takes; text that does not fit stays text, for the check to refuse. */
function typed(given: unknown, { type, items }: ValueShape): unknown {
  if (type === 'array') {
    const texts = (Array.isArray(given) ? given : [given]).map(String);
    // Changes (`--set a=[1,2]`) may hold commas of their own; names do not.
    const parts = items?.enum ? texts.flatMap((text) => text.split(',')) : texts;
    return parts.map((part) => typed(part, items ?? {}));
  }
  if ((type === 'number' || type === 'integer') && typeof given === 'string' && given.trim() !== '') {
    const number = Number(given);
    return Number.isNaN(number) ? given : number;
  }
  return given;
}

function wrongValue(flag: Flag, given: unknown): UserError {
  const near = typeof given === 'string' && nearest(given, flag.shape.enum ?? []);
  return new UserError({
    expected: `${takes(flag.shape)} for --${flag.name}`,
    found: Array.isArray(given) && flag.shape.type !== 'array' ? 'several values' : `'${given}'`,
    ...(near && { remedy: `did you mean '${near}'?` }),
    usage: true,
  });
}

/** What a flag takes, in words. */
function takes(shape: ValueShape): string {
  if (shape.enum) return `one of ${shape.enum.join(', ')}`;
  if (shape.type === 'array') return `a list of ${shape.items?.enum ? shape.items.enum.join(', ') : 'values'}`;
  if (shape.type === 'boolean') return 'true or false';
  if (shape.type !== 'number' && shape.type !== 'integer') return 'a text that is not empty';
  const bounds = [
    shape.minimum !== undefined && `≥ ${shape.minimum}`,
    shape.exclusiveMinimum !== undefined && `> ${shape.exclusiveMinimum}`,
    shape.maximum !== undefined && shape.maximum < Number.MAX_SAFE_INTEGER && `≤ ${shape.maximum}`,
    shape.exclusiveMaximum !== undefined && `< ${shape.exclusiveMaximum}`,
  ].filter(Boolean);
  return [shape.type === 'integer' ? 'a whole number' : 'a number', bounds.join(' and ')].join(' ').trim();
}
