// SPDX-License-Identifier: Apache-2.0
// Everything a user can get wrong with files: one message that says what was expected, what was found, where and what to do;
// exit code 1; and an earlier run's output left as it was.
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { writeAdapter } from '../../checkpoints/index.js';
import { CpuDevice, initializeLora, Llama, randomStart } from '../../engine/index.js';
import { projectRoot, suite } from '../support/harness.js';
import { TINY, writeRecipe, writeSmallModel, writeTokens } from '../support/small-model.js';
import { assertRefused, concurrently, tacotune, withRun } from './support.js';

const test = suite('cli/bad-input', 300_000);

interface Case {
  name: string;
  /** Spoils something in the folder of a run that would work. */
  spoil(folder: string): void | Promise<void>;
  patterns: RegExp[];
  args?: string[];
}

const editConfig = (folder: string, edit: (config: Record<string, unknown>) => void): void => {
  const path = join(folder, 'model', 'config.json');
  const config = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  edit(config);
  writeFileSync(path, JSON.stringify(config));
};

const TRAINING: Case[] = [
  {
    name: 'no model',
    spoil: (folder) => rmSync(join(folder, 'model'), { recursive: true }),
    patterns: [/folder of a model/, /nothing of that name/, /where: .*model/, /remedy: /],
  },
  {
    name: 'no weights',
    spoil: (folder) => rmSync(join(folder, 'model', 'model.safetensors')),
    patterns: [/model\.safetensors/, /where: .*model/, /remedy: /],
  },
  {
    name: 'truncated weights',
    spoil: (folder) => {
      const path = join(folder, 'model', 'model.safetensors');
      truncateSync(path, statSync(path).size - 1000);
    },
    patterns: [/a file of \d+ bytes/, /where: .*model\.safetensors/, /remedy: /],
  },
  {
    name: 'truncated config',
    spoil: (folder) => truncateSync(join(folder, 'model', 'config.json'), 30),
    patterns: [/JSON/, /where: .*config\.json/],
  },
  {
    name: 'no LLaMA',
    spoil: (folder) => editConfig(folder, (config) => (config['model_type'] = 'gpt2')),
    patterns: [/model_type/, /'llama'/, /gpt2/, /where: .*config\.json/, /remedy: /],
  },
  {
    name: 'shapes against the config',
    spoil: (folder) => editConfig(folder, (config) => (config['intermediate_size'] = 64)),
    patterns: [
      /gate_proj\.weight: \[48, 32\] in the file, \[64, 32\] by config\.json/,
      /up_proj/,
      /where: .*model/,
      /remedy: /,
    ],
  },
  {
    name: 'ids outside the vocabulary',
    spoil: (folder) => writeFileSync(join(folder, 'tokens.jsonl'), '{"ids":[1,2,3]}\n{"ids":[4,2000,5]}\n'),
    patterns: [/0 … 1999/, /2000 at position 1/, /tokens\.jsonl, line 2/, /remedy: .*tokenizer/],
  },
  {
    name: 'empty data',
    spoil: (folder) => writeFileSync(join(folder, 'tokens.jsonl'), ''),
    patterns: [/at least one row/, /an empty file/, /where: .*tokens\.jsonl/],
  },
  {
    name: 'no data file',
    spoil: (folder) => rmSync(join(folder, 'tokens.jsonl')),
    patterns: [/a data file or folder/, /nothing there/, /where: .*tokens\.jsonl/],
  },
  {
    name: 'an example longer than the context',
    spoil: (folder) => void writeRecipe(join(folder, 'recipe.yaml'), { more: 'data: { tooLong: error }' }),
    args: ['--batch.context', '16'],
    patterns: [/examples of at most 16 tokens/, /24 tokens/, /where: .*tokens\.jsonl/, /remedy: /],
  },
  {
    name: 'a context longer than the model has',
    spoil: () => {},
    args: ['--batch.context', '97'],
    patterns: [/at most 96 tokens/, /97/, /remedy: /],
  },
  {
    name: 'wrong types in the recipe',
    spoil: (folder) =>
      void writeRecipe(join(folder, 'recipe.yaml'), { more: 'seed: soon\noptimizer: { learningRate: -1 }' }),
    patterns: [/2 faults/, /recipe\.yaml:4: seed: /, /recipe\.yaml:5: optimizer\.learningRate: /],
  },
  {
    name: 'unknown keys in the recipe',
    spoil: (folder) => void writeRecipe(join(folder, 'recipe.yaml'), { more: 'optimizer: { learningrate: 1 }' }),
    patterns: [/optimizer\.learningrate: unknown key; did you mean 'learningRate'\?/, /recipe\.yaml:4/],
  },
  {
    name: 'an unknown key in a change',
    spoil: () => {},
    args: ['--set', 'batch.contxt=3'],
    patterns: [/where: --set batch\.contxt=3: batch\.contxt: unknown key; did you mean 'context'\?/],
  },
  {
    name: 'no recipe',
    spoil: (folder) => rmSync(join(folder, 'recipe.yaml')),
    patterns: [/a recipe file/, /no such file/],
  },
  {
    name: 'a tokenizer of another vocabulary',
    spoil: (folder) => {
      writeSmallerTokenizer(folder);
      writeFileSync(join(folder, 'texts.jsonl'), '{"text":"one two"}\n');
      writeFileSync(
        join(folder, 'recipe.yaml'),
        readFileSync(join(folder, 'recipe.yaml'), 'utf8').replace('tokens: tokens.jsonl', 'text: texts.jsonl'),
      );
    },
    patterns: [/a vocabulary of 3000/, /one with 2000 pieces/, /remedy: /],
  },
  {
    name: 'an adapter to start from of another model',
    spoil: (folder) => writeAdapterFor(join(folder, 'adapter'), { ...TINY, width: 64, layers: 3 }),
    args: ['--init-adapter', 'adapter'],
    patterns: [
      /an adapter for a model of 2 layers and width 32/,
      /one for another model/,
      /where: adapter/,
      /remedy: /,
    ],
  },
  {
    name: 'an adapter to start from of another rank',
    spoil: (folder) => writeAdapterFor(join(folder, 'adapter'), TINY, 8),
    args: ['--init-adapter', 'adapter'],
    patterns: [/rank 4/, /rank 8/, /where: adapter/, /remedy: /],
  },
];

