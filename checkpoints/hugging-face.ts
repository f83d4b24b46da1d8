// SPDX-License-Identifier: Apache-2.0
// A model directory as Hugging Face lays it out: config.json beside one file of weights, or several with an index; safetensors,
// or torch's pickles where those are not there. Opening reads the headers alone and compares every name and shape with the
// config; weights are mapped when they are asked for.
// Links are followed, since Hugging Face's cache is made of links to its blobs; but an index can name only files beside it.
// Run its tests: `npm test -- checkpoints/hugging-face`.
import * as fs from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../errors.js';
import { checkDirectory, exists, type FileLayer, Replacement, systemFiles } from './files.js';
import { openTensorFile } from './formats.js';
import { openGgufModel } from './gguf-model.js';
import { Fields, readJsonObject } from './json.js';
import { CONFIG_FILE, formatLlamaConfig, type LlamaConfig, readLlamaConfig } from './llama-config.js';
import { type Model, StoredModel, type Weights } from './model.js';
import { isDerivedTensor, type WeightName, weightPlaces } from './names.js';
import { SafetensorsWriter } from './safetensors.js';
import { ELEMENT_TYPE, elementCount, fromF32, shapeText, type TensorFile, type WeightType } from './tensor-file.js';

export const WEIGHTS_FILE = 'model.safetensors';
export const INDEX_FILE = 'model.safetensors.index.json';
const SINGLE_FILES = [WEIGHTS_FILE, 'pytorch_model.bin'];
const INDEX_FILES = [INDEX_FILE, 'pytorch_model.bin.index.json'];
/** Names that weights, or the list of their shards, have in a model directory. */
export const WEIGHTS_FILES: readonly string[] = [...SINGLE_FILES, ...INDEX_FILES];
/** Each shard is an open file. */
const MAX_SHARDS = 512;

/** Opens a model directory, or a GGUF file, and checks it whole. @throws UserError with all bad tensors at once */
export function openModel(directory: string): Model {
  if (directory.endsWith('.gguf') && !fs.statSync(directory, { throwIfNoEntry: false })?.isDirectory()) {
    return openGgufModel(directory);
  }
  checkDirectory(directory, 'the folder of a model', 'give the folder that holds it and config.json');
  const config = readLlamaConfig(directory);
  const weights = openWeights(directory);
  try {
    return new StoredModel(directory, config, readJsonObject(join(directory, CONFIG_FILE), 'config.json'), weights);
  } catch (error) {
    weights.close();
    throw error;
  }
}

/** Whether a folder holds weights beside its config, complete or not; a GGUF file always does. */
export function hasWeights(directory: string): boolean {
  if (directory.endsWith('.gguf')) return exists(directory);
  return WEIGHTS_FILES.some((name) => exists(join(directory, name)));
}

/** Opens the files of a directory as one, whatever is in them. */
export function openWeights(directory: string): Weights {
  const single = SINGLE_FILES.find((name) => exists(join(directory, name)));
  const index = INDEX_FILES.find((name) => exists(join(directory, name)));
  // In transformers' order: safetensors before torch's pickles, of each the single file before the shards.
  if (single && (single === WEIGHTS_FILE || index !== INDEX_FILE)) {
    const file = openTensorFile(join(directory, single));
    const tensors = new Map([...file.tensors.keys()].map((name) => [name, file]));
    return { tensors, disagreements: [], close: () => file.close() };
  }
  if (index) return openShards(directory, index);
  throw new UserError({
    expected: WEIGHTS_FILES.join(', '),
    found: 'none of them',
    where: directory,
    remedy: 'give the folder that holds the weights; were they fetched completely?',
  });
}

function openShards(directory: string, indexFile: string): Weights {
  const shardOf = readIndex(join(directory, indexFile));
  const files = new Map<string, TensorFile>();
  const close = () => {
    for (const file of files.values()) file.close();
  };
  try {
    for (const shard of new Set(shardOf.values())) files.set(shard, openTensorFile(join(directory, shard)));
  } catch (error) {
    close();
    throw error;
  }
  const tensors = new Map<string, TensorFile>();
  const disagreements: string[] = [];
  for (const [name, shard] of shardOf) {
    const file = files.get(shard)!;
    if (file.tensors.has(name)) tensors.set(name, file);
    else disagreements.push(`${name}: the index places it in ${shard}, which does not have it`);
  }
  for (const [shard, file] of files) {
    for (const name of file.tensors.keys()) {
      if (shardOf.get(name) === shard || isDerivedTensor(name)) continue;
      const indexed = shardOf.get(name);
      disagreements.push(
        `${name}: in ${shard}, but the index ${indexed ? `places it in ${indexed}` : 'does not name it'}`,
      );
    }
  }
  return { tensors, disagreements, close };
}

/** Tensor name → shard name. A shard is a file of that very directory: no path, so nothing else can be opened by an index. */
function readIndex(path: string): Map<string, string> {
  const ending = path.endsWith(INDEX_FILE) ? '.safetensors' : '.bin';
  const index = new Fields(readJsonObject(path, 'an index of shards'), path);
  const map = index.object('weight_map');
  if (!map) throw index.error('weight_map', 'an object of tensor and file names');
  const shardOf = new Map<string, string>();
  for (const name of map.keys()) {
    const shard = map.get(name);
    if (typeof shard !== 'string' || !/^[^/\\\0]+$/.test(shard) || !shard.endsWith(ending)) {
      throw map.error(name, `the name of a ${ending} file in the same folder`, shard, 'fetch the index again');
    }
    shardOf.set(name, shard);
  }
  const shards = new Set(shardOf.values()).size;
  if (shards === 0 || shards > MAX_SHARDS) throw index.error('weight_map', `1 to ${MAX_SHARDS} files`, shards);
  return shardOf;
}

/**
 * Writes a model directory that transformers loads: `config.json` and `model.safetensors`. One tensor is in memory at a time.
 * A model that was there before stays whole until the new one is.
 * @param values gives each weight of `config` in f32, row-major; called in the order of the forward pass
 */
export async function writeModel(
  directory: string,
  config: LlamaConfig,
  values: (name: WeightName) => Float32Array | Promise<Float32Array>,
  { dtype = 'f32', layer = systemFiles }: { dtype?: WeightType; layer?: FileLayer } = {},
): Promise<void> {
  if (exists(join(directory, INDEX_FILE))) {
    throw new UserError({
      expected: 'a folder without a model in shards',
      found: INDEX_FILE,
      where: directory,
      remedy: 'choose another folder, or remove the old model first',
    });
  }
  const places = weightPlaces(config);
  const replacement = new Replacement(directory, layer);
  try {
    const writer = new SafetensorsWriter(
      replacement.create(WEIGHTS_FILE),
      places.map(({ fileName, shape }) => ({ name: fileName, dtype: ELEMENT_TYPE[dtype], shape })),
    );
    for (const { name, fileName, shape } of places) {
      const data = await values(name);
      if (data.length !== elementCount(shape)) {
        throw new Error(`${name}: expected ${shapeText(shape)} values, got ${data.length}`);
      }
      writer.write(fileName, fromF32(data, dtype));
    }
    writer.finish();
    const torchType = ({ f32: 'float32', bf16: 'bfloat16', f16: 'float16' } as const)[dtype];
    replacement.create(CONFIG_FILE).write(formatLlamaConfig(config, torchType), 0);
    replacement.commit();
  } finally {
    replacement.close();
  }
}
