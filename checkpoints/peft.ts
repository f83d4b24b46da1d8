// SPDX-License-Identifier: Apache-2.0
// LoRA adapters as PEFT lays them out: adapter_config.json beside adapter_model.safetensors
// (read also as .bin). What we write loads in PEFT
// unedited, from its early versions on; what PEFT and its relatives have written is read. A setting that changes what an
// adapter computes and is not implemented is refused by name, one that is unknown as well: an adapter never silently means
// something else. Knows no engine. Run its tests: `npm test -- checkpoints/peft`.
import { join } from 'node:path';
import { UserError } from '../errors.js';
import { checkDirectory, exists, type FileLayer, previousName, Replacement, systemFiles } from './files.js';
import { openTensorFile } from './formats.js';
import { Fields, readJsonObject } from './json.js';
import { type LlamaConfig, MAX_LAYERS } from './llama-config.js';
import {
  ADAPTER_CONFIG_FILE,
  type AdapterTensorName,
  adapterFileName,
  LINEAR_NAMES,
  type LinearName,
  linearOfTargetModule,
  parseAdapterFileName,
  targetModule,
  weightPlaces,
} from './names.js';
import { SafetensorsWriter } from './safetensors.js';
import { listProblems, shapeText, type TensorFile, toF32, weightType } from './tensor-file.js';

const WEIGHTS_FILE = 'adapter_model.safetensors';
const TORCH_FILE = 'adapter_model.bin';
/** What writeAdapter leaves in a folder. */
export const ADAPTER_FILES: readonly string[] = [ADAPTER_CONFIG_FILE, WEIGHTS_FILE];
/** Above any use; the width of the models bounds it. */
const MAX_RANK = 1 << 16;

/** A low-rank factor: A is (R, inputs), B is (outputs, R). */
export interface AdapterTensor {
  shape: [number, number];
  data: Float32Array;
}

/** A LoRA adapter on the same linear layers of every layer of a model. */
export interface Adapter {
  rank: number; // R
  alpha: number;
  /** Probability with which an input of A is dropped in training. */
  dropout: number;
  /** Scale by alpha/√R instead of alpha/R. */
  rslora: boolean;
  /** In the order of the forward pass. */
  targets: LinearName[];
  /** Name or path of the model that it was trained on. */
  baseModel?: string | undefined;
  tensors: Map<AdapterTensorName, AdapterTensor>;
}

/** Reads an adapter directory; values in f16 and bf16 become f32. @throws UserError with all bad tensors at once */
export function readAdapter(directory: string): Adapter {
  checkDirectory(directory, 'the folder of an adapter', 'give the folder that holds it and adapter_config.json');
  const settings = readSettings(directory);
  const file = openWeights(directory);
  try {
    const { targets, tensors } = readTensors(file, settings.rank, settings.targets);
    return { ...settings, targets, tensors };
  } finally {
    file.close();
  }
}

/** PEFT looks for safetensors first, too. */
function openWeights(directory: string): TensorFile {
  const torchPath = join(directory, TORCH_FILE);
  const path = join(directory, WEIGHTS_FILE);
  return openTensorFile(!exists(path) && exists(torchPath) ? torchPath : path);
}

interface Settings extends Omit<Adapter, 'targets' | 'tensors'> {
  /** undefined where the config has a pattern instead of names: then the tensors tell. */
  targets: LinearName[] | undefined;
}

/** Read below, each in its place. */
const READ_KEYS = [
  'peft_type',
  'task_type',
  'r',
  'lora_alpha',
  'lora_dropout',
  'use_rslora',
  'target_modules',
  'base_model_name_or_path',
  'bias',
  'init_lora_weights',
];
/** Of no effect on what a finished LoRA computes: notes, hints for training, and choices that show in the tensors. */
const IGNORED_KEYS = new Set([
  ...READ_KEYS,
  ...['auto_mapping', 'inference_mode', 'merge_weights', 'peft_version', 'revision', 'runtime_config'],
  ...['exclude_modules', 'layers_pattern', 'layers_to_transform'],
  ...['corda_config', 'eva_config', 'loftq_config', 'lora_ga_config', 'velora_config'],
  ...['ensure_weight_tying', 'megatron_core', 'qalora_group_size'],
]);
/** Starting points of A and B. The others (PiSSA, OLoRA, LoftQ, CorDA …) also change the base model. */
const PLAIN_STARTS = new Set<unknown>([true, false, 'gaussian', 'orthogonal', 'eva']);