/** A model with more embedding rows than the tokenizer beside it has pieces. */
async function writeSmallerTokenizer(folder: string): Promise<void> {
  await writeSmallModel(join(folder, 'model'), { ...TINY, vocabularySize: 3000 });
}

async function writeAdapterFor(directory: string, config: typeof TINY, rank = 4): Promise<void> {
  const settings = { rank, alpha: 8, dropout: 0, rslora: false, targets: ['q' as const] };
  const llama = new Llama(new CpuDevice({ compute: 'f32' }), config, randomStart(config, 1), {
    quantization: 'none',
    adapter: settings,
  });
  initializeLora(llama.parameters!, 1);
  const tensors = new Map();
  for (const { name, shape, value } of llama.parameters!.list) {
    tensors.set(name, { shape, data: await llama.device.download(value) });
  }
  writeAdapter(directory, { ...settings, tensors });
  llama.dispose();
}

test('train refuses, and leaves an earlier run as it was', async () => {
  await concurrently(TRAINING, async ({ name, spoil, patterns, args = [] }) => {
    await withRun(async (folder) => {
      const output = join(folder, 'runs', 'mine');
      mkdirSync(output, { recursive: true });
      for (const file of ['adapter_model.safetensors', 'adapter_config.json', 'log.jsonl']) {
        copyFileSync(join(projectRoot, 'package.json'), join(output, file));
      }
      await spoil(folder);
      const before = snapshot(output);
      const outcome = await tacotune(['train', 'recipe.yaml', '--output', 'runs/mine', ...args], folder);
      try {
        assertRefused(outcome, 1, ...patterns);
        assert.equal(snapshot(output), before, 'the earlier run has changed');
      } catch (error) {
        throw new Error(`${name}: ${(error as Error).message}\n${outcome.stderr}`);
      }
    });
  });
});

