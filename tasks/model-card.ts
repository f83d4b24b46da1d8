// SPDX-License-Identifier: Apache-2.0
// The model card of a run: what an adapter was trained on, from, how, to what result, and under which terms, as the README.md that
// hubs show. Made of the recipe and the logs alone, so that it says nothing that the run did not do. What strangers wrote into
// names stays text: it can add no markup.
import { existsSync, statSync } from 'node:fs';
import { basename, isAbsolute, join, resolve } from 'node:path';
import { writeFileAtomically } from '../checkpoints/index.js';
import { readRecords } from '../datasets/index.js';
import type { StepEvent, TrainingEvent } from '../engine/index.js';
import { loadRecipe, type Recipe, type RecipeStage, recipeToYaml } from '../recipes/index.js';
import { RUN_FILES } from './run-folder.js';

/** What a run's log adds up to. */
export interface RunFigures {
  steps: number;
  skippedSteps: number;
  tokens: number;
  targetTokens: number;
  seconds: number;
  stages: StageFigures[];
}

export interface StageFigures {
  name: string;
  steps: number;
  /** Mean loss of the first and the last steps, up to ten of each. */
  firstLoss: number | undefined;
  lastLoss: number | undefined;
  /** Measured last. */
  heldOutLoss: number | undefined;
  /** Why it ended. */
  end: string | undefined;
}

/** Adds up a run, event by event. */
export class RunFigureCounter {
  readonly #stages = new Map<string, StageFigures & { first: number[]; last: number[] }>();
  #totals = { steps: 0, skippedSteps: 0, tokens: 0, targetTokens: 0, seconds: 0 };

  add(event: Partial<TrainingEvent> & { type: string }): void {
    if (event.type === 'step') this.#step(event as StepEvent);
    if (event.type === 'evaluation') {
      const { stage, heldOutLoss } = event as Extract<TrainingEvent, { type: 'evaluation' }>;
      this.#stage(stage).heldOutLoss = heldOutLoss;
    }
    if (event.type === 'stage-end') {
      const { stage, reason } = event as Extract<TrainingEvent, { type: 'stage-end' }>;
      this.#stage(stage).end = reason;
    }
  }

  #step({ stage, loss, tokens, targetTokens, stepMs }: StepEvent): void {
    const totals = this.#totals;
    totals.steps++;
    totals.tokens += tokens;
    totals.targetTokens += targetTokens;
    totals.seconds += stepMs / 1000;
    const figures = this.#stage(stage);
    figures.steps++;
    if (loss === null) {
      totals.skippedSteps++;
      return;
    }
    if (figures.first.length < 10) figures.first.push(loss);
    figures.last.push(loss);
    if (figures.last.length > 10) figures.last.shift();
  }

  #stage(name: string) {
    const empty = { name, steps: 0, firstLoss: undefined, lastLoss: undefined, heldOutLoss: undefined, end: undefined };
    const stage = this.#stages.get(name) ?? { ...empty, first: [], last: [] };
    this.#stages.set(name, stage);
    return stage;
  }

  get figures(): RunFigures {
    const mean = (values: number[]) =>
      values.length > 0 ? values.reduce((sum, value) => sum + value, 0) / values.length : undefined;
    const stages = [...this.#stages.values()].map(({ first, last, ...stage }) => ({
      ...stage,
      firstLoss: mean(first),
      lastLoss: mean(last),
    }));
    return { ...this.#totals, stages };
  }
}

/** Writes the card of a run's folder, from its recipe and logs. Returns the path. */
export async function writeModelCard(folder: string): Promise<string> {
  const { recipe } = loadRecipe(join(folder, RUN_FILES.recipe));
  const counter = new RunFigureCounter();
  for (const [file, type] of [
    [RUN_FILES.log, 'step'],
    [RUN_FILES.events, undefined],
  ] as const) {
    const path = join(folder, file);
    if (!existsSync(path) || statSync(path).size === 0) continue;
    // A run that was killed may have left half a line.
    const records = readRecords(path, { onBad: () => undefined });
    for await (const { value } of records) counter.add({ ...(type && { type }), ...(value as TrainingEvent) });
  }
  const path = join(folder, RUN_FILES.card);
  writeFileAtomically(path, modelCard(basename(resolve(folder)), recipe, counter.figures));
  return path;
}

/** The text of a card. @param name of what was trained */
export function modelCard(name: string, recipe: Recipe, figures: RunFigures): string {
  const { adapter } = recipe;
  const base = baseName(recipe);
  const isAdapter = adapter.type === 'lora';
  const languages = [...new Set(recipe.stages.flatMap(({ data }) => data.flatMap(({ language }) => language ?? [])))];
  const header = [
    '---',
    `base_model: ${JSON.stringify(base)}`,
    `library_name: ${isAdapter ? 'peft' : 'transformers'}`,
    'pipeline_tag: text-generation',
    'license: other',
    'tags:',
    ...[...(isAdapter ? ['lora'] : []), 'tacotune'].map((tag) => `  - ${tag}`),
    '---',
  ];
  const kind = isAdapter ? 'A LoRA adapter for' : 'All weights of';
  const what = [
    `# ${plain(name)}`,
    '',
    `${kind} ${code(base)}, trained with tacotune${languages.length > 0 ? ` for ${languages.map(plain).join(', ')}` : ''}.`,
  ];
  return `${[
    ...header,
    ...what,
    ...section('How to use it', isAdapter ? adapterUse(recipe) : modelUse()),
    ...section('What was trained', trainedRows(recipe)),
    ...section('Curriculum', curriculum(recipe, figures)),
    ...section('Figures', figureRows(figures)),
    ...section('Limits and terms', TERMS),
    ...section('Recipe', ['```yaml', recipeToYaml(recipe).trimEnd().replaceAll('```', "'''"), '```']),
  ].join('\n')}\n`;
}

/** What a model is called elsewhere: where it lies on this machine helps nobody. */
const baseName = ({ model }: Recipe): string => (isAbsolute(model) ? basename(model) : model);

const section = (title: string, lines: readonly string[]): string[] => ['', `## ${title}`, '', ...lines];

