// SPDX-License-Identifier: Apache-2.0
// Writes models and adapters for llama.cpp: a model as GGUF with the vocabulary that it needs to run, or a LoRA as GGUF beside
// the model that it belongs to. Keys, names and the order of rows are those of llama.cpp's own converters. One weight is in
// memory at a time.
import { basename, dirname, resolve } from 'node:path';
import {
  type AdapterFile,
  castValues,
  checkAdapterFits,
  type GgmlType,
  type GgufDeclaration,
  type GgufEntry,
  GgufWriter,
  ggmlTypeOf,
  ggufName,
  isPermuted,
  type LlamaConfig,
  type Model,
  openAdapter,
  openModel,
  packQ8_0,
  permuteRows,
  Replacement,
  ROPE_FACTORS,
  ropeFactors,
  type WeightType,
} from '../checkpoints/index.js';
import { UserError } from '../errors.js';
import { vocabularyKeys, vocabularyOf } from './gguf-vocabulary.js';
import { isAdapted, mergedStreams } from './merge.js';
import { isPacked, secondsSince } from './model-output.js';

export const GGUF_TYPES = ['f32', 'f16', 'bf16', 'q8_0'] as const;
export type GgufType = (typeof GGUF_TYPES)[number];

export interface ExportGgufOptions {
  /** Base model: its weights, or for an adapter its config alone. */
  model: string;
  adapter?: string | undefined;
  /** Write the model with the adapter merged into it, instead of the adapter alone. */
  merge?: boolean | undefined;
  /** Type of the matrices; default: f16, for an adapter f32. */
  type?: GgufType | undefined;
  /** tokenizer.model or a byte-level tokenizer.json, or a folder with one; default: the model's own. */
  tokenizer?: string | undefined;
  /** File to write, *.gguf. */
  output: string;
  onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
}

export interface GgufExport {
  kind: 'model' | 'adapter';
  path: string;
  tensors: number;
  bytes: number;
  seconds: number;
  /** Tensors that are in f16 though q8_0 was asked for: their rows are no whole blocks. */
  widened: string[];
}

/** llama.cpp's numbers for what most of a file is stored as. */
const FILE_TYPES: Record<GgufType, number> = { f32: 0, f16: 1, bf16: 32, q8_0: 7 };

/** @throws UserError when something does not fit or cannot be written so; an existing file stays until the new one is complete */
export async function exportGguf(options: ExportGgufOptions): Promise<GgufExport> {
  const { output } = options;
  if (!output.endsWith('.gguf')) {
    throw new UserError({ expected: 'an output file named *.gguf', found: basename(output), where: output });
  }
  if (options.merge && options.adapter === undefined) {
    throw new UserError({ expected: 'an adapter to merge', found: 'none', remedy: 'give --adapter', usage: true });
  }
  if (resolve(options.model) === resolve(output)) {
    throw new UserError({ expected: 'an output file apart from the input', found: 'the same', where: output });
  }
  const model = openModel(options.model);
  try {
    const adapter = options.adapter === undefined ? undefined : openAdapter(options.adapter);
    try {
      if (adapter) checkAdapterFits(adapter, model.config, options.adapter!);
      if (adapter && !options.merge) return await write(options, adapterContents(model, adapter, options));
      return await write(options, modelContents(model, adapter, options));
    } finally {
      adapter?.close();
    }
  } finally {
    model.close();
  }
}

const WEIGHT_TYPES: Readonly<Record<string, WeightType>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };

/** A file as it is to be: keys, and tensors that give their values when they are due. */
interface Contents {
  kind: 'model' | 'adapter';
  metadata: Map<string, GgufEntry>;
  tensors: (GgufDeclaration & { produce(put: (values: Float32Array) => void): void | Promise<void> })[];
  widened: string[];
}

async function write({ output, onProgress }: ExportGgufOptions, contents: Contents): Promise<GgufExport> {
  const start = performance.now();
  const { kind, metadata, tensors, widened } = contents;
  const total = tensors.reduce((sum, { shape, type }) => sum + (count(shape) / type.elements) * type.bytes, 0);
  let done = 0;
  const replacement = new Replacement(dirname(output));
  try {
    const writer = new GgufWriter(replacement.create(basename(output)), metadata, tensors);
    for (const { name, type, produce } of tensors) {
      await produce((values) => {
        const cast = WEIGHT_TYPES[type.name];
        const packed = cast ? castValues(name, values, 'f32', cast) : packQ8_0(values);
        writer.write(name, packed);
        done += packed.byteLength;
        onProgress?.(done, total);
      });
    }
    writer.finish();
    replacement.commit();
  } finally {
    replacement.close();
  }
  return { kind, path: output, tensors: tensors.length, bytes: total, seconds: secondsSince(start), widened };
}

const count = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

