// SPDX-License-Identifier: Apache-2.0
// LoRA adapters as PEFT lays them out: adapter_config.json beside adapter_model.safetensors (read also as .bin). What we write
// loads in PEFT unedited, from its early versions on; what PEFT and its relatives have written is read, names as found in the
// wild. Opening checks every name and shape; values are read when they are asked for. Knows no engine.
// Run its tests: `npm test -- checkpoints/peft`.
import { join } from 'node:path';
import { UserError } from '../errors.js';
import { checkDirectory, exists, type FileLayer, Replacement, systemFiles } from './files.js';
import { openTensorFile } from './formats.js';
import { type LlamaConfig, MAX_LAYERS } from './llama-config.js';
import type { StoredTensor } from './model.js';
import { compareStreams, type WeightStream } from './model-writer.js';
import {
  ADAPTER_CONFIG_FILE,
  type AdapterTensorName,
  adapterFileName,
  LINEAR_NAMES,
  type LinearName,
  parseAdapterFileName,
  targetModule,
  weightPlaces,
} from './names.js';
import { type AdapterSettings, formatSettings, readSettings } from './peft-config.js';
import { SafetensorsWriter } from './safetensors.js';
import { castStream } from './streams.js';
import { listProblems, shapeText, type TensorFile, toF32, type WeightType, weightType } from './tensor-file.js';

const WEIGHTS_FILE = 'adapter_model.safetensors';
const TORCH_FILE = 'adapter_model.bin';
/** What writing an adapter leaves in a folder. */
export const ADAPTER_FILES: readonly string[] = [ADAPTER_CONFIG_FILE, WEIGHTS_FILE];

/** A low-rank factor: A is (R, inputs), B is (outputs, R). */
export interface AdapterTensor {
  shape: [number, number];
  data: Float32Array;
}

/** A LoRA adapter on the same linear layers of every layer of a model. */
export interface Adapter extends AdapterSettings {
  tensors: Map<AdapterTensorName, AdapterTensor>;
}

/** A factor in an adapter's file. */
export interface AdapterPlace {
  fileName: string;
  /** PEFT's name for it. */
  standardName: string;
  dtype: WeightType;
  shape: [number, number];
}

/** An adapter whose values are still in its file. */
export interface AdapterFile extends AdapterSettings {
  readonly path: string;
  readonly layers: number;
  /** In the order layer, linear, A, B. */
  readonly tensors: ReadonlyMap<AdapterTensorName, AdapterPlace>;
  /** Keys of adapter_config.json that have no effect on what the adapter computes. */
  readonly dropped: readonly string[];
  /** A copy of a factor's values in f32. */
  values(name: AdapterTensorName): Float32Array<ArrayBuffer>;
  /** A factor for copying. */
  stored(name: AdapterTensorName): StoredTensor;
  close(): void;
}

