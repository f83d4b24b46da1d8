// SPDX-License-Identifier: Apache-2.0
// Brings a model's weights onto a device: frozen in NF4 or as stored, or as f32 parameters that train. Where the values come
// from (files, a random start, nowhere for a plan) is the source's affair.
import type { Dense, Device, F32, Nf4Values, Weight, WeightValues } from '../device/index.js';
import { normals, seedOf } from '../random.js';
import type { Block } from './block.js';
import { type LinearName, type LlamaConfig, type WeightName, weightShapes } from './config.js';
import { Parameters } from './parameters.js';
import type { Projection } from './projection.js';

/** Where weights come from, by our names. */
export interface WeightSource {
  weight(name: WeightName): WeightValues;
  /** The values of a linear layer that the source has in NF4 already; undefined where it has dense ones. */
  nf4?(name: WeightName): Nf4Values | undefined;
  /** Called when a weight has been taken over, so that a source may drop cached pages. */
  done?(name: WeightName): void;
}

/**
 * How the seven linear layers of each block are held: 'none' as stored, 'nf4' in NF4 (those that are stored so as they are).
 * Embedding, norms and head are always as stored.
 */
export type Quantization = 'nf4' | 'none';

export interface LoadedWeights {
  readonly embedding: Dense; // (V,C)
  readonly blocks: readonly Block[];
  readonly finalNorm: F32; // (C)
  readonly head: Dense; // (V,C), the embedding itself where tied
  /** All weights as parameters, where the whole model trains. */
  readonly parameters: Parameters | undefined;
  /** Names of the weights that are the source's own memory or the device's, to free. */
  dispose(): void;
}

/** Frozen weights. */
export function loadFrozen(
  device: Device,
  config: LlamaConfig,
  source: WeightSource,
  quantization: Quantization,
): LoadedWeights {
  const owned: Weight[] = [];
  const take = <T extends Weight>(name: WeightName, make: (values: WeightValues) => T): T => {
    const weight = make(source.weight(name));
    source.done?.(name);
    owned.push(weight);
    return weight;
  };
  const norm = (name: WeightName): F32 =>
    take(name, (values) => {
      const tensor = device.allocate('weights', [config.width]);
      device.uploadWeight(tensor, values);
      return tensor;
    });
  const dense = (name: WeightName): Dense => take(name, (values) => device.adoptWeight(values));
  const linear = (layer: number, name: LinearName): Projection => {
    const weightName = `layers.${layer}.${name}` as const;
    const stored = source.nf4?.(weightName);
    if (stored) {
      const weight = device.adoptNf4(stored);
      owned.push(weight);
      return { name, weight };
    }
    if (quantization === 'none') return { name, weight: dense(weightName) };
    return { name, weight: take(weightName, (values) => device.quantizeWeight(values)) };
  };
  const embedding = dense('embedding');
  const blocks = Array.from({ length: config.layers }, (_, i) =>
    assembleBlock(
      i,
      (name) => norm(name),
      (name) => linear(i, name),
    ),
  );
  const finalNorm = norm('finalNorm');
  const head = config.tiedHead ? embedding : dense('head');
  const dispose = (): void => {
    for (const weight of owned) {
      for (const part of weight.dtype === 'nf4' ? [weight.codes, weight.absmaxCodes, weight.absmax] : [weight])
        device.free(part);
    }
  };
  return { embedding, blocks, finalNorm, head, parameters: undefined, dispose };
}

