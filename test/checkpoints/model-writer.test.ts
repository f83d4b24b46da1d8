// SPDX-License-Identifier: Apache-2.0
// Models written weight by weight: in one file and in shards, killed at any call and gone on with, compared afterwards; a
// folder is a model only when it is whole.
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import {
  castStream,
  copyStream,
  openModel,
  quantizeStream,
  verifyModelDirectory,
  type WeightStream,
  writeModelDirectory,
} from '../../checkpoints/index.js';
import { randomStart } from '../../engine/index.js';
import { suite } from '../support/harness.js';
import { TINY_CONFIG, writeTinyModel } from '../support/tiny.js';
import { abandonTemporaries, contents as bytesIn, faultyLayer, inDirectory, throwsUserError } from './support.js';

const test = suite('checkpoints/model-writer');

/** Runs `body` with a tiny model open and a place for another. */
function withModel(body: (model: ReturnType<typeof openModel>, output: string) => Promise<void>): Promise<void> {
  return inDirectory(async (directory) => {
    const model = openModel(await writeTinyModel(join(directory, 'model')));
    try {
      await body(model, join(directory, 'output'));
    } finally {
      model.close();
    }
  });
}

const copies = (model: ReturnType<typeof openModel>): WeightStream[] =>
  model.tensorNames.map((name) => copyStream(model.stored(name)));
const JOB = { task: 'test' };

/** Name → hash of every file in a directory. */
const contents = (directory: string): Record<string, string> =>
  Object.fromEntries(
    Object.entries(bytesIn(directory)).map(([name, bytes]) => [
      name,
      createHash('sha1').update(bytes, 'latin1').digest('hex'),
    ]),
  );

async function fails(body: () => Promise<unknown>, parts: Parameters<typeof throwsUserError>[1]): Promise<void> {
  const [outcome] = await Promise.allSettled([body()]);
  throwsUserError(() => {
    if (outcome!.status === 'rejected') throw outcome.reason;
  }, parts);
}

test('one file, or shards with an index, hold the same values', () =>
  withModel(async (model, output) => {
    const weights = copies(model);
    for (const maxShardBytes of [undefined, 30_000, 1]) {
      const written = await writeModelDirectory(output, { weights, config: model.fields, job: JOB, maxShardBytes });
      assert.is(written.files.length, { '': 2, '30000': 5, '1': weights.length + 2 }[String(maxShardBytes ?? '')]);
      assert.equal(readdirSync(output).sort(), [...written.files].sort());
      const copy = openModel(output);
      for (const name of model.tensorNames) assert.equal(copy.weight(name), model.weight(name));
      assert.is(await verifyModelDirectory(output, weights), weights.length);
      copy.close();
      rmSync(output, { recursive: true });
    }
  }));

test('in other types: rounded to nearest, and refused where a value would become infinite', () =>
  withModel(async (model, output) => {
    const weights = model.tensorNames.map((name) => castStream(model.stored(name)[0]!, 'bf16'));
    await writeModelDirectory(output, { weights, config: model.fields, job: JOB });
    const copy = openModel(output);
    for (const name of model.tensorNames) {
      assert.is(copy.storedAs(name), 'bf16');
      const [values, wide] = [copy.values(name), model.values(name)];
      assert.ok(
        wide.every((value, i) => Math.abs(value - values[i]!) <= Math.abs(value) * 2 ** -8),
        name,
      );
    }
    copy.close();
    const large = { name: 'a', dtype: 'F32', shape: [2], blocks: () => [Float32Array.of(1, -1e5)] } as const;
    throwsUserError(() => void castStream(large, 'f16').produce(() => {}), {
      expected: /'a' that f16/,
      found: /-100000/,
    });
    const infinite = { ...large, blocks: () => [Float32Array.of(1, Number.POSITIVE_INFINITY)] };
    castStream(infinite, 'f16').produce((_, data) => assert.equal(data, Uint16Array.of(0x3c00, 0x7c00)));
    throwsUserError(() => void quantizeStream({ ...infinite, shape: [1, 2] }).produce(() => {}), {
      expected: /finite/,
    });
  }));

