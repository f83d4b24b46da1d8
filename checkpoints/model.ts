// SPDX-License-Identifier: Apache-2.0
// A model as the rest of the project sees it: a config, and weights by our names, dense or in NF4. Where the tensors lie is the
// business of whoever opened them; here every name and shape is compared with the config before a value is read, and what is
// missing, too many or of another shape is told at once. Run its tests: `npm test -- checkpoints/hugging-face`.
import { UserError } from '../errors.js';
import { dequantized, findPacked, type Nf4Values, type PackedWeight, readPacked } from './bitsandbytes.js';
import type { FileRange } from './files.js';
import type { JsonObject } from './json.js';
import type { LlamaConfig } from './llama-config.js';
import {
  EMBEDDING_FILE_NAME,
  HEAD_FILE_NAME,
  isDerivedTensor,
  isLinearWeight,
  type WeightName,
  weightPlaces,
} from './names.js';
import {
  listProblems,
  shapeText,
  type TensorData,
  type TensorFile,
  type TensorInfo,
  toF32,
  type WeightType,
  weightType,
} from './tensor-file.js';

/** Values of a weight in place. bf16 and f16 are their bits. */
export interface ModelWeight {
  readonly dtype: WeightType;
  readonly shape: readonly number[];
  readonly data: Float32Array | Uint16Array;
}

/** How a weight is stored; NF4 with its absmax quantised in its turn, or not. */
export type StoredType = WeightType | 'nf4' | 'nf4-single';

/** A tensor of a weight as its file has it. */
export interface StoredTensor extends TensorInfo {
  readonly name: string;
  /** See TensorFile. */
  blocks(): Iterable<TensorData>;
  range?(): FileRange | undefined;
}

export interface Model {
  /** Where it was opened; a tokenizer may lie there. */
  readonly directory: string;
  readonly config: LlamaConfig;
  /** config.json with all its fields. */
  readonly fields: JsonObject;
  /** In the order of the forward pass. 'head' is among them only where it is a tensor of its own. */
  readonly tensorNames: readonly WeightName[];
  /** Tensors of the files that are no weights: they follow from the config or from other tensors. */
  readonly ignored: readonly string[];
  /** Names of tensors that the files spell in another way than Hugging Face's, with its spelling. */
  readonly renamed: readonly (readonly [fileName: string, name: string])[];
  /** The name and shape that a weight has in a model directory. */
  place(name: WeightName): { fileName: string; shape: number[] };
  storedAs(name: WeightName): StoredType;
  /**
   * Views into the mapped files, valid until `close`. 'head' of a tied model is the embedding.
   * @throws UserError for a weight that is stored in 4 bits
   */
  weight(name: WeightName): ModelWeight;
  /** A linear layer that is stored in NF4, its values as views; undefined where it is dense. */
  nf4(name: WeightName): Nf4Values | undefined;
  /** The tensors of a weight for copying: one, or the parts of a weight in NF4. */
  stored(name: WeightName): StoredTensor[];
  /** A copy of the values in f32, those that 4 bits stand for where it is stored so. */
  values(name: WeightName): Float32Array<ArrayBuffer>;
  /** The values are not needed for now: their memory goes back to the system, and is read again when next used. */
  done(name: WeightName): void;
  close(): void;
}

/** The files of a model as one: which file each tensor is in, by Hugging Face's names. */
export interface Weights {
  tensors: ReadonlyMap<string, TensorFile>;
  /** Tensors that an index names and its files do not have, and the other way round. */
  disagreements: string[];
  /** What to name in errors, where it is not the folder. */
  path?: string;
  /** Where the files have names of their own. */
  renamed?: readonly (readonly [fileName: string, name: string])[];
  close(): void;
}

export class StoredModel implements Model {
  readonly directory: string;
  readonly config: LlamaConfig;
  readonly fields: JsonObject;
  readonly tensorNames: readonly WeightName[];
  readonly ignored: readonly string[];
  readonly renamed: readonly (readonly [fileName: string, name: string])[];
  readonly #weights: Weights;
  readonly #places: ReadonlyMap<WeightName, { fileName: string; shape: number[] }>;
  readonly #packed: ReadonlyMap<string, PackedWeight>;

