// SPDX-License-Identifier: Apache-2.0
// A run killed at any moment and resumed gives the bytes of one that was never stopped. The real command line is killed with
// SIGKILL at random moments, writing checkpoints at every step so that many kills fall into the writing.
// TACOTUNE_KILLS=60 npm test -- resume kills that often; the seed is printed and taken back from TACOTUNE_SEED.
import { existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { uniformGenerator } from '../../engine/index.js';
import { suite } from '../support/harness.js';
import { inFolder, startTacotune, tacotune, writeTinyModel, writeTokens } from '../support/tiny.js';

const test = suite('resume', 600_000);

const KILLS = Number(process.env['TACOTUNE_KILLS'] ?? 8);
const SEED = Number(process.env['TACOTUNE_SEED'] ?? Date.now() % 1e6);

async function prepare(
  folder: string,
  { type = 'lora', every = 1 }: { type?: 'lora' | 'full'; every?: number } = {},
): Promise<string> {
  await writeTinyModel(join(folder, 'model'));
  writeTokens(join(folder, 'tokens.jsonl'), 40);
  const recipe = join(folder, 'recipe.yaml');
  writeFileSync(
    recipe,
    `model: model
quantize: ${type === 'lora' ? 'nf4' : 'none'}
adapter: { type: ${type}, rank: 2, dropout: 0.2 }
optimizer: { kind: ${type === 'lora' ? 'adamw' : 'adamw-8bit'}, learningRate: 1e-3, warmupSteps: 3 }
batch: { context: 64, rows: 2, accumulation: 2 }
data: { heldOutShare: 0.2, evaluateEvery: 4 }
checkpoints: { every: ${every}, keep: 2 }
stages:
  - { name: first, steps: 14, data: [{ tokens: tokens.jsonl }] }
  - { name: second, epochs: 3, learningRateFactor: 0.5, data: [{ tokens: tokens.jsonl }] }
`,
  );
  return recipe;
}

/** Everything that must be equal, with what cannot be (times) taken out. */
function traces(run: string) {
  const lines = (name: string) =>
    readFileSync(join(run, name), 'utf8')
      .trim()
      .split('\n')
      .map((line) => {
        const { stepMs: _, tokensPerSecond: __, ...rest } = JSON.parse(line) as Record<string, unknown>;
        return rest;
      });
  const result = ['adapter_model.safetensors', 'model.safetensors'].find((file) => existsSync(join(run, file)))!;
  return {
    log: lines('log.jsonl'),
    events: lines('events.jsonl'),
    result: readFileSync(join(run, result)).toString('base64'),
  };
}

for (const type of ['lora', 'full'] as const) {
  test(`${type}: killed again and again, a run ends with the same bytes`, async () => {
    await inFolder(async (folder) => {
      const recipe = await prepare(folder, { type });
      const whole = join(folder, 'whole');
      const { status, stderr } = tacotune(['train', recipe, '--output', whole]);
      assert.is(status, 0, stderr);

      console.log(`\n  seed ${SEED}`);
      const uniform = uniformGenerator(SEED);
      const run = join(folder, 'run');
      let kills = 0;
      for (let tries = 0; kills < KILLS && tries < 40 * KILLS; tries++) {
        const begun = existsSync(join(run, 'checkpoints', 'latest'));
        const child = startTacotune(begun ? ['train', '--resume', run] : ['train', recipe, '--output', run]);
        const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
        let printed = '';
        child.stderr.on('data', (piece: Buffer) => {
          printed += piece;
        });
        // From the moment that the run writes, so that kills are not spent on starting Node.
        await new Promise<void>((resolve) => {
          child.stderr.once('data', () => resolve());
          child.on('close', () => resolve());
        });
        setTimeout(() => child.kill('SIGKILL'), uniform() * 400);
        const code = await ended;
        if (code === null) kills++;
        else {
          assert.is(code, 0, printed);
          if (kills >= KILLS) break;
          rmSync(run, { recursive: true }); // finished before enough kills: once more from the start
        }
      }
      assert.ok(kills >= KILLS, `only ${kills} kills`);
      const begun = existsSync(join(run, 'checkpoints', 'latest'));
      const last = tacotune(begun ? ['train', '--resume', run] : ['train', recipe, '--output', run]);
      assert.is(last.status, 0, last.stderr);
      assert.equal(traces(run), traces(whole));
    });
  });
}

test('Ctrl-C saves and exits, and the run goes on to the same bytes', async () => {
  await inFolder(async (folder) => {
    const recipe = await prepare(folder, { every: 0 });
    const whole = join(folder, 'whole');
    assert.is(tacotune(['train', recipe, '--output', whole]).status, 0);
    const run = join(folder, 'run');
    const child = startTacotune(['train', recipe, '--output', run, '--threads', '1']);
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
    await new Promise<void>((resolve) => child.stderr.once('data', () => resolve()));
    while (!existsSync(join(run, 'log.jsonl')) && child.exitCode === null)
      await new Promise((resolve) => setTimeout(resolve, 2));
    child.kill('SIGINT');
    assert.is(await ended, 0);
    assert.ok(existsSync(join(run, 'adapter_model.safetensors')), 'no adapter was saved');
    const { status, stderr } = tacotune(['train', '--resume', run]);
    assert.is(status, 0, stderr);
    const { events, ...rest } = traces(run);
    const want = traces(whole);
    assert.equal(rest, { log: want.log, result: want.result });
    assert.equal(
      events.filter(({ reason }) => reason !== 'aborted'),
      want.events,
    );
  });
});

test('a flipped bit in any file of a checkpoint is found, and the one before is offered', async () => {
  await inFolder(async (folder) => {
    const recipe = await prepare(folder, { every: 5 });
    const run = join(folder, 'run');
    assert.is(tacotune(['train', recipe, '--output', run]).status, 0);
    const names = readdirSync(join(run, 'checkpoints'))
      .filter((name) => name.startsWith('step-'))
      .sort();
    const [before, newest] = [names.at(-2)!, names.at(-1)!];
    for (const file of readdirSync(join(run, 'checkpoints', newest))) {
      const path = join(run, 'checkpoints', newest, file);
      const bytes = readFileSync(path);
      const damaged = Buffer.from(bytes);
      damaged[Math.floor(damaged.length / 2)]! ^= 4;
      writeFileSync(path, damaged);
      const { status, stderr } = tacotune(['train', '--resume', run]);
      assert.is(status, 1, `${file}: not noticed`);
      assert.match(stderr, newest);
      assert.match(stderr, `--checkpoint ${before}`);
      writeFileSync(path, bytes);
    }
    const path = join(run, 'checkpoints', newest, 'optimizer.safetensors');
    truncateSync(path, 100);
    const { status, stderr } = tacotune(['train', '--resume', run, '--checkpoint', before]);
    assert.is(status, 0, stderr);
  });
});

test('a folder in use by another process is refused, one left by a killed process is not', async () => {
  await inFolder(async (folder) => {
    const recipe = await prepare(folder);
    const run = join(folder, 'run');
    assert.is(tacotune(['train', recipe, '--output', run]).status, 0);
    const { hostname } = await import('node:os');
    const before = readFileSync(join(run, 'adapter_model.safetensors'));
    writeFileSync(join(run, 'lock'), `${process.pid} ${hostname()}\n`);
    const { status, stderr } = tacotune(['train', recipe, '--output', run]);
    assert.is(status, 1);
    assert.match(stderr, `process ${process.pid}`);
    assert.equal(readFileSync(join(run, 'adapter_model.safetensors')), before);
    for (const left of [`${2 ** 22 + 1} ${hostname()}\n`, '']) {
      writeFileSync(join(run, 'lock'), left);
      assert.is(tacotune(['train', recipe, '--output', run]).status, 0);
    }
  });
});

test('a run without a checkpoint, and an unknown one, are refused', async () => {
  await inFolder(async (folder) => {
    const recipe = await prepare(folder);
    const nothing = tacotune(['train', '--resume', folder]);
    assert.is(nothing.status, 1);
    assert.match(nothing.stderr, 'a run with checkpoints');
    const both = tacotune(['train', recipe, '--resume', folder]);
    assert.is(both.status, 2);
    const run = join(folder, 'run');
    assert.is(tacotune(['train', recipe, '--output', run]).status, 0);
    const unknown = tacotune(['train', '--resume', run, '--checkpoint', 'step-00000099']);
    assert.is(unknown.status, 1);
    assert.match(unknown.stderr, "one of the run's checkpoints");
  });
});