function modelContents(model: Model, adapter: AdapterFile | undefined, options: ExportGgufOptions): Contents {
  const { config } = model;
  if (adapter && model.tensorNames.some((name) => isPacked(model.storedAs(name)))) {
    throw new UserError({
      expected: 'a base model in 16 or 32 bits to merge into',
      found: 'one in 4 bits',
      where: options.model,
      remedy: 'give the original model, or export the adapter alone (without --merge)',
    });
  }
  const type = options.type ?? 'f16';
  const vocabulary = vocabularyOf(options.tokenizer ?? model.directory, config.vocabularySize);
  const merged = adapter && mergedStreams(model, adapter, 'f32').weights;
  const widened: string[] = [];
  const tensors: Contents['tensors'] = model.tensorNames.map((name, index) => {
    const { shape } = model.place(name);
    const K = shape.at(-1)!;
    const stored = shape.length === 1 ? ggmlTypeOf('F32') : ggmlTypeOf(type.toUpperCase());
    const fits = K % stored.elements === 0;
    if (!fits) widened.push(ggufName(name));
    return {
      name: ggufName(name),
      type: fits ? stored : ggmlTypeOf('F16'),
      shape,
      async produce(put) {
        const ordered = (values: Float32Array) =>
          isPermuted(name) ? permuteRows(values, K, config.headWidth, 'to-ggml') : values;
        if (!merged || !isAdapted(name, adapter)) put(ordered(model.values(name)));
        else {
          const whole = new Float32Array(count(shape));
          let done = 0;
          await merged[index]!.produce((_, data) => {
            whole.set(data as Float32Array, done);
            done += (data as Float32Array).length;
          });
          put(ordered(whole));
        }
        model.done(name);
      },
    };
  });
  const factors = ropeFactors(config);
  if (factors) {
    const produce = (put: (values: Float32Array) => void) => put(factors);
    tensors.unshift({ name: ROPE_FACTORS, type: ggmlTypeOf('F32'), shape: [factors.length], produce });
  }
  const metadata = new Map<string, GgufEntry>([
    ['general.architecture', ['text', 'llama']],
    ['general.type', ['text', 'model']],
    ['general.name', ['text', basename(resolve(options.model))]],
    ['general.file_type', ['u32', FILE_TYPES[type]]],
    ['general.quantization_version', ['u32', 2]],
    ...shapeKeys(config),
    ...vocabularyKeys(vocabulary, config),
  ]);
  return { kind: 'model', metadata, tensors, widened };
}

function shapeKeys(config: LlamaConfig): [string, GgufEntry][] {
  const keys: [string, GgufEntry][] = [
    ['vocab_size', ['u32', config.vocabularySize]],
    ['context_length', ['u32', config.maxPositions]],
    ['embedding_length', ['u32', config.width]],
    ['block_count', ['u32', config.layers]],
    ['feed_forward_length', ['u32', config.feedForwardWidth]],
    ['attention.head_count', ['u32', config.queryHeads]],
    ['attention.head_count_kv', ['u32', config.keyValueHeads]],
    ['attention.key_length', ['u32', config.headWidth]],
    ['attention.value_length', ['u32', config.headWidth]],
    ['attention.layer_norm_rms_epsilon', ['f32', config.rmsNormEps]],
    ['rope.dimension_count', ['u32', config.headWidth]],
    ['rope.freq_base', ['f32', config.ropeTheta]],
  ];
  if (config.ropeScaling?.type === 'linear') {
    keys.push(['rope.scaling.type', ['text', 'linear']], ['rope.scaling.factor', ['f32', config.ropeScaling.factor]]);
  }
  return keys.map(([key, value]) => [`llama.${key}`, value]);
}

function adapterContents(model: Model, adapter: AdapterFile, options: ExportGgufOptions): Contents {
  const type: GgmlType = ggmlTypeOf((options.type ?? 'f32').toUpperCase());
  const { headWidth } = model.config;
  const widened: string[] = [];
  const tensors = [...adapter.tensors].map(([name, { shape }]) => {
    const [, layer, linear, factor] = name.split('.') as [string, string, string, 'A' | 'B'];
    const weight = `layers.${layer}.${linear}`;
    const ggml = `${ggufName(weight)}.lora_${factor.toLowerCase()}`;
    const fits = shape[1] % type.elements === 0;
    if (!fits) widened.push(ggml);
    return {
      name: ggml,
      type: fits ? type : ggmlTypeOf('F16'),
      shape,
      produce(put: (values: Float32Array) => void) {
        const values = adapter.values(name);
        // B gives the rows of the weight.
        put(factor === 'B' && isPermuted(weight) ? permuteRows(values, shape[1], headWidth, 'to-ggml') : values);
      },
    };
  });
  // llama.cpp scales by alpha/R and knows no other rule.
  const alpha = adapter.rslora ? adapter.alpha * Math.sqrt(adapter.rank) : adapter.alpha;
  const metadata = new Map<string, GgufEntry>([
    ['general.architecture', ['text', 'llama']],
    ['general.type', ['text', 'adapter']],
    ['general.name', ['text', basename(resolve(options.adapter!))]],
    ['general.file_type', ['u32', FILE_TYPES[options.type ?? 'f32']]],
    ['general.quantization_version', ['u32', 2]],
    ['adapter.type', ['text', 'lora']],
    ['adapter.lora.alpha', ['f32', alpha]],
  ]);
  return { kind: 'adapter', metadata, tensors, widened };
}