  /** @throws UserError with all bad tensors at once */
  constructor(directory: string, config: LlamaConfig, fields: JsonObject, weights: Weights) {
    this.directory = directory;
    this.config = config;
    this.fields = fields;
    this.#weights = weights;
    const places = weightPlaces(config);
    this.tensorNames = places.map(({ name }) => name);
    this.#places = new Map(places.map((place) => [place.name, place]));
    this.#packed = packedWeights(config, weights);
    this.renamed = weights.renamed ?? [];
    this.ignored = checkTensors(weights.path ?? directory, config, weights, this.#packed);
  }

  storedAs(name: WeightName): StoredType {
    const { fileName } = this.place(name);
    const packed = this.#packed.get(fileName);
    if (packed) return packed.doubleQuantized ? 'nf4' : 'nf4-single';
    return weightType(this.#weights.tensors.get(fileName)!.tensors.get(fileName)!.dtype)!;
  }

  weight(name: WeightName): ModelWeight {
    const { fileName, shape } = this.place(name);
    const file = this.#weights.tensors.get(fileName)!;
    const dtype = this.storedAs(name);
    if (dtype === 'nf4' || dtype === 'nf4-single') {
      throw new UserError({
        expected: `16-bit or 32-bit values of ${fileName}`,
        found: 'a weight in 4 bits',
        where: this.directory,
        remedy: 'give the model as it was before it was quantised',
      });
    }
    return { dtype, shape, data: file.read(fileName) as Float32Array | Uint16Array };
  }

  nf4(name: WeightName): Nf4Values | undefined {
    const { fileName, shape } = this.place(name);
    const packed = this.#packed.get(fileName);
    return packed && readPacked(this.#weights.tensors, fileName, shape as [number, number], packed);
  }

  stored(name: WeightName): StoredTensor[] {
    const { fileName } = this.place(name);
    return (this.#packed.get(fileName)?.parts ?? [fileName]).map((part) => {
      const file = this.#weights.tensors.get(part)!;
      return { name: part, ...file.tensors.get(part)!, blocks: () => file.blocks(part), range: () => file.range(part) };
    });
  }

  values(name: WeightName): Float32Array<ArrayBuffer> {
    const packed = this.nf4(name);
    if (packed) return dequantized(packed);
    const { data, dtype } = this.weight(name);
    return toF32(data, dtype);
  }

  done(name: WeightName): void {
    const { fileName } = this.place(name);
    for (const part of this.#packed.get(fileName)?.parts ?? [fileName]) this.#weights.tensors.get(part)!.release(part);
  }

  close(): void {
    this.#weights.close();
  }

  place(name: WeightName) {
    const place = this.#places.get(name === 'head' && this.config.tiedHead ? 'embedding' : name);
    if (!place) throw new Error(`${this.directory}: no weight '${name}' in a model of ${this.config.layers} layers`);
    return place;
  }
}

/** The linear layers that are stored in 4 bits, by their names in files. */
function packedWeights(config: LlamaConfig, { tensors }: Weights): Map<string, PackedWeight> {
  const packed = new Map<string, PackedWeight>();
  for (const { name, fileName, shape } of weightPlaces(config)) {
    const weight = findPacked(tensors, fileName, shape);
    if (!weight) continue;
    if (!isLinearWeight(name)) {
      throw new UserError({
        expected: `16-bit or 32-bit values of ${fileName}`,
        found: 'a weight in 4 bits',
        where: tensors.get(fileName)?.path ?? fileName,
        remedy: "only linear layers of blocks can be in 4 bits: quantise the original model ('tacotune quantize')",
      });
    }
    packed.set(fileName, weight);
  }
  return packed;
}

/** Compares what the files have with what the config asks for. Returns the tensors that may be there and are not needed. */
function checkTensors(
  directory: string,
  config: LlamaConfig,
  { tensors, disagreements }: Weights,
  packed: ReadonlyMap<string, PackedWeight>,
): string[] {
  const info = (fileName: string): TensorInfo | undefined => tensors.get(fileName)?.tensors.get(fileName);
  const places = weightPlaces(config);
  const expected = new Set(places.flatMap(({ fileName }) => packed.get(fileName)?.parts ?? [fileName]));
  const missing: string[] = [];
  const misshaped: string[] = [];
  for (const { fileName, shape } of places) {
    const found = info(fileName);
    if (packed.has(fileName)) continue; // checked when it was found
    if (!found) missing.push(`${fileName} ${shapeText(shape)}`);
    else if (shapeText(found.shape) !== shapeText(shape)) {
      misshaped.push(`${fileName}: ${shapeText(found.shape)} in the file, ${shapeText(shape)} by config.json`);
    } else if (!weightType(found.dtype))
      misshaped.push(`${fileName}: ${found.dtype} in the file, not F32, BF16 or F16`);
  }
  const tiedHead = config.tiedHead && tensors.has(HEAD_FILE_NAME);
  const others = [...tensors.keys()].filter((name) => !expected.has(name));
  const ignored = others.filter((name) => isDerivedTensor(name) || (tiedHead && name === HEAD_FILE_NAME));
  const unexpected = others
    .filter((name) => !ignored.includes(name))
    .map((name) => `${name} ${shapeText(info(name)!.shape)}`);

  const problems = listProblems({ missing, misshaped, unexpected, 'index and files disagree': disagreements });
  if (problems) {
    throw new UserError({
      expected: `the ${places.length} tensors of the LLaMA model that config.json describes`,
      found: `other tensors:${problems}`,
      where: directory,
      remedy: 'config.json and weights must be of the same model, fetched completely',
    });
  }
  if (tiedHead && !equalTensors(tensors, HEAD_FILE_NAME, EMBEDDING_FILE_NAME)) {
    throw new UserError({
      expected: `${HEAD_FILE_NAME} to equal ${EMBEDDING_FILE_NAME}, as "tie_word_embeddings": true in config.json says`,
      found: 'other values',
      where: directory,
      remedy: `set "tie_word_embeddings": false to use ${HEAD_FILE_NAME}, or remove that tensor`,
    });
  }
  return ignored;
}

/** Torch stores tied tensors under both names: the same values then, which is worth the look at all of them. */
function equalTensors(tensors: ReadonlyMap<string, TensorFile>, ...names: [string, string]): boolean {
  const [a, b] = names.map((name) => {
    const data = tensors.get(name)!.read(name);
    return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  }) as [Buffer, Buffer];
  const equal = a.equals(b);
  for (const name of names) tensors.get(name)!.release(name);
  return equal;
}
