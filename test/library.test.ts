// SPDX-License-Identifier: Apache-2.0
// The README's library example runs as it stands there, through the package's own name; what the commands about data do, the library
// does too.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import * as assert from 'uvu/assert';
import {
  CHECKS,
  dataStats,
  importData,
  LANGUAGES,
  lintData,
  previewData,
  type RowsOptions,
  TASKS,
  TEMPLATES,
  UserError,
} from '../index.js';
import { projectRoot, suite } from './support/harness.js';

const test = suite('library');

test('the example of the README trains and generates', () => {
  const readme = readFileSync(join(projectRoot, 'README.md'), 'utf8');
  const example = /<!-- example.*?```ts\n(.*?)```\n<!-- \/example -->/s.exec(readme)?.[1];
  assert.ok(example, 'the README has no example between its marks');
  const folder = mkdtempSync(join(projectRoot, 'build', 'library-')); // inside the package, so that its name resolves
  try {
    const output = join(folder, 'run');
    const file = join(folder, 'example.mjs');
    writeFileSync(file, example.replaceAll("'runs/library'", JSON.stringify(output)));
    const { status, stdout, stderr } = spawnSync(process.execPath, [file], { cwd: projectRoot, encoding: 'utf8' });
    assert.is(status, 0, stderr);
    assert.match(stdout, /needs \d+ MiB/);
    assert.match(stdout, /^3 \d/m, 'three steps with their losses');
    assert.ok(existsSync(join(output, 'adapter_model.safetensors')));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('its types name no package that a plain install leaves out', () => {
  const { dependencies } = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  const seen = new Set<string>();
  const left = [join(projectRoot, 'dist', 'index.d.ts')];
  for (let file = left.pop(); file; file = left.pop()) {
    if (seen.has(file)) continue;
    seen.add(file);
    for (const [, target] of readFileSync(file, 'utf8').matchAll(/(?:from|import\() ?'([^']+)'/g)) {
      if (target!.startsWith('.')) left.push(join(dirname(file), target!.replace(/\.js$/, '.d.ts')));
      else assert.ok(target!.startsWith('node:') || target! in dependencies, `${file} needs ${target}`);
    }
  }
  assert.ok(seen.size > 20, 'the types were not followed');
});

test('training data: imported, counted, looked through and shown', async () => {
  const sample = (name: string) => join(projectRoot, 'samples', 'mits', name);
  const folder = mkdtempSync(join(projectRoot, 'build', 'library-'));
  try {
    const output = join(folder, 'rows');
    const progress: number[] = [];
    const report = await importData({
      sources: [sample('Nepali.json'), sample('Persian.json')],
      english: sample('English.json'),
      output,
      onProgress: (rows) => progress.push(rows),
    });
    const rows = report.rows['Nepali']?.[''] ?? 0;
    assert.ok(rows > 100 && report.withEnglish === rows + (report.rows['Persian']?.[''] ?? 0) && progress.length > 0);

    const imported: RowsOptions = { sources: [output] };
    const { sources } = await dataStats(imported);
    assert.equal(
      sources.map(({ language, rows, withEnglish }) => [language, rows, withEnglish]),
      [
        ['Nepali', rows, rows],
        ['Persian', rows, rows],
      ],
    );
    assert.ok(sources.every(({ language }) => LANGUAGES.some(({ name }) => name === language)));

    const tokenizer = join(projectRoot, 'samples', 'tiny-base');
    const example = { task: TASKS[0], template: [...TEMPLATES.keys()][0]! };
    const lint = await lintData({ ...imported, tokenizer, example, contexts: [64], limits: { noOutput: 0 } });
    assert.is(lint.rows, 2 * rows);
    assert.equal(Object.keys(lint.findings), Object.keys(CHECKS));
    assert.ok(lint.lengths!.examples === 2 * rows && lint.exceeded.length === 0);

    const { parts, tokens } = await previewData({ ...imported, tokenizer, example, row: 2 });
    assert.ok(parts.some(({ counts }) => counts) && parts.some(({ counts }) => !counts) && tokens! > 10);
    await previewData({ ...imported, example, id: 'none such' }).then(
      () => assert.unreachable(),
      (fault) => assert.instance(fault, UserError),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