const INFERENCE: { args: string[]; patterns: RegExp[] }[] = [
  {
    args: ['score', '--model', 'model', '--input', 'none.jsonl', '--output', 'out.jsonl'],
    patterns: [/a readable data file/, /where: none\.jsonl/],
  },
  {
    args: ['score', '--model', 'model', '--input', 'empty.jsonl', '--output', 'out.jsonl'],
    patterns: [/at least one row/, /an empty file/],
  },
  {
    args: ['score', '--model', 'model', '--input', 'ids.jsonl', '--output', 'out.jsonl'],
    patterns: [/0 … 1999/, /ids\.jsonl, line 3/],
  },
  {
    args: ['score', '--model', 'model', '--input', 'long.jsonl', '--output', 'out.jsonl'],
    patterns: [/at most 96 tokens/, /97/, /long\.jsonl, line 1/, /remedy: /],
  },
  {
    args: ['score', '--model', 'model', '--input', 'keys.jsonl', '--output', 'out.jsonl'],
    patterns: [/"text".*"ids"/, /found keys txt/, /line 1/],
  },
  {
    args: ['score', '--model', 'model', '--input', 'broken.jsonl', '--output', 'out.jsonl'],
    patterns: [/JSON/, /broken\.jsonl, line 2/],
  },
  {
    args: ['score', '--model', 'nothing', '--input', 'ids.jsonl', '--output', 'out.jsonl'],
    patterns: [/folder of a model/, /where: nothing/],
  },
  {
    args: ['score', '--model', 'model', '--adapter', 'adapter', '--input', 'ids.jsonl', '--output', 'out.jsonl'],
    patterns: [/an adapter for a model of 2 layers/, /where: adapter/],
  },
  {
    args: ['generate', '--model', 'model', '--prompt', 'word '.repeat(200)],
    patterns: [/a prompt shorter than the model's context of 96/, /remedy: /],
  },
  {
    args: ['generate', '--model', 'model', '--prompt', 'x', '--template', 'guanac'],
    patterns: [/a template/, /did you mean 'guanaco'\?/],
  },
  {
    args: ['generate', '--model', 'model', '--prompt', 'x', '--template', 'paper'],
    patterns: [/a language/, /--language/],
  },
  {
    args: ['generate', '--model', 'model', '--prompt', 'x', '--template', 'llama3'],
    patterns: [/special token '<\|begin_of_text\|>'/, /remedy: /],
  },
  {
    args: ['generate', '--model', 'model', '--prompt', 'x', '--tokenizer', 'adapter'],
    patterns: [/tokenizer\.model or tokenizer\.json/, /remedy: /],
  },
  { args: ['inspect', 'none'], patterns: [/nothing of that name/, /where: none/] },
  { args: ['inspect', '.'], patterns: [/a model, an adapter/, /where: \./] },
  { args: ['plan', 'none.yaml'], patterns: [/a recipe file/] },
  { args: ['profile', 'recipe.yaml', '--model', 'nothing'], patterns: [/folder of a model/] },
  {
    args: ['profile', 'recipe.yaml', '--set', 'stages.0={name: a, data: [{tokens: few.jsonl}]}'],
    patterns: [/more than 2 steps/],
  },
];

test('score, generate, inspect, plan and profile refuse, and write no output', async () => {
  await withRun(async (folder) => {
    await writeAdapterFor(join(folder, 'adapter'), { ...TINY, layers: 3 });
    writeFileSync(join(folder, 'empty.jsonl'), '\n');
    writeFileSync(join(folder, 'ids.jsonl'), '{"ids":[1,2]}\n{"ids":[1,2]}\n{"ids":[-1,2]}\n');
    writeTokens(join(folder, 'few.jsonl'), 2, 24);
    writeTokens(join(folder, 'long.jsonl'), 1, 97);
    writeFileSync(join(folder, 'keys.jsonl'), '{"txt":"x"}\n');
    writeFileSync(join(folder, 'broken.jsonl'), '{"text":"x"}\n{"text":\n');
    writeFileSync(join(folder, 'out.jsonl'), 'earlier');
    await concurrently(INFERENCE, async ({ args, patterns }) => {
      const outcome = await tacotune(args, folder);
      try {
        assertRefused(outcome, 1, ...patterns);
      } catch (error) {
        throw new Error(`${args.join(' ').slice(0, 120)}: ${(error as Error).message}\n${outcome.stderr}`);
      }
    });
    assert.is(readFileSync(join(folder, 'out.jsonl'), 'utf8'), 'earlier');
    assert.equal(
      readdirSync(folder).filter((name) => name.includes('.tmp')),
      [],
    );
  });
});

/** Every file below a folder with its contents. */
function snapshot(folder: string): Record<string, string> {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
  return Object.fromEntries(
    names.map((name) => [
      name,
      statSync(join(folder, name)).isFile() ? readFileSync(join(folder, name), 'latin1') : '/',
    ]),
  );
}