function adapterUse(recipe: Recipe): string[] {
  return [
    '```python',
    'from peft import PeftModel',
    'from transformers import AutoModelForCausalLM',
    `base = AutoModelForCausalLM.from_pretrained(${JSON.stringify(baseName(recipe))})`,
    'model = PeftModel.from_pretrained(base, "<this folder>")',
    '```',
    '',
    'or `tacotune generate --model <base> --adapter <this folder> --template ' +
      `${plain(recipe.data.template)} --prompt "…"\`. Prompts must be framed as in training (template ${code(recipe.data.template)}).`,
  ];
}

function modelUse(): string[] {
  return ['A model directory like any other: `tacotune generate --model <this folder> --prompt "…"`, or transformers.'];
}

function trainedRows({ adapter, quantize, optimizer, batch, data, seed }: Recipe): string[] {
  const rows: [string, string][] = [];
  if (adapter.type === 'lora') {
    const scale = adapter.rslora ? 'alpha/√rank' : 'alpha/rank';
    rows.push(
      ['adapter', `rank ${adapter.rank}, alpha ${adapter.alpha} (scaled by ${scale}), dropout ${adapter.dropout}`],
      ['on', adapter.targets.join(', ')],
      ['base held in', quantize === 'nf4' ? 'NF4, double-quantised' : 'the type of its files'],
    );
  }
  rows.push(
    [
      'optimizer',
      `${optimizer.kind}, learning rate ${optimizer.learningRate}, ${optimizer.schedule} after ${optimizer.warmupSteps} steps of warm-up`,
    ],
    ['batch', `${batch.rows} × ${batch.accumulation} rows of ${batch.context} tokens${batch.pack ? ', packed' : ''}`],
    [
      'loss on',
      {
        all: 'the whole chain',
        finalAnswerOnly: 'the final answer',
        withoutTranslation: 'the chain but its translations',
      }[data.loss],
    ],
    ['seed', String(seed)],
  );
  return table(['', ''], rows);
}

function curriculum(recipe: Recipe, figures: RunFigures): string[] {
  const rows = recipe.stages.map((stage) => {
    const done = figures.stages.find(({ name }) => name === stage.name);
    return [
      plain(stage.name),
      sources(stage),
      String(done?.steps ?? 0),
      `${number(done?.firstLoss)} → ${number(done?.lastLoss)}`,
      number(done?.heldOutLoss),
      plain(done?.end ?? 'not ended'),
    ];
  });
  return [
    ...table(['stage', 'data', 'steps', 'loss, first → last', 'held-out loss', 'ended by'], rows),
    '',
    'Losses are means of up to ten steps, per target token; the held-out loss is of rows that were not trained on.',
  ];
}

function sources({ data }: RecipeStage): string {
  return data
    .map(({ rows, tokens, text, task, language }) => {
      const path = code(basename((rows ?? tokens ?? text)!));
      return tokens || text
        ? path
        : `${path} (${[task, language]
            .filter(Boolean)
            .map((word) => plain(word!))
            .join(', ')})`;
    })
    .join('; ');
}

function figureRows({ steps, skippedSteps, tokens, targetTokens, seconds }: RunFigures): string[] {
  const rows: [string, string][] = [
    [
      'steps',
      skippedSteps > 0
        ? `${steps}, of which ${skippedSteps} were skipped for values that were not finite`
        : String(steps),
    ],
    ['tokens', `${tokens}, ${targetTokens} of them targets`],
    ['time', `${(seconds / 60).toFixed(1)} minutes in steps`],
  ];
  return table(['', ''], rows);
}

const TERMS = [
  "- The terms of the base model apply to what is made of it: LLaMA models are under Meta's licences, which limit use and ask for attribution.",
  '- The data has terms of its own. The multilingual sets of TaCo (MITS) are under CC BY-NC, for non-commercial use, and were made with a translation service that has terms as well; so an adapter trained on them is for research.',
  '- It was not tested for safety. Tuning in a new language can weaken what a model learnt to refuse: test before use.',
  '- Answers in a language with little data need review by people who speak it.',
];

function table(heads: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(heads), line(heads.map(() => '---')), ...rows.map(line)];
}

const number = (value: number | undefined): string => (value === undefined ? '–' : value.toFixed(4));

/** Text without markup, on one line. */
function plain(text: string): string {
  return text.replace(/\s+/g, ' ').replace(/[\\`*_[\]<>|#]/g, (mark) => `\\${mark}`);
}

/** Text as code, which no backtick in it can end. */
function code(text: string): string {
  return `\`${text.replace(/\s+/g, ' ').replaceAll('`', "'").replaceAll('|', '\\|')}\``;
}
