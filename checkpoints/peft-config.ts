// SPDX-License-Identifier: Apache-2.0
// adapter_config.json of PEFT, from its early versions on: to the settings of a plain LoRA and back. What changes what an adapter
// computes and is not implemented is refused by name, what is unknown as well; what has no effect is passed over, and said.
// Run its tests: `npm test -- checkpoints/peft`.
import { join } from 'node:path';
import { UserError } from '../errors.js';
import { exists, previousName } from './files.js';
import { Fields, readJsonObject } from './json.js';
import { ADAPTER_CONFIG_FILE, LINEAR_NAMES, type LinearName, linearOfTargetModule, targetModule } from './names.js';

/** Above any use; the width of the models bounds it. */
const MAX_RANK = 1 << 16;

/** What a LoRA is, apart from its numbers. */
export interface AdapterSettings {
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
}

export interface ReadSettings extends Omit<AdapterSettings, 'targets'> {
  /** undefined where the config has a pattern instead of names: then the tensors tell. */
  targets: LinearName[] | undefined;
  /** Keys that are there, have no effect on what the adapter computes, and are not written again. */
  dropped: string[];
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

export function readSettings(directory: string): ReadSettings {
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
    dropped: fields.keys().filter((key) => !WRITTEN_KEYS.has(key)),
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

/** Only the keys that every version of PEFT knows: early ones fail on unknown ones, and all have the same defaults. */
export function formatSettings(adapter: AdapterSettings): string {
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

/** What formatSettings writes. */
const WRITTEN_KEYS = new Set([
  ...['base_model_name_or_path', 'bias', 'fan_in_fan_out', 'inference_mode', 'lora_alpha', 'lora_dropout'],
  ...['modules_to_save', 'peft_type', 'r', 'target_modules', 'task_type', 'use_rslora'],
]);
