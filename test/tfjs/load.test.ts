// SPDX-License-Identifier: Apache-2.0
// Finding TensorFlow.js: the order of packages, and what is said when one is missing or does not work. The packages are stand-ins
// of a few lines, since the real ones bring 300 MB.
// Run: npm test -- tfjs/load
import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { loadTensorFlow } from '../../engine/device/tfjs/load.js';
import { UserError } from '../../errors.js';
import { skip, suite } from '../support/harness.js';
import { inFolder } from '../support/tiny.js';
import { FOLDER_VARIABLE, tensorFlow } from './device.js';

const test = suite('tfjs: finding the packages');

const WORKING =
  'exports.env = () => ({ set() {} }); exports.setBackend = async (name) => { exports.chosen = name; return true; };';

function install(folder: string, name: string, source: string): void {
  const directory = join(folder, 'node_modules', name);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'package.json'), JSON.stringify({ name, version: '4.22.0', main: 'index.js' }));
  writeFileSync(join(directory, 'index.js'), source);
}

async function refusal(folder: string): Promise<UserError> {
  try {
    await loadTensorFlow([folder]);
  } catch (error) {
    assert.instance(error, UserError);
    return error as UserError;
  }
  throw new Error('nothing was refused');
}

test('tfjs-node-gpu comes before tfjs-node, and that before the plain packages', () =>
  inFolder(async (folder) => {
    install(folder, '@tensorflow/tfjs-core', WORKING);
    install(folder, '@tensorflow/tfjs-backend-cpu', '');
    const found = async () => {
      const { packageName, backend } = await loadTensorFlow([folder]);
      return `${packageName} ${backend}`;
    };
    assert.is(await found(), '@tensorflow/tfjs-core cpu');
    install(folder, '@tensorflow/tfjs-backend-wasm', '');
    assert.is(await found(), '@tensorflow/tfjs-core wasm');
    install(folder, '@tensorflow/tfjs', WORKING);
    assert.is(await found(), '@tensorflow/tfjs wasm');
    install(folder, '@tensorflow/tfjs-node', WORKING);
    assert.is(await found(), '@tensorflow/tfjs-node tensorflow');
    install(folder, '@tensorflow/tfjs-node-gpu', WORKING);
    assert.is(await found(), '@tensorflow/tfjs-node-gpu tensorflow');
  }));

test('none of them: what to install', () =>
  inFolder(async (folder) => {
    const { message } = await refusal(folder);
    assert.match(message, 'found none of them');
    assert.match(message, 'npm install @tensorflow/tfjs-node');
  }));

test('one that is there but does not load: its own words, where it is, and what to do', () =>
  inFolder(async (folder) => {
    install(folder, '@tensorflow/tfjs-node', "throw new Error('libtensorflow.so.2: cannot open shared object file')");
    install(folder, '@tensorflow/tfjs-core', WORKING);
    const { message } = await refusal(folder);
    assert.match(message, 'libtensorflow.so.2: cannot open');
    assert.match(message, join('node_modules', '@tensorflow', 'tfjs-node'));
    assert.match(message, 'npm rebuild @tensorflow/tfjs-node');
  }));

test('a plain package without a backend, and a backend that does not start', () =>
  inFolder(async (folder) => {
    install(folder, '@tensorflow/tfjs-core', WORKING.replace('return true', 'return false'));
    assert.match((await refusal(folder)).message, 'no backend beside it');
    install(folder, '@tensorflow/tfjs-backend-cpu', '');
    assert.match((await refusal(folder)).message, "backend 'cpu' does not start");
  }));

test('the functions of node:util that Node 23 removed are there for tfjs-node', () =>
  inFolder(async (folder) => {
    const util = createRequire(import.meta.url)('node:util') as Record<string, unknown>;
    const { isNullOrUndefined, isArray } = util;
    try {
      util['isNullOrUndefined'] = util['isArray'] = undefined;
      const asks = "const util = require('util'); exports.asked = [util.isNullOrUndefined(null), util.isArray([])];";
      install(folder, '@tensorflow/tfjs-node', WORKING + asks);
      const { tf } = await loadTensorFlow([folder]);
      assert.equal((tf as unknown as { asked: boolean[] }).asked, [true, true]);
    } finally {
      Object.assign(util, { isNullOrUndefined, isArray });
    }
  }));

test('the development packages are found, on the backend in JavaScript', async () => {
  if (FOLDER_VARIABLE in process.env) skip(`${FOLDER_VARIABLE} names others`);
  const { packageName, backend, tf } = await tensorFlow();
  assert.is(`${packageName} ${backend}`, '@tensorflow/tfjs-core cpu');
  assert.is(tf.getBackend(), 'cpu');
});