/** Opens an adapter directory. @throws UserError with all bad tensors at once */
export function openAdapter(directory: string): AdapterFile {
  checkDirectory(directory, 'the folder of an adapter', 'give the folder that holds it and adapter_config.json');
  const { targets: wanted, ...settings } = readSettings(directory);
  const file = openWeights(directory);
  try {
    const { targets, layers, tensors } = placeTensors(file, settings.rank, wanted);
    return {
      ...settings,
      path: file.path,
      targets,
      layers,
      tensors,
      values(name) {
        const { fileName, dtype } = tensors.get(name)!;
        const data = toF32(file.read(fileName) as Float32Array | Uint16Array, dtype);
        file.release(fileName);
        return data;
      },
      stored(name) {
        const { fileName } = tensors.get(name)!;
        return {
          name: fileName,
          ...file.tensors.get(fileName)!,
          blocks: () => file.blocks(fileName),
          range: () => file.range(fileName),
        };
      },
      close: () => file.close(),
    };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Reads an adapter directory; values in f16 and bf16 become f32. @throws UserError as openAdapter */
export function readAdapter(directory: string): Adapter {
  const { path, layers, dropped, values, stored, close, tensors, ...settings } = openAdapter(directory);
  try {
    const read = [...tensors].map(([name, { shape }]) => [name, { shape, data: values(name) }] as const);
    return { ...settings, tensors: new Map(read) };
  } finally {
    close();
  }
}

/** PEFT looks for safetensors first, too. */
function openWeights(directory: string): TensorFile {
  const torchPath = join(directory, TORCH_FILE);
  const path = join(directory, WEIGHTS_FILE);
  return openTensorFile(!exists(path) && exists(torchPath) ? torchPath : path);
}

function placeTensors(
  file: TensorFile,
  rank: number,
  wanted: LinearName[] | undefined,
): Pick<AdapterFile, 'targets' | 'layers' | 'tensors'> {
  const places = new Map<AdapterTensorName, string>(); // our name → the file's
  const unexpected: string[] = [];
  const misshaped: string[] = [];
  const found = new Set<LinearName>(wanted);
  let layers = 0;
  for (const [fileName, { dtype, shape }] of file.tensors) {
    const place = parseAdapterFileName(fileName);
    const name = place && (`layers.${place.layer}.${place.linear}.${place.factor}` as const);
    if (!name || place.layer >= MAX_LAYERS)
      unexpected.push(`${fileName} ${shapeText(shape)}: no LoRA factor of a linear layer`);
    else if (wanted && !wanted.includes(place.linear)) unexpected.push(`${fileName}: not among target_modules`);
    else if (places.has(name)) unexpected.push(`${fileName}: the same place as ${places.get(name)}`);
    else {
      places.set(name, fileName);
      found.add(place.linear);
      layers = Math.max(layers, place.layer + 1);
      if (shape.length !== 2 || shape[place.factor === 'A' ? 0 : 1] !== rank) {
        const asExpected = place.factor === 'A' ? `[${rank}, inputs]` : `[outputs, ${rank}]`;
        misshaped.push(`${fileName}: ${shapeText(shape)} in the file, ${asExpected} by r in ${ADAPTER_CONFIG_FILE}`);
      } else if (!weightType(dtype)) misshaped.push(`${fileName}: ${dtype} in the file, not F32, BF16 or F16`);
    }
  }
  const targets = LINEAR_NAMES.filter((linear) => found.has(linear));
  const missing: string[] = [];
  for (const { name, layer, linear, factor } of everyTensor(layers, targets)) {
    if (!places.has(name)) missing.push(adapterFileName(layer, linear, factor));
  }
  const problems = listProblems({ missing, misshaped, unexpected });
  if (problems || layers === 0) {
    throw new UserError({
      expected: `the factors A and B of ${targets.map(targetModule).join(', ') || 'linear layers'} in every layer`,
      found: problems ? `other tensors:${problems}` : 'no tensors',
      where: file.path,
      remedy: `${ADAPTER_CONFIG_FILE} and weights must be of the same plain LoRA adapter`,
    });
  }
  const tensors = new Map<AdapterTensorName, AdapterPlace>();
  for (const { name, layer, linear, factor } of everyTensor(layers, targets)) {
    const fileName = places.get(name)!;
    const { dtype, shape } = file.tensors.get(fileName)!;
    tensors.set(name, {
      fileName,
      standardName: adapterFileName(layer, linear, factor),
      dtype: weightType(dtype)!,
      shape: [shape[0]!, shape[1]!],
    });
  }
  return { targets, layers, tensors };
}

/** Places of an adapter's tensors, in the order layer, linear, A, B. */
function* everyTensor(layers: number, targets: readonly LinearName[]) {
  for (let layer = 0; layer < layers; layer++) {
    for (const linear of LINEAR_NAMES) {
      if (!targets.includes(linear)) continue;
      for (const factor of ['A', 'B'] as const) {
        yield { name: `layers.${layer}.${linear}.${factor}` as const, layer, linear, factor };
      }
    }
  }
}

/** @throws UserError, with all tensors that do not fit, where the adapter is of a model of other sizes. */
export function checkAdapterFits(adapter: Adapter | AdapterFile, config: LlamaConfig, where: string): void {
  const shapes = new Map<string, number[]>(weightPlaces(config).map(({ name, shape }) => [name, shape]));
  const misshaped: string[] = [];
  const missing: string[] = [];
  for (const { name, layer, linear, factor } of everyTensor(config.layers, adapter.targets)) {
    const [outputs, inputs] = shapes.get(`layers.${layer}.${linear}`) as [number, number];
    const fitting = factor === 'A' ? [adapter.rank, inputs] : [outputs, adapter.rank];
    const tensor = adapter.tensors.get(name);
    if (!tensor) missing.push(`${name} ${shapeText(fitting)}`);
    else if (shapeText(tensor.shape) !== shapeText(fitting)) {
      misshaped.push(`${name}: ${shapeText(tensor.shape)} in the adapter, ${shapeText(fitting)} for the model`);
    }
  }
  const expected = new Set<string>([...everyTensor(config.layers, adapter.targets)].map(({ name }) => name));
  const unexpected = [...adapter.tensors.keys()].filter((name) => !expected.has(name));
  const problems = listProblems({ missing, misshaped, unexpected });
  if (problems) {
    throw new UserError({
      expected: `an adapter for a model of ${config.layers} layers and width ${config.width}`,
      found: `one for another model${adapter.baseModel ? ` ('${adapter.baseModel}')` : ''}:${problems}`,
      where,
      remedy: 'give the model that the adapter was trained on',
    });
  }
}

/**
 * Writes `adapter_model.safetensors` (f32) and `adapter_config.json`. Wrong sizes are found before a file is touched; an
 * adapter that was there before stays whole until the new one is.
 */
export function writeAdapter(directory: string, adapter: Adapter, layer: FileLayer = systemFiles): void {
  const tensors = declareTensors(adapter);
  const replacement = new Replacement(directory, layer);
  try {
    const writer = new SafetensorsWriter(
      replacement.create(WEIGHTS_FILE),
      tensors.map(({ fileName, shape }) => ({ name: fileName, dtype: 'F32', shape })),
    );
    for (const { fileName, data } of tensors) writer.write(fileName, data);
    writer.finish();
    // Last, as readers begin with it: a folder without it is no adapter.
    replacement.create(ADAPTER_CONFIG_FILE).write(formatSettings(adapter), 0);
    replacement.commit();
  } finally {
    replacement.close();
  }
}

/**
 * As writeAdapter, for values that are elsewhere: each factor is asked for when it is its turn, and only one is held.
 * @param shapes of all factors
 */
export async function streamAdapter(
  directory: string,
  settings: AdapterSettings,
  shapes: ReadonlyMap<AdapterTensorName, [number, number]>,
  values: (name: AdapterTensorName) => Promise<Float32Array>,
  layer: FileLayer = systemFiles,
): Promise<void> {
  const tensors = new Map([...shapes].map(([name, shape]) => [name, { shape }]));
  const streams = declareTensors({ ...settings, tensors }).map(
    ({ name, fileName, shape }): WeightStream => ({
      declarations: [{ name: fileName, dtype: 'F32', shape }],
      produce: async (put) => put(fileName, await values(name)),
    }),
  );
  await writeStreams(directory, settings, streams, layer);
}

type Declared = AdapterSettings & { tensors: Map<AdapterTensorName, { shape: [number, number]; data?: Float32Array }> };

function declareTensors<Given extends Declared>({ rank, targets, tensors }: Given) {
  const layers = tensors.size / (2 * targets.length);
  if (!Number.isInteger(layers) || layers === 0)
    throw new Error(`an adapter of ${tensors.size} tensors on ${targets.length} linear layers`);
  return [...everyTensor(layers, targets)].map(({ name, layer, linear, factor }) => {
    const tensor = tensors.get(name) as ReturnType<Given['tensors']['get']>;
    const [rows, columns] = tensor?.shape ?? [0, 0];
    const count = tensor?.data?.length ?? rows * columns;
    if (!tensor || (factor === 'A' ? rows : columns) !== rank || count !== rows * columns) {
      throw new Error(
        `${name}: expected a factor of rank ${rank}, got ${tensor ? `${count} values as ${shapeText(tensor.shape)}` : 'none'}`,
      );
    }
    return { name, fileName: adapterFileName(layer, linear, factor), ...tensor };
  });
}

/**
 * Writes an adapter as it lies in another's files, name by name, in the types that it has or another one; nothing is held in
 * memory. An adapter that was there before stays whole until the new one is.
 * @throws UserError where values do not fit `dtype`
 */
export async function copyAdapter(
  directory: string,
  adapter: AdapterFile,
  { dtype, layer = systemFiles }: { dtype?: WeightType | undefined; layer?: FileLayer } = {},
): Promise<void> {
  await writeStreams(directory, adapter, adapterStreams(adapter, dtype), layer);
}

async function writeStreams(
  directory: string,
  settings: AdapterSettings,
  streams: readonly WeightStream[],
  layer: FileLayer,
): Promise<void> {
  const replacement = new Replacement(directory, layer);
  try {
    const writer = new SafetensorsWriter(
      replacement.create(WEIGHTS_FILE),
      streams.flatMap(({ declarations }) => declarations),
    );
    for (const { produce } of streams) await produce((name, data) => writer.write(name, data));
    writer.finish();
    // Last, as readers begin with it: a folder without it is no adapter.
    replacement.create(ADAPTER_CONFIG_FILE).write(formatSettings(settings), 0);
    replacement.commit();
  } finally {
    replacement.close();
  }
}

/** Compares what copyAdapter has written, byte by byte. Returns how many tensors. @throws UserError naming one that differs */
export async function verifyAdapterCopy(directory: string, adapter: AdapterFile, dtype?: WeightType): Promise<number> {
  const file = openWeights(directory);
  try {
    return await compareStreams(() => file, adapterStreams(adapter, dtype));
  } finally {
    file.close();
  }
}

function adapterStreams(adapter: AdapterFile, dtype: WeightType | undefined): WeightStream[] {
  return [...adapter.tensors].map(([name, place]) =>
    castStream(adapter.stored(name), dtype ?? place.dtype, place.standardName),
  );
}