function readSettings(directory: string): Settings {
  const path = join(directory, ADAPTER_CONFIG_FILE);
  if (!exists(path) && exists(previousName(path))) {
    throw new UserError({
      expected: ADAPTER_CONFIG_FILE,
      found: 'an adapter whose replacement was interrupted',
      where: directory,
      remedy: "remove '.previous' from the names of its files to have the old adapter back, or write it again",
    });
  }
  const fields = new Fields(readJsonObject(path, `an adapter folder with ${ADAPTER_CONFIG_FILE}`), path);
  for (const key of fields.keys()) {
    if (!IGNORED_KEYS.has(key) && !isUnset(fields.get(key))) {
      throw fields.error(
        key,
        'nothing, as it is not implemented',
        fields.get(key),
        'merge the adapter into its base model with PEFT, or train one without this setting',
      );
    }
  }
  const type = fields.get('peft_type');
  if (type !== 'LORA') throw fields.error('peft_type', "'LORA', the only kind of adapter that is implemented", type);
  const task = fields.get('task_type') ?? 'CAUSAL_LM';
  if (task !== 'CAUSAL_LM') throw fields.error('task_type', "'CAUSAL_LM'", task);
  const bias = fields.get('bias') ?? 'none';
  if (bias !== 'none') throw fields.error('bias', "'none': trained biases are not implemented", bias);
  const start = fields.get('init_lora_weights') ?? true;
  if (!PLAIN_STARTS.has(start)) {
    throw fields.error(
      'init_lora_weights',
      'a start that leaves the base model as it is',
      start,
      'convert it to a plain LoRA (PEFT: path_initial_model_for_weight_conversion)',
    );
  }
  return {
    rank: fields.wholeNumber('r', { min: 1, max: MAX_RANK, default: 8 }),
    alpha: fields.number('lora_alpha', { above: 0, default: 8 }),
    dropout: fields.number('lora_dropout', { min: 0, below: 1, default: 0 }),
    rslora: fields.boolean('use_rslora', false),
    targets: readTargets(fields),
    baseModel: fields.has('base_model_name_or_path') ? fields.string('base_model_name_or_path') : undefined,
  };
}

/** How PEFT's configs say that a feature is off. */
function isUnset(value: unknown): boolean {
  return value === null || value === false || (typeof value === 'object' && Object.keys(value).length === 0);
}

function readTargets(fields: Fields): LinearName[] | undefined {
  const modules = fields.get('target_modules') ?? 'default';
  if (typeof modules === 'string') return undefined; // a pattern
  if (!Array.isArray(modules)) throw fields.error('target_modules', 'a list of names', modules);
  const named = new Set(
    modules.map((module) => {
      // Modules may be named by their whole path; the tensors then show whether all layers are meant.
      const linear = linearOfTargetModule(String(module).split('.').at(-1)!);
      if (!linear) {
        const known = LINEAR_NAMES.map(targetModule).join(', ');
        throw fields.error(
          'target_modules',
          `names among ${known}`,
          module,
          'only linear layers of blocks can be adapted',
        );
      }
      return linear;
    }),
  );
  return LINEAR_NAMES.filter((linear) => named.has(linear));
}

function readTensors(
  file: TensorFile,
  rank: number,
  wanted: LinearName[] | undefined,
): Pick<Adapter, 'targets' | 'tensors'> {
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
  const tensors = new Map<AdapterTensorName, AdapterTensor>();
  for (const { name } of everyTensor(layers, targets)) {
    const fileName = places.get(name)!;
    const { dtype, shape } = file.tensors.get(fileName)!;
    const data = toF32(file.read(fileName) as Float32Array | Uint16Array, weightType(dtype)!);
    file.release(fileName);
    tensors.set(name, { shape: [shape[0]!, shape[1]!], data });
  }
  return { targets, tensors };
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
export function checkAdapterFits(adapter: Adapter, config: LlamaConfig, where: string): void {
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

function declareTensors({ rank, targets, tensors }: Adapter) {
  const layers = tensors.size / (2 * targets.length);
  if (!Number.isInteger(layers) || layers === 0)
    throw new Error(`an adapter of ${tensors.size} tensors on ${targets.length} linear layers`);
  return [...everyTensor(layers, targets)].map(({ name, layer, linear, factor }) => {
    const tensor = tensors.get(name);
    const [rows, columns] = tensor?.shape ?? [0, 0];
    if (!tensor || (factor === 'A' ? rows : columns) !== rank || tensor.data.length !== rows * columns) {
      throw new Error(
        `${name}: expected a factor of rank ${rank}, got ${tensor ? `${tensor.data.length} values as ${shapeText(tensor.shape)}` : 'none'}`,
      );
    }
    return { fileName: adapterFileName(layer, linear, factor), ...tensor };
  });
}

/** Only the keys that every version of PEFT knows: early ones fail on unknown ones, and all have the same defaults. */
function formatSettings(adapter: Adapter): string {
  const fields = {
    base_model_name_or_path: adapter.baseModel ?? null,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    lora_alpha: adapter.alpha,
    lora_dropout: adapter.dropout,
    modules_to_save: null,
    peft_type: 'LORA',
    r: adapter.rank,
    target_modules: adapter.targets.map(targetModule).sort(),
    task_type: 'CAUSAL_LM',
    ...(adapter.rslora && { use_rslora: true }),
  };
  return `${JSON.stringify(fields, null, 2)}\n`;
}
