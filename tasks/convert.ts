// SPDX-License-Identifier: Apache-2.0
// Rewrites a model, an adapter or a file of tensors as safetensors under the standard names: from torch's .bin, from GGUF, from
// one file to shards and back, in other 16-bit or 32-bit types. Values stream from file to file. Says which names changed and
// what was left behind; nothing is dropped in silence.
import { existsSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import {
  castStream,
  compareStreams,
  copyAdapter,
  copyStream,
  openAdapter,
  openModel,
  openTensorFile,
  Replacement,
  SafetensorsWriter,
  verifyAdapterCopy,
  type WeightStream,
  type WeightType,
} from '../checkpoints/index.js';
import { UserError } from '../errors.js';
import { isPacked, type ModelOutputOptions, secondsSince, withDtype, writeModelOutput } from './model-output.js';

export interface ConvertOptions extends ModelOutputOptions {
  /** Folder of a model or an adapter, a GGUF file of a model, or a file of tensors. */
  input: string;
  /** Type of the floating-point values; default: as they are. */
  dtype?: WeightType | undefined;
}

export interface Conversion {
  kind: 'model' | 'adapter' | 'tensors';
  tensors: number;
  /** Names that changed, layers taken together: `layers.*.q`. */
  renamed: { from: string; to: string; count: number }[];
  /** What the input has and the output has not, with the reason. */
  dropped: string[];
  files: string[];
  bytes: number;
  seconds: number;
  /** Files that were complete from an interrupted run. */
  resumed: number;
  /** Tensors that were compared, where asked for. */
  verified?: number;
}

/** @throws UserError when the input cannot be read, values do not fit the type, or the output would overwrite a model */
export async function convert(options: ConvertOptions): Promise<Conversion> {
  const { input } = options;
  const status = statSync(input, { throwIfNoEntry: false });
  if (!status) throw new UserError({ expected: 'something to convert', found: 'nothing of that name', where: input });
  if (status.isDirectory()) {
    return existsSync(join(input, 'adapter_config.json')) ? convertAdapter(options) : convertModel(options);
  }
  return input.endsWith('.gguf') ? convertModel(options) : convertTensors(options);
}

async function convertModel(options: ConvertOptions): Promise<Conversion> {
  const { input, dtype } = options;
  const model = openModel(input);
  try {
    const weights = model.tensorNames.flatMap((name) => {
      const tensors = model.stored(name);
      if (dtype === undefined || model.storedAs(name) === dtype) return copyStream(tensors);
      if (isPacked(model.storedAs(name))) throw packedCast(input, dtype);
      return castStream(tensors[0]!, dtype);
    });
    const config = dtype ? withDtype(model.fields, dtype) : model.fields;
    const job = { task: 'convert', dtype: dtype ?? 'as it is' };
    const output = await writeModelOutput(model, input, weights, { config, job }, options);
    return {
      kind: 'model',
      tensors: weights.reduce((sum, { declarations }) => sum + declarations.length, 0),
      renamed: grouped(model.renamed),
      dropped: model.ignored.map((name) => `${name}: follows from the config or from another tensor`),
      ...output,
    };
  } finally {
    model.close();
  }
}

function packedCast(where: string, dtype: WeightType): UserError {
  return new UserError({
    expected: `weights in 16 or 32 bits to write as ${dtype}`,
    found: 'weights in 4 bits',
    where,
    remedy: 'take the model that was quantised, or leave out the type to copy the 4-bit weights as they are',
  });
}

async function convertAdapter(options: ConvertOptions): Promise<Conversion> {
  const { input, output, dtype, verify } = options;
  if (resolve(input) === resolve(output) && existsSync(join(input, 'adapter_model.safetensors'))) {
    throw new UserError({ expected: 'an output folder apart from the input', found: 'the same', where: output });
  }
  if (existsSync(join(output, 'config.json'))) {
    throw new UserError({ expected: 'a folder for an adapter', found: 'one with a model', where: output });
  }
  const start = performance.now();
  const adapter = openAdapter(input);
  try {
    await copyAdapter(output, adapter, { dtype });
    const verified = verify ? await verifyAdapterCopy(output, adapter, dtype) : undefined;
    const files = ['adapter_model.safetensors', 'adapter_config.json'].map((name) => join(output, name));
    return {
      kind: 'adapter',
      tensors: adapter.tensors.size,
      renamed: grouped([...adapter.tensors.values()].map(({ fileName, standardName }) => [fileName, standardName])),
      dropped: adapter.dropped.map((key) => `${key}: a setting of adapter_config.json without effect on the result`),
      files,
      bytes: statSync(files[0]!).size,
      seconds: secondsSince(start),
      resumed: 0,
      ...(verified !== undefined && { verified }),
    };
  } finally {
    adapter.close();
  }
}

async function convertTensors({ input, output, dtype, verify }: ConvertOptions): Promise<Conversion> {
  if (!output.endsWith('.safetensors')) {
    throw new UserError({ expected: 'an output file named *.safetensors', found: 'another ending', where: output });
  }
  const start = performance.now();
  const file = openTensorFile(input);
  const replacement = new Replacement(dirname(output));
  try {
    const streams: WeightStream[] = [...file.tensors].map(([name, info]) => {
      const tensor = { name, ...info, blocks: () => file.blocks(name), range: () => file.range(name) };
      return dtype && FLOATS.has(info.dtype) ? castStream(tensor, dtype) : copyStream([tensor]);
    });
    const declarations = streams.flatMap((stream) => stream.declarations);
    const writer = new SafetensorsWriter(replacement.create(basename(output)), declarations);
    for (const { produce } of streams) await produce((name, data) => writer.write(name, data));
    writer.finish();
    replacement.commit();
    const verified = verify ? await verifyTensors(output, streams) : undefined;
    return {
      kind: 'tensors',
      tensors: streams.length,
      renamed: [],
      dropped: [],
      files: [output],
      bytes: statSync(output).size,
      seconds: secondsSince(start),
      resumed: 0,
      ...(verified !== undefined && { verified }),
    };
  } finally {
    replacement.close();
    file.close();
  }
}

const FLOATS = new Set(['F32', 'BF16', 'F16']);

async function verifyTensors(path: string, streams: readonly WeightStream[]): Promise<number> {
  const file = openTensorFile(path);
  try {
    return await compareStreams(() => file, streams);
  } finally {
    file.close();
  }
}

/** Names that differ, those of all layers as one. */
function grouped(names: readonly (readonly [from: string, to: string])[]): Conversion['renamed'] {
  const groups = new Map<string, Conversion['renamed'][number]>();
  for (const pair of names) {
    if (pair[0] === pair[1]) continue;
    const [from, to] = pair.map((name) => name.replace(/(?<=\.)\d+(?=\.)/g, '*')) as [string, string];
    const group = groups.get(`${from} ${to}`) ?? { from, to, count: 0 };
    group.count++;
    groups.set(`${from} ${to}`, group);
  }
  return [...groups.values()];
}
