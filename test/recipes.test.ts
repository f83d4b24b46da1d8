// SPDX-License-Identifier: Apache-2.0
// The recipes that come with the package: each can be loaded and planned as it stands, says what is the paper's and what is our
// choice, and the three that are to be compared differ in nothing but what they compare.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { loadTemplate } from '../datasets/index.js';
import { loadRecipe, type Recipe } from '../recipes/index.js';
import { plan } from '../tasks/index.js';
import { projectRoot, suite } from './support/harness.js';

const test = suite('recipes');

const names = readdirSync(join(projectRoot, 'recipes'))
  .filter((file) => file.endsWith('.yaml'))
  .map((file) => file.replace('.yaml', ''));

test('each loads by its name, with templates that are there', async () => {
  for (const name of ['paper', 'extended', 'baseline', 'guanaco-33b', 'demo']) assert.ok(names.includes(name), name);
  for (const name of names) {
    const { recipe } = loadRecipe(name);
    await loadTemplate(recipe.data.template);
    assert.ok(recipe.stages.length > 0, name);
  }
});

test('what is not published is marked as our choice', () => {
  const unpublished = [
    'quantize',
    'learningRate',
    'schedule',
    'warmupSteps',
    'maxGradientNorm',
    'context',
    'rows',
    'accumulation',
    'epochs',
    'steps',
    'replay',
    'template',
  ];
  for (const name of ['paper', 'baseline', 'extended']) {
    const lines = readFileSync(join(projectRoot, 'recipes', `${name}.yaml`), 'utf8').split('\n');
    for (const line of lines) {
      const key = /^\s*(\w+): (?!\{)\S/.exec(line)?.[1];
      if (key !== undefined && unpublished.includes(key)) assert.match(line, /# .*our choice/, `${name}: ${line}`);
    }
  }
});

test("the adapter and the base are the paper's", () => {
  for (const name of ['paper', 'baseline', 'extended', 'guanaco-33b']) {
    const { adapter, model } = loadRecipe(name).recipe;
    const { rank, alpha, dropout, rslora, targets } = adapter;
    assert.equal(
      [model, rank, alpha, dropout, rslora, targets],
      ['guanaco-33b', 32, 64, 0.05, false, ['q', 'k', 'v', 'o']],
      name,
    );
  }
});

test('paper, baseline and extended differ in data and stages alone', () => {
  const rest = ({ data: _, stages: __, ...others }: Recipe) => others;
  const paper = loadRecipe('paper').recipe;
  for (const name of ['baseline', 'extended']) assert.equal(rest(loadRecipe(name).recipe), rest(paper), name);
  const tasks = (name: string) =>
    loadRecipe(name).recipe.stages.map(({ data }) => [...new Set(data.map(({ task }) => task))]);
  assert.equal(tasks('paper'), [['taco']]);
  assert.equal(tasks('baseline'), [['instruction']]);
  assert.equal(tasks('extended'), [['translate-to-english', 'translate-from-english'], ['english'], ['taco']]);
});

test('each can be planned without weights and data', async () => {
  for (const name of ['paper', 'extended', 'baseline']) {
    const { stages, peakBytes } = await plan(loadRecipe(name).recipe, { calibrate: false });
    assert.is(stages.length, loadRecipe(name).recipe.stages.length, name);
    assert.ok(peakBytes > 16e9 && peakBytes < 40e9, `${name}: ${peakBytes}`);
  }
});
