// SPDX-License-Identifier: Apache-2.0
// Writes the tree at the end of README.md: every source file with the first sentence of its opening comment. `--check` only
// says whether the README agrees, for the tests: a new file appears in it, and a file without an opening comment fails.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const ROOMS = [
  'engine',
  'kernels',
  'tokenizer',
  'datasets',
  'checkpoints',
  'recipes',
  'tasks',
  'cli',
  'bench',
  'samples',
  'scripts',
];
const SOURCE = /\.(ts|mjs|cc|h|inc|yaml|py)$/;
const START = '<!-- tree: npm run tree -->';
const END = '<!-- /tree -->';

function* entries(folder, depth) {
  const list = readdirSync(join(root, folder), { withFileTypes: true }).sort((a, b) => a.name.localeCompare(b.name));
  const files = list.filter((entry) => entry.isFile() && SOURCE.test(entry.name));
  const folders = list.filter((entry) => entry.isDirectory());
  yield `${'  '.repeat(depth)}${folder.split('/').at(-1)}/`;
  for (const { name } of files) {
    const label = `${'  '.repeat(depth + 1)}${name}`;
    yield `${label.padEnd(34)}  ${purpose(join(folder, name))}`;
  }
  for (const { name } of folders) if (hasSource(join(folder, name))) yield* entries(`${folder}/${name}`, depth + 1);
}

function hasSource(folder) {
  return readdirSync(join(root, folder), { recursive: true }).some((name) => SOURCE.test(name));
}

/** The first sentence of a file's opening comment. */
function purpose(file) {
  const lines = readFileSync(join(root, file), 'utf8').split('\n');
  const comment = [];
  for (const line of lines) {
    const text = /^(?:\/\/|#(?!!))\s?(.*)$/.exec(line)?.[1];
    if (text === undefined) {
      if (comment.length > 0) break;
      continue;
    }
    if (!text.startsWith('SPDX-')) comment.push(text);
  }
  const sentence = /^.*?[.:;](?=\s|$)/.exec(comment.join(' '))?.[0] ?? comment.join(' ');
  if (!sentence) throw new Error(`${file} has no opening comment`);
  const plain = sentence.replace(/[.:;]$/, '').replace(/`/g, '');
  return plain.length > 110 ? `${plain.slice(0, 107).replace(/\s\S*$/, '')} …` : plain;
}

const tree = [START, '```', ...ROOMS.flatMap((room) => [...entries(room, 0)]), '```', END].join('\n');
const readme = join(root, 'README.md');
const before = readFileSync(readme, 'utf8');
const after = before.replace(new RegExp(`${START}[^]*${END}`), () => tree);
if (process.argv.includes('--check')) {
  if (after !== before || !before.includes(START)) {
    console.error("the tree in README.md is not the project's: run 'npm run tree'");
    process.exit(1);
  }
} else writeFileSync(readme, after);
