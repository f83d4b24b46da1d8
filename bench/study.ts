// SPDX-License-Identifier: Apache-2.0
// Does the chain help, and does the curriculum? Trains the bundled model on the bundled text by the baseline (plain instruction
// tuning), by the chain in one stage and by two curricula, with as many steps each and several seeds, and compares how many
// held-out questions are answered exactly. The held-out loss is of each way's own text: a chain's tokens are not an answer's.
// `npm run bench -- study [--seeds N] [--steps N] [--questions N] [--record]`
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { openRows, parseTaco, type Row } from '../datasets/index.js';
import { loadRecipe, type Recipe } from '../recipes/index.js';
import { generate, openForInference, train } from '../tasks/index.js';
import { describeMachine, machineLine, record } from './machine.js';
import { formatTable } from './measure.js';

const samples = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'samples');
const LANGUAGES = ['Nepali', 'Persian'];

type Task = Recipe['stages'][number]['data'][number]['task'];

/** The stages of each way to train, with their share of the steps. */
const WAYS: Record<string, [task: Task, share: number][]> = {
  baseline: [['instruction', 1]],
  'one stage': [['taco', 1]],
  curriculum: [
    ['translate-to-english', 0.2],
    ['taco', 0.8],
  ],
  extended: [
    ['translate-to-english', 0.2],
    ['english', 0.1],
    ['taco', 0.7],
  ],
};

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      seeds: { type: 'string', default: '3' },
      steps: { type: 'string', default: '210' },
      questions: { type: 'string', default: '60' },
      record: { type: 'boolean', default: false },
    },
  });
  const questions = await heldOutQuestions(Number(values.questions));
  const results: { way: string; seed: number; exact: number; english: number; heldOutLoss: number }[] = [];
  for (let seed = 0; seed < Number(values.seeds); seed++) {
    for (const way of Object.keys(WAYS)) {
      const result = { way, seed, ...(await measure(way, seed, Number(values.steps), questions)) };
      results.push(result);
      console.error(`${way}, seed ${seed}: ${(100 * result.exact).toFixed(1)} % of final answers exact`);
    }
  }
  const machine = describeMachine();
  console.log(`${machineLine(machine)}\n${questions.length} held-out questions, ${values.steps} steps\n`);
  console.log(formatTable(tableOf(results)));
  if (values.record) {
    const entry = { machine, steps: Number(values.steps), questions: questions.length, results };
    console.log(`\nrecorded in ${record('study', entry)}`);
  }
}

/** Every k-th held-out question of each language, so that all patterns are among them. */
async function heldOutQuestions(count: number): Promise<Row[]> {
  const ids = new Set(JSON.parse(readFileSync(join(samples, 'mits', 'held-out.json'), 'utf8')) as string[]);
  const rows: Row[] = [];
  for (const language of LANGUAGES) {
    const table = await openRows({ path: join(samples, 'mits', `${language}.json`), language });
    for (let i = 0; i < table.count; i++) {
      const row = await table.read(i);
      if (ids.has(row.id)) rows.push(row);
    }
    await table.close();
  }
  const stride = Math.max(1, rows.length / count);
  return rows.filter((_, i) => Math.floor(i / stride) !== Math.floor((i - 1) / stride));
}

async function measure(way: string, seed: number, steps: number, questions: readonly Row[]) {
  const { recipe } = loadRecipe('demo', [`seed=${seed}`, 'data.evaluateEvery=0', 'checkpoints.every=0']);
  const stages = WAYS[way]!.map(([task, share]) => ({
    name: task,
    steps: Math.max(1, Math.round(share * steps)),
    data: LANGUAGES.map((language) => ({
      rows: join(samples, 'mits', `${language}.json`),
      english: join(samples, 'mits', 'English.json'),
      language,
      task,
    })),
  }));
  const output = mkdtempSync(join(tmpdir(), 'tacotune-study-'));
  try {
    let heldOutLoss = Number.NaN;
    for await (const event of train({ ...recipe, stages }, { output })) {
      if (event.type === 'evaluation') heldOutLoss = event.heldOutLoss;
    }
    return { heldOutLoss, ...(await exactness(recipe, output, way, questions)) };
  } finally {
    rmSync(output, { recursive: true, force: true });
  }
}

/** Shares of final answers, and of English answers within the chain, that equal the bundled ones. */
async function exactness(recipe: Recipe, adapter: string, way: string, questions: readonly Row[]) {
  const model = await openForInference({
    model: recipe.model,
    adapter,
    quantize: recipe.quantize,
    compute: recipe.compute,
  });
  const originals = await englishAnswers();
  let exact = 0;
  let english = 0;
  try {
    for (const { id, instruction, input, output, language } of questions) {
      const request = {
        model,
        prompt: instruction,
        input,
        language,
        template: recipe.data.template,
        maxNewTokens: 120,
      };
      let text = '';
      for await (const piece of generate(request)) text += piece;
      const parsed = parseTaco(text.trim(), language);
      const answer = way === 'baseline' ? text.trim() : parsed.complete ? parsed.chain.answer.trim() : '';
      if (answer === output) exact++;
      if (parsed.complete && parsed.chain.response.trim() === originals.get(id)) english++;
    }
  } finally {
    model.close();
  }
  return { exact: exact / questions.length, english: english / questions.length };
}

async function englishAnswers(): Promise<Map<string, string>> {
  const table = await openRows({ path: join(samples, 'mits', 'English.json'), language: 'English' });
  const answers = new Map<string, string>();
  for (let i = 0; i < table.count; i++) {
    const { id, output } = await table.read(i);
    answers.set(id, output);
  }
  await table.close();
  return answers;
}

function tableOf(results: readonly { way: string; exact: number; english: number; heldOutLoss: number }[]): string[][] {
  const percent = (value: number) => (100 * value).toFixed(1);
  const spread = (values: number[]) =>
    `${percent(values.reduce((sum, value) => sum + value, 0) / values.length)} (${percent(Math.min(...values))} to ${percent(Math.max(...values))})`;
  const plain = (values: number[]) =>
    `${(values.reduce((sum, value) => sum + value, 0) / values.length).toFixed(3)} (${Math.min(...values).toFixed(3)} to ${Math.max(...values).toFixed(3)})`;
  const rows = Object.keys(WAYS).map((way) => {
    const own = results.filter((result) => result.way === way);
    return [
      way,
      spread(own.map(({ exact }) => exact)),
      way === 'baseline' ? '' : spread(own.map(({ english }) => english)),
      plain(own.map(({ heldOutLoss }) => heldOutLoss)),
    ];
  });
  return [
    ['way', '% of final answers exact: mean (range)', '% of English answers exact', 'held-out loss of its own text'],
    ...rows,
  ];
}