/** Every weight as an f32 parameter. */
export function loadTrainable(device: Device, config: LlamaConfig, source: WeightSource): LoadedWeights {
  const isMatrix = (name: WeightName): boolean => !name.endsWith('Norm');
  const parameters = new Parameters(
    device,
    weightShapes(config).map(({ name, shape }) => ({ name, shape, decays: isMatrix(name) })),
  );
  for (const { name } of weightShapes(config)) {
    device.uploadWeight(parameters.get(name).value, source.weight(name));
    source.done?.(name);
  }
  const blocks = Array.from({ length: config.layers }, (_, i) => {
    const norm = (name: WeightName) => parameters.get(name).value;
    const linear = (name: LinearName): Projection => {
      const { value, gradient } = parameters.get(`layers.${i}.${name}`);
      return { name, weight: value, gradient };
    };
    const block = assembleBlock(i, norm, linear);
    return {
      attention: { ...block.attention, normGradient: parameters.get(`layers.${i}.attentionNorm`).gradient },
      feedForward: { ...block.feedForward, normGradient: parameters.get(`layers.${i}.feedForwardNorm`).gradient },
    };
  });
  return {
    embedding: parameters.get('embedding').value,
    blocks,
    finalNorm: parameters.get('finalNorm').value,
    head: parameters.get(config.tiedHead ? 'embedding' : 'head').value,
    parameters,
    dispose: () => parameters.dispose(),
  };
}

function assembleBlock(
  layer: number,
  norm: (name: WeightName) => F32,
  linear: (name: LinearName) => Projection,
): Block {
  const attentionNorm = norm(`layers.${layer}.attentionNorm`);
  const [q, k, v, o] = (['q', 'k', 'v', 'o'] as const).map(linear) as [Projection, Projection, Projection, Projection];
  const feedForwardNorm = norm(`layers.${layer}.feedForwardNorm`);
  const [gate, up, down] = (['gate', 'up', 'down'] as const).map(linear) as [Projection, Projection, Projection];
  return { attention: { norm: attentionNorm, q, k, v, o }, feedForward: { norm: feedForwardNorm, gate, up, down } };
}

/** The projection of a block by its name. */
export function projectionOf(block: Block, name: LinearName): Projection {
  if (name === 'gate' || name === 'up' || name === 'down') return block.feedForward[name];
  return block.attention[name];
}

/** Storage type of a weight in its file. NF4 with its absmax quantised in its turn, or not. */
export type StoredType = WeightValues['dtype'] | 'nf4' | 'nf4-single';

/** A source without values, for the plan device: the shapes of the model, all weights of one type or each of its own. */
export function shapesOnly(config: LlamaConfig, stored: StoredType | ((name: WeightName) => StoredType)): WeightSource {
  const shapes = new Map(weightShapes(config).map(({ name, shape }) => [name, shape]));
  const typeOf = typeof stored === 'function' ? stored : () => stored;
  return {
    weight: (name) => ({ dtype: typeOf(name) as WeightValues['dtype'], shape: shapes.get(name)!, data: NO_VALUES }),
    nf4: (name) => {
      const type = typeOf(name);
      if (type !== 'nf4' && type !== 'nf4-single') return undefined;
      const shape = shapes.get(name) as [number, number];
      const absmax = { absmaxCodes: NO_BYTES, absmax: NO_VALUES, absmaxOffset: 0 };
      return { shape, doubleQuantized: type === 'nf4', codes: NO_BYTES, ...absmax };
    },
  };
}
const NO_BYTES = new Uint8Array(0);
const NO_VALUES = new Float32Array(0);

/** A fresh model: matrices normal with deviation 0.02 (GPT-2's and LLaMA's `initializer_range`), norms one. */
export function randomStart(config: LlamaConfig, seed: number): WeightSource {
  const list = weightShapes(config);
  const order = new Map(list.map(({ name }, index) => [name, index]));
  const shapes = new Map(list.map(({ name, shape }) => [name, shape]));
  return {
    weight: (name) => {
      const shape = shapes.get(name)!;
      const size = shape.reduce((product, part) => product * part, 1);
      const data = name.endsWith('Norm')
        ? new Float32Array(size).fill(1)
        : normals(seedOf(seed, order.get(name)!), size, 0.02);
      return { dtype: 'f32', shape, data };
    },
  };
}