test('a folder with a model, or the beginnings of another, is left as it is', () =>
  withModel(async (model, output) => {
    const options = { weights: copies(model), config: model.fields, job: JOB, maxShardBytes: 30_000 };
    await writeModelDirectory(output, options);
    const before = contents(output);
    await fails(() => writeModelDirectory(output, options), { expected: /a folder without a model/ });
    assert.equal(contents(output), before);
    rmSync(join(output, 'config.json'));
    await fails(() => writeModelDirectory(output, options), { expected: /without a model/, found: /index\.json/ });
    rmSync(output, { recursive: true });

    const layer = faultyLayer(40, 'after');
    await Promise.allSettled([writeModelDirectory(output, { ...options, layer })]);
    const begun = contents(output);
    const other = { ...options, job: { task: 'other' } };
    await fails(() => writeModelDirectory(output, other), { found: /those of another: task test/ });
    assert.equal(contents(output), begun);
  }));

test('killed or out of space at any call: never a model until it is whole, and the same again goes on', () =>
  withModel(async (model, output) => {
    const weights = copies(model);
    const options = { weights, config: model.fields, job: JOB, maxShardBytes: 30_000 };
    await writeModelDirectory(output, options);
    const whole = contents(output);
    rmSync(output, { recursive: true });
    let resumed = 0;
    for (let call = 0; ; call++) {
      const layer = faultyLayer(call, call % 2 === 0 ? 'after' : 'once');
      const [outcome] = await Promise.allSettled([writeModelDirectory(output, { ...options, layer })]);
      if (outcome!.status === 'fulfilled' && layer.calls <= call) break;
      if (outcome!.status === 'rejected') {
        abandonTemporaries(output);
        assert.not.ok(existsSync(join(output, 'config.json')) && existsSync(join(output, 'unfinished.json')) === false);
        if (!existsSync(join(output, 'config.json'))) throwsUserError(() => openModel(output), {});
        resumed += (await writeModelDirectory(output, options)).resumed;
      }
      assert.equal(contents(output), whole, `after a fault at call ${call}`);
      rmSync(output, { recursive: true });
    }
    assert.ok(resumed > 20, `${resumed} files were taken over`);
  }));

test('a file that was changed after it was complete is written again where that shows, and found by comparing', () =>
  withModel(async (model, output) => {
    const weights = copies(model);
    const options = { weights, config: model.fields, job: JOB, maxShardBytes: 30_000 };
    await Promise.allSettled([writeModelDirectory(output, { ...options, layer: faultyLayer(50, 'after') })]);
    const first = join(output, 'model-00001-of-00003.safetensors');
    assert.ok(existsSync(first));
    writeFileSync(first, readFileSync(first).subarray(0, 1000));
    await writeModelDirectory(output, options);
    assert.is(await verifyModelDirectory(output, weights), weights.length);

    const bytes = readFileSync(first);
    bytes[bytes.length - 5]! ^= 1;
    writeFileSync(first, bytes);
    await fails(() => verifyModelDirectory(output, weights), { expected: /as they were written/, where: /00001/ });
  }));

test('an abort leaves complete files, and the message says how to go on', () =>
  withModel(async (model, output) => {
    const controller = new AbortController();
    const weights = copies(model);
    const options = { weights, config: model.fields, job: JOB, maxShardBytes: 30_000 };
    const onProgress = (done: number, total: number) => {
      if (done > total / 2) controller.abort();
    };
    await fails(() => writeModelDirectory(output, { ...options, onProgress, signal: controller.signal }), {
      found: /an interruption/,
      remedy: /repeat the command/,
    });
    const { resumed } = await writeModelDirectory(output, options);
    assert.ok(resumed > 0);
    const copy = openModel(output);
    const source = randomStart(TINY_CONFIG, 1);
    assert.equal(copy.weight('layers.1.up').data, source.weight('layers.1.up').data);
    copy.close();
  }));

test('more than the disk can take is refused before anything is written', () =>
  withModel(async (model, output) => {
    const huge = { declarations: [{ name: 'a', dtype: 'F32', shape: [2 ** 48] }], produce() {} } as const;
    const options = { weights: [huge], config: model.fields, job: JOB };
    await fails(() => writeModelDirectory(output, options), { expected: /1125899\.91 GB free/ });
    assert.not.ok(existsSync(output));
  }));
