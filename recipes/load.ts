// SPDX-License-Identifier: Apache-2.0
// From a recipe file and changes to it, to a checked recipe. Faults are reported all at once, each with the line it stands on
// and, for an unknown key, what was probably meant. Paths in a recipe file are relative to the file.
import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Document, LineCounter, parse, parseDocument, stringify } from 'yaml';
import { z } from 'zod';
import { nearest, UserError } from '../errors.js';
import { KNOWN_MODELS } from './known-models.js';
import { type Recipe, recipeSchema } from './schema.js';

export interface LoadedRecipe {
  recipe: Recipe;
  /** The file's name without ending, for the run's folder. */
  name: string;
}

/** The folder of the recipes that come with the package, from dist/recipes/. */
const BUNDLED = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'recipes');

/**
 * Reads a recipe file, or a bundled recipe by its name, with `changes` (`optimizer.learningRate=1e-4`) on top.
 * Relative paths in changes are relative to the current directory.
 */
export function loadRecipe(nameOrPath: string, changes: readonly string[] = []): LoadedRecipe {
  const bundled = join(BUNDLED, `${nameOrPath}.yaml`);
  const path = !existsSync(nameOrPath) && existsSync(bundled) ? bundled : nameOrPath;
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new UserError({
      expected: 'a recipe file or the name of a bundled recipe',
      found: (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'no such file' : (cause as Error).message,
      where: path,
      cause,
    });
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const fault = document.errors[0];
  if (fault) {
    throw new UserError({
      expected: 'a recipe in YAML',
      found: fault.message.split('\n')[0]!,
      where: `${path}:${fault.linePos?.[0]?.line ?? 1}`,
    });
  }
  const values = (document.toJS() ?? {}) as Record<string, unknown>;
  resolvePaths(values, dirname(resolve(path)));
  const changed = applyChanges(values, changes);
  const recipe = check(changed, (place) => changeAt(changes, place) ?? whereIs(document, lines, place, path));
  return { recipe, name: basename(path).replace(/\.ya?ml$/, '') };
}

/** Checks a recipe given as an object; paths are relative to the current directory. */
export function parseRecipe(values: unknown): Recipe {
  const copy = structuredClone(values) as Record<string, unknown>;
  resolvePaths(copy, process.cwd());
  return check(copy, (place) => place.join('.') || 'the recipe');
}

/** The recipe as YAML, all defaults written out. */
export function recipeToYaml(recipe: Recipe): string {
  return stringify(recipe, { lineWidth: 0 });
}

type Place = readonly PropertyKey[];

function check(values: unknown, where: (place: Place) => string): Recipe {
  const parsed = recipeSchema.safeParse(values);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => `${where(placeOf(issue))}: ${describe(issue)}`);
  throw new UserError({
    expected: 'a valid recipe',
    found: faults.length === 1 ? 'a fault' : `${faults.length} faults`,
    where: faults.join('\n         '),
    remedy: "'tacotune train --help' lists every key",
  });
}

/** Where a fault lies; that of an unknown key is the key's own. */
function placeOf(issue: z.core.$ZodIssue): Place {
  return issue.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0]!] : issue.path;
}

/** One fault in words; for an unknown key with the nearest known one. */
function describe(issue: z.core.$ZodIssue): string {
  const key = issue.path.join('.');
  if (issue.code !== 'unrecognized_keys') {
    const message = issue.message.replace(/^Invalid input: /, '');
    return `${key || 'the recipe'}: ${message}`;
  }
  return issue.keys
    .map((unknown) => {
      const near = nearest(unknown, keysAt(issue.path));
      const full = [...issue.path, unknown].join('.');
      return `${full}: unknown key${near ? `; did you mean '${near}'?` : ''}`;
    })
    .join('; ');
}

interface JsonSchema {
  properties?: Record<string, JsonSchema>;
  items?: JsonSchema;
}

/** The keys that the schema knows at a place. */
function keysAt(place: Place): string[] {
  let schema = z.toJSONSchema(recipeSchema, { io: 'input', unrepresentable: 'any' }) as JsonSchema | undefined;
  for (const key of place) schema = typeof key === 'number' ? schema?.items : schema?.properties?.[String(key)];
  return Object.keys(schema?.properties ?? {});
}

/** The change that a place comes from, if one does. */
function changeAt(changes: readonly string[], place: Place): string | undefined {
  const path = `${place.join('.')}.`;
  const change = changes.find((text) => path.startsWith(`${text.slice(0, text.indexOf('='))}.`));
  return change && `--set ${change}`;
}

/** The line of the nearest enclosing thing that the file has. */
function whereIs(document: Document.Parsed, lines: LineCounter, place: Place, path: string): string {
  for (let depth = place.length; depth >= 0; depth--) {
    const node = document.getIn(place.slice(0, depth), true) as { range?: [number, number, number] } | undefined;
    if (node?.range) return `${path}:${lines.linePos(node.range[0]).line}`;
  }
  return path;
}

const PATH_KEYS = ['rows', 'english', 'tokens', 'text'];

/** Makes the paths of a recipe absolute. A name that stands for something bundled stays a name. */
function resolvePaths(values: Record<string, unknown>, folder: string): void {
  const fix = (holder: Record<string, unknown> | undefined, key: string, isName = (_: string) => false): void => {
    const value = holder?.[key];
    if (holder && typeof value === 'string' && !isAbsolute(value) && !isName(value)) holder[key] = join(folder, value);
  };
  const objects = (value: unknown): Record<string, unknown>[] =>
    Array.isArray(value)
      ? value.filter((item): item is Record<string, unknown> => typeof item === 'object' && item !== null)
      : [];
  fix(values, 'model', (name) => name in KNOWN_MODELS && !existsSync(join(folder, name)));
  fix(values, 'tokenizer');
  const data = values['data'] as Record<string, unknown> | undefined;
  if (typeof data === 'object' && data !== null) {
    fix(data, 'template', (name) => !/[./\\]/.test(name));
    fix(data, 'heldOutIds');
  }
  for (const stage of objects(values['stages'])) {
    for (const source of objects(stage['data'])) for (const key of PATH_KEYS) fix(source, key);
  }
}

/** `a.b=value` on top of the file's values; the value is YAML. `a.0.b` reaches into lists. */
function applyChanges(values: Record<string, unknown>, changes: readonly string[]): Record<string, unknown> {
  for (const change of changes) {
    const equals = change.indexOf('=');
    if (equals < 1) {
      throw new UserError({
        expected: 'a change of the form key=value',
        found: `'${change}'`,
        where: '--set',
        usage: true,
      });
    }
    const keys = change.slice(0, equals).split('.');
    let holder: Record<string, unknown> = values;
    for (const [depth, key] of keys.slice(0, -1).entries()) {
      const next = holder[key] ?? {};
      if (typeof next !== 'object') {
        throw new UserError({
          expected: `${keys.slice(0, depth + 1).join('.')} to hold other keys`,
          found: JSON.stringify(next),
          where: `--set ${change}`,
          usage: true,
        });
      }
      holder[key] = next;
      holder = next as Record<string, unknown>;
    }
    holder[keys.at(-1)!] = parse(change.slice(equals + 1));
  }
  const folder = process.cwd();
  resolvePaths(values, folder); // what the file gave is absolute by now
  return values;
}
