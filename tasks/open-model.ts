// SPDX-License-Identifier: Apache-2.0
// Opens what a task works on: a model directory, its tokenizer, an adapter, on a device. What belongs together is checked
// here, where files and engine meet: a tokenizer of another vocabulary, an adapter of another model.
import {
  type Adapter,
  checkAdapterFits,
  type Model as ModelFiles,
  openModel,
  readAdapter,
} from '../checkpoints/index.js';
import {
  type Device,
  initializeLora,
  LINEAR_NAMES,
  Llama,
  type LoraSettings,
  type Quantization,
} from '../engine/index.js';
import { UserError } from '../errors.js';
import { loadTokenizer, type Tokenizer } from '../tokenizer/index.js';
import { makeDevice, type PlaceRequest, resolvePlace } from './place.js';

export interface ModelOptions extends PlaceRequest {
  /** Model directory. */
  model: string;
  /** Tokenizer file or directory; default: the model's own. */
  tokenizer?: string | undefined;
  /** Adapter directory. */
  adapter?: string | undefined;
  quantize?: Quantization;
}

export interface OpenedModel {
  readonly llama: Llama;
  readonly files: ModelFiles;
  /** Loaded when first asked for: token ids need none. @throws UserError when there is none, or it is another model's */
  readonly tokenizer: Tokenizer;
  /** Frees the model and closes its files. */
  close(): void;
}

/** A model to run, with its adapter if one is named. */
export async function openForInference(options: ModelOptions): Promise<OpenedModel> {
  const files = openModel(options.model);
  try {
    const adapter = options.adapter === undefined ? undefined : readAdapter(options.adapter);
    if (adapter) checkAdapterFits(adapter, files.config, options.adapter!);
    const device = await makeDevice(resolvePlace(options), options);
    const llama = new Llama(device, files.config, files, {
      quantization: options.quantize ?? 'none',
      adapter: adapter && { ...adapter, dropout: 0 },
    });
    if (adapter) uploadAdapter(llama, adapter);
    return opened(llama, files, options.tokenizer);
  } catch (error) {
    files.close();
    throw error;
  }
}

export interface TrainingModelOptions extends Omit<ModelOptions, keyof PlaceRequest> {
  adapterSettings: LoraSettings | 'full';
  seed: number;
  device: Device;
}

/** A model to train: with a fresh adapter, or starting from the one in `adapter`. */
export function openForTraining(options: TrainingModelOptions): OpenedModel {
  const { adapterSettings } = options;
  const files = openModel(options.model);
  try {
    const start = options.adapter === undefined ? undefined : readAdapter(options.adapter);
    if (start) checkStart(start, adapterSettings, files, options.adapter!);
    const llama = new Llama(options.device, files.config, files, {
      quantization: options.quantize ?? 'nf4',
      adapter: adapterSettings,
    });
    if (start) uploadAdapter(llama, start);
    else if (adapterSettings !== 'full') initializeLora(llama.parameters!, options.seed);
    return opened(llama, files, options.tokenizer);
  } catch (error) {
    files.close();
    throw error;
  }
}

function opened(llama: Llama, files: ModelFiles, tokenizerPath: string | undefined): OpenedModel {
  llama.device.trim(); // what quantising worked in
  let tokenizer: Tokenizer | undefined;
  return {
    llama,
    files,
    get tokenizer() {
      tokenizer ??= openTokenizer(tokenizerPath ?? files.directory, files.config.vocabularySize);
      return tokenizer;
    },
    close: () => {
      llama.dispose();
      files.close();
    },
  };
}

/** Models round their vocabulary up (to a multiple of 64 or 128) or leave room for added tokens; more is another vocabulary. */
const SPARE_ROWS = 512;

/** A tokenizer whose ids fit a model of `vocabularySize` embedding rows. */
export function openTokenizer(path: string, vocabularySize: number): Tokenizer {
  const tokenizer = loadTokenizer(path);
  const pieces = tokenizer.vocabularySize;
  if (pieces > vocabularySize || vocabularySize - pieces > SPARE_ROWS) {
    throw new UserError({
      expected: `a tokenizer for a model with a vocabulary of ${vocabularySize}`,
      found: `one with ${pieces} pieces`,
      where: path,
      remedy: "use the tokenizer that came with the model ('--tokenizer', or 'tokenizer' in the recipe)",
    });
  }
  return tokenizer;
}

/** An adapter to start from has the settings of the run, since its numbers mean nothing under others. */
function checkStart(start: Adapter, settings: LoraSettings | 'full', files: ModelFiles, where: string): void {
  if (settings === 'full') {
    throw new UserError({
      expected: 'adapter.type: lora, to start from an adapter',
      found: 'full',
      where,
      remedy: 'merge the adapter into the model first',
    });
  }
  checkAdapterFits(start, files.config, where);
  const facts = (s: Pick<LoraSettings, 'rank' | 'alpha' | 'rslora' | 'targets'>) =>
    `rank ${s.rank}, alpha ${s.alpha}, rslora ${s.rslora}, targets ${LINEAR_NAMES.filter((name) => s.targets.includes(name)).join(' ')}`;
  if (facts(start) !== facts(settings)) {
    throw new UserError({
      expected: `an adapter with the recipe's settings (${facts(settings)})`,
      found: facts(start),
      where,
      remedy: "make the recipe's 'adapter' agree with it",
    });
  }
}

function uploadAdapter(llama: Llama, adapter: Adapter): void {
  for (const { name, value } of llama.parameters!.list) {
    llama.device.upload(value, adapter.tensors.get(name as `layers.${number}.q.A`)!.data);
  }
}
