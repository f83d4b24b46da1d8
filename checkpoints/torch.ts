// SPDX-License-Identifier: Apache-2.0
// Files of torch.save (`.bin`, `.pt`): a pickle that describes tensors, and their storages, in a zip archive or, before torch
// 1.6, one after the other. The pickle is read by a machine that executes nothing and knows the names below alone. Storages
// may be shared and views strided; values are mapped when they are read, so a file of any size costs what is in use.
// Knows nothing of models. Run its tests: `npm test -- checkpoints/torch`.
import { closeSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { UserError } from '../errors.js';
import { openFile, readExactly } from './files.js';
import { describe } from './json.js';
import { type Checksum, extent, MappedTensors, type TensorPlace } from './mapped-tensors.js';
import { nameOf, type PickleFunction, type PickleTypes, readPickle } from './pickle.js';
import { ELEMENT_BYTES, type ElementType, elementCount, shapeText, type TensorFile } from './tensor-file.js';
import { ZipDirectory } from './zip.js';

/** A description of 100,000 tensors has 20 MB. */
const MAX_PICKLE_BYTES = 64 << 20;
/** Torch's own limit. A list of dimensions may be used by many tensors, so its length is a factor of the time. */
const MAX_DIMENSIONS = 64;
/** Pairs given to dicts' constructors in all: one list may be given to many. */
const MAX_DICT_PAIRS = 1 << 20;

const STORAGE_TYPES: Readonly<Record<string, ElementType>> = {
  'torch.DoubleStorage': 'F64',
  'torch.FloatStorage': 'F32',
  'torch.HalfStorage': 'F16',
  'torch.BFloat16Storage': 'BF16',
  'torch.LongStorage': 'I64',
  'torch.IntStorage': 'I32',
  'torch.ShortStorage': 'I16',
  'torch.CharStorage': 'I8',
  'torch.ByteStorage': 'U8',
  'torch.BoolStorage': 'BOOL',
};

/** Where a storage lies is known only when the pickle has been read. */
class Storage {
  constructor(
    readonly key: string,
    readonly dtype: ElementType,
    readonly elements: number,
  ) {}
}

class Tensor {
  constructor(
    readonly storage: Storage,
    readonly offset: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
  ) {}
}

/** Opens and checks a file of named tensors. @throws UserError */
export function openTorch(path: string): TensorFile {
  const { file, bytes } = openFile(path, 'a file of torch.save');
  try {
    const start = readExactly(file, 0, Math.min(4, bytes), path);
    const isZip = start[0] === 0x50 && start[1] === 0x4b;
    return new MappedTensors(path, file, isZip ? readArchive(file, bytes, path) : readLegacy(file, bytes, path));
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

function readArchive(file: number, fileBytes: number, path: string): Map<string, TensorPlace> {
  const archive = new ZipDirectory(file, fileBytes, path);
  const pickles = archive.names.filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  if (pickles.length !== 1) throw damaged('one data.pkl in the archive', `${pickles.length}`, path);
  const root = pickles[0]!.slice(0, -'data.pkl'.length);
  const contents = (name: string, maxBytes: number) => {
    const entry = archive.locate(`${root}${name}`);
    if (!entry) return undefined;
    if (entry.bytes > maxBytes) throw damaged(`${name} of at most ${maxBytes} bytes`, `${entry.bytes}`, path);
    const bytes = readExactly(file, entry.position, entry.bytes, path);
    if (entry.crc32 !== 0 && crc32(bytes) !== entry.crc32) {
      throw damaged(`${name} with checksum ${entry.crc32.toString(16)}`, crc32(bytes).toString(16), path);
    }
    return bytes;
  };
  const order = contents('byteorder', 16);
  checkByteOrder(order === undefined || Buffer.from(order).toString('latin1') === 'little', path);
  const types = new TorchTypes(path);
  const { value } = readPickle(contents('data.pkl', MAX_PICKLE_BYTES)!, types, path);
  return placeTensors(value, path, (storage) => {
    const entry = archive.locate(`${root}data/${storage.key}`);
    if (!entry) throw damaged(`storage '${storage.key}' in the archive`, 'no such entry', path);
    return entry;
  });
}

/** Torch's mark at the beginning of its older format. */
const LEGACY_MAGIC = 0x1950a86a20f9469cfc6cn;
/** The pickles of an adapter are shorter; where they are not, more is read. */
const LEGACY_START_BYTES = 1 << 20;

function readLegacy(file: number, fileBytes: number, path: string): Map<string, TensorPlace> {
  // How long the pickles are shows only when they end: first in a short piece of the file, so that opening costs little.
  for (let bytes = LEGACY_START_BYTES; ; bytes *= 8) {
    const whole = Math.min(fileBytes, MAX_PICKLE_BYTES);
    const start = readExactly(file, 0, Math.min(bytes, whole), path);
    try {
      return placeLegacy(readLegacyPickles(start, path), file, fileBytes, path);
    } catch (error) {
      if (start.length === whole) throw error;
    }
  }
}

interface LegacyPickles {
  value: unknown;
  keys: unknown;
  storages: ReadonlyMap<string, Storage>;
  end: number;
}

/** Magic, version, system, the value, and the keys of its storages: five pickles, one after the other. */
function readLegacyPickles(start: Uint8Array, path: string): LegacyPickles {
  const types = new TorchTypes(path);
  let end = 0;
  const next = () => {
    const pickle = readPickle(start.subarray(end), types, path);
    end += pickle.end;
    return pickle.value;
  };
  if (start[0] !== 0x80 || next() !== LEGACY_MAGIC) {
    throw damaged('a zip archive or pickle of torch.save', 'other bytes', path);
  }
  next(); // version of the format, which has had one
  const system = next();
  checkByteOrder(!(system instanceof Map) || system.get('little_endian') !== false, path);
  const value = next();
  const keys = next();
  return { value, keys, storages: types.storages, end };
}

function placeLegacy(
  { value, keys, storages, end }: LegacyPickles,
  file: number,
  fileBytes: number,
  path: string,
): Map<string, TensorPlace> {
  if (!Array.isArray(keys)) throw damaged('a list of storages', describe(keys), path);
  // The storages follow in this order, each after its number of elements.
  const entries = new Map<string, { position: number; bytes: number }>();
  let position = end;
  for (const key of keys) {
    const storage = storages.get(key as string);
    if (!storage || position + 8 > fileBytes) throw damaged(`storage ${describe(key)}`, 'none of that name', path);
    const bytes = storage.elements * ELEMENT_BYTES[storage.dtype];
    const count = new DataView(readExactly(file, position, 8, path).buffer).getBigInt64(0, true);
    if (count !== BigInt(storage.elements)) {
      throw damaged(`${storage.elements} elements in storage '${storage.key}'`, `${count}`, path);
    }
    entries.set(storage.key, { position: position + 8, bytes });
    position += 8 + bytes;
  }
  if (position !== fileBytes) throw damaged(`a file of ${position} bytes, as its storages need`, `${fileBytes}`, path);
  return placeTensors(value, path, (storage) => {
    const entry = entries.get(storage.key);
    if (!entry) throw damaged(`storage '${storage.key}' in the file`, 'none', path);
    return entry;
  });
}

/** The names that a pickle of tensors needs, and nothing else. */
class TorchTypes implements PickleTypes {
  readonly storages = new Map<string, Storage>();
  readonly #path: string;
  #dictPairs = 0;

  constructor(path: string) {
    this.#path = path;
  }

  resolve(name: string): PickleFunction | undefined {
    switch (name) {
      case 'collections.OrderedDict':
        return { call: (pairs = []) => this.#dict(pairs) };
      case 'torch._utils._rebuild_tensor_v2':
        return { call: (...args) => this.#tensor(args) };
      case 'torch._utils._rebuild_parameter':
        return { call: (tensor) => tensor };
      default:
        // A type of storage stands only within the description of one.
        return Object.hasOwn(STORAGE_TYPES, name)
          ? { call: () => this.#fail('a tensor', 'a call of a type') }
          : undefined;
    }
  }

  /** ('storage', type, key, device, elements), in the older format with a sixth that is None. */
  persistent(id: unknown): Storage {
    const [tag, type, key, , elements, view] = Array.isArray(id) ? id : [];
    const dtype = STORAGE_TYPES[nameOf(type) ?? ''];
    if (tag !== 'storage' || !dtype || typeof key !== 'string' || !/^\d{1,20}$/.test(key) || !isSize(elements)) {
      return this.#fail('the description of a storage', describe([tag, nameOf(type), key, elements]));
    }
    if (view !== undefined && view !== null) return this.#fail('a whole storage', 'a view of one');
    const known = this.storages.get(key);
    if (known && (known.dtype !== dtype || known.elements !== elements)) {
      return this.#fail(`storage '${key}' to be one thing`, `${known.dtype} and ${dtype}`);
    }
    const storage = known ?? new Storage(key, dtype, elements);
    this.storages.set(key, storage);
    return storage;
  }

  /** The pairs that Python 2 gave to the constructor. */
  #dict(pairs: unknown): Map<unknown, unknown> {
    const isPair = (x: unknown): x is [unknown, unknown] => Array.isArray(x) && x.length === 2;
    if (!Array.isArray(pairs)) return this.#fail('pairs of a dict', describe(pairs));
    this.#dictPairs += pairs.length;
    if (this.#dictPairs > MAX_DICT_PAIRS) return this.#fail(`dicts of at most ${MAX_DICT_PAIRS} pairs`, 'more');
    if (!pairs.every(isPair)) return this.#fail('pairs of a dict', describe(pairs));
    return new Map(pairs);
  }

  /** (storage, offset, shape, strides, requires_grad, hooks, metadata): of these the last may flip signs. */
  #tensor([storage, offset, shape, strides, , , metadata]: unknown[]): Tensor {
    if (metadata instanceof Map && metadata.size > 0)
      return this.#fail('plain values', 'a view that negates or conjugates');
    const isSizes = (x: unknown): x is number[] => Array.isArray(x) && x.length <= MAX_DIMENSIONS && x.every(isSize);
    if (!(storage instanceof Storage) || !isSize(offset) || !isSizes(shape) || !isSizes(strides)) {
      return this.#fail('storage, offset, shape and strides of a tensor', 'something else');
    }
    const count = elementCount(shape);
    // No view larger than its storage: it would cost memory that the file does not have.
    if (strides.length !== shape.length || count === undefined || count > storage.elements) {
      return this.#fail(`a tensor within its storage of ${storage.elements} elements`, `shape ${shapeText(shape)}`);
    }
    const end = offset + extent(shape, strides);
    if (!(end <= storage.elements)) {
      return this.#fail(`a tensor within its storage of ${storage.elements} elements`, `one that ends at ${end}`);
    }
    return new Tensor(storage, offset, shape, strides);
  }

  #fail(expected: string, found: string): never {
    throw damaged(expected, found, this.#path);
  }
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Places of the tensors of a state dict within the file. */
function placeTensors(
  value: unknown,
  path: string,
  locate: (storage: Storage) => { position: number; bytes: number; crc32?: number },
): Map<string, TensorPlace> {
  if (!(value instanceof Map)) throw damaged('a dict of names and tensors (a state dict)', kindOf(value), path);
  const located = new Map<Storage, { position: number; checksum: Checksum | undefined }>();
  const places = new Map<string, TensorPlace>();
  for (const [name, tensor] of value as Map<unknown, unknown>) {
    if (typeof name !== 'string' || !(tensor instanceof Tensor)) {
      throw damaged(`a tensor by the name ${describe(name)}`, kindOf(tensor), path);
    }
    const { storage, offset, shape, strides } = tensor;
    const { dtype, elements } = storage;
    let place = located.get(storage);
    if (!place) {
      const { position, bytes, crc32 = 0 } = locate(storage);
      const expected = elements * ELEMENT_BYTES[dtype];
      if (bytes !== expected) throw damaged(`storage '${storage.key}' of ${expected} bytes`, `${bytes}`, path);
      place = { position, checksum: crc32 === 0 ? undefined : { position, bytes, crc32 } };
      located.set(storage, place);
    }
    places.set(name, {
      dtype,
      shape,
      position: place.position + offset * ELEMENT_BYTES[dtype],
      strides: isRowMajor(shape, strides) ? undefined : strides,
      checksum: place.checksum,
    });
  }
  return places;
}

function isRowMajor(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let d = shape.length - 1; d >= 0; d--) {
    if (shape[d] !== 1 && strides[d] !== expected) return false;
    expected *= shape[d]!;
  }
  return true;
}

function kindOf(value: unknown): string {
  if (value instanceof Map) return 'a dict';
  if (value instanceof Tensor) return 'a tensor';
  return Array.isArray(value) ? 'a list' : `a ${typeof value}`;
}

function checkByteOrder(little: boolean, path: string): void {
  if (!little) throw damaged('little-endian values', 'big-endian ones', path);
}

function damaged(expected: string, found: string, where: string): UserError {
  return new UserError({
    expected,
    found,
    where,
    remedy: 'the file is damaged or no state dict: fetch it again, or get the weights as safetensors',
  });
}
