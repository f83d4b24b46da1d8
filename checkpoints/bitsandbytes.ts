// SPDX-License-Identifier: Apache-2.0
// 4-bit weights as bitsandbytes has them and transformers stores them: beside the packed codes, under the weight's own name,
// lie the scales and a JSON text that says how they were made. What layout and tables mean is drawn in kernels/quant.h. Reads
// NF4 in blocks of 64, its absmax quantised in its turn or not, and refuses the relatives by name. Quantises a weight block by
// block to the bytes that the library gives. Run its tests: `npm test -- checkpoints/bitsandbytes`.
import { UserError } from '../errors.js';
import { native } from '../kernels/index.js';
import { decodeUtf8 } from './files.js';
import { Fields, parseJsonObject } from './json.js';
import type { TensorDeclaration } from './safetensors.js';
import {
  ELEMENT_BYTES,
  elementCount,
  shapeText,
  type TensorData,
  type TensorFile,
  type WeightType,
} from './tensor-file.js';

/** Elements that share an absmax, and absmax values that share a nested one. */
const BLOCK = 64;
const NESTED_BLOCK = 256;
const STATE_SUFFIX = '.quant_state.bitsandbytes__';
const STATE_SUFFIX_NF4 = `${STATE_SUFFIX}nf4`;
/** A state has about 170 bytes: what is reserved for one, and what one may have at most. */
const STATE_BYTES = 256;
const MAX_STATE_BYTES = 4096;
/** Versions of the library computed the 8-bit map on different devices: its values may differ by their last bit. */
const MAP_TOLERANCE = 1e-6;

/** Values of an NF4 weight, as the engine takes them. */
export interface Nf4Values {
  readonly shape: readonly [number, number];
  readonly doubleQuantized: boolean;
  readonly codes: Uint8Array;
  readonly absmaxCodes: Uint8Array;
  readonly absmax: Float32Array;
  readonly absmaxOffset: number;
}

/** A weight whose file has it in NF4: checked, values not read. */
export interface PackedWeight {
  readonly doubleQuantized: boolean;
  readonly absmaxOffset: number;
  /** Names of all its tensors, the codes first. */
  readonly parts: readonly string[];
}

type Tensors = ReadonlyMap<string, TensorFile>;

/** The weight's state tensor by its name, whichever 4-bit type it is of; undefined for a dense weight. */
function stateName(tensors: Tensors, fileName: string): string | undefined {
  for (const type of ['nf4', 'fp4']) {
    const name = `${fileName}${STATE_SUFFIX}${type}`;
    if (tensors.has(name)) return name;
  }
  return undefined;
}

/**
 * A weight's parts, where the files have it in 4 bits; undefined where it is dense.
 * @throws UserError when the parts do not fit each other, the shape, or what is implemented
 */
export function findPacked(tensors: Tensors, fileName: string, shape: readonly number[]): PackedWeight | undefined {
  const name = stateName(tensors, fileName);
  if (name === undefined) return undefined;
  const file = tensors.get(name)!;
  const state = readState(file, name);
  const where = `${file.path}, tensor '${name}'`;
  const type = state.get('quant_type');
  if (type !== 'nf4') throw state.error('quant_type', "'nf4', the only 4-bit type that is implemented", type);
  state.wholeNumber('blocksize', { min: BLOCK, max: BLOCK });
  const stated = state.get('shape');
  if (!Array.isArray(stated) || shapeText(stated) !== shapeText(shape)) {
    throw state.error('shape', `${shapeText(shape)}, as config.json asks for`, stated);
  }
  const doubleQuantized = state.has('nested_blocksize');
  if (doubleQuantized) {
    state.wholeNumber('nested_blocksize', { min: NESTED_BLOCK, max: NESTED_BLOCK });
    if (state.get('nested_dtype') !== 'float32') throw state.error('nested_dtype', "'float32'");
  }
  const absmaxOffset = doubleQuantized ? state.number('nested_offset', {}) : 0;

  const elements = elementCount(shape)!;
  const blocks = Math.ceil(elements / BLOCK);
  const codes = info(tensors, fileName, where);
  // The library can store the packed bytes as another type (bnb_4bit_quant_storage), for training on several devices.
  if ((elementCount(codes.shape) ?? 0) * ELEMENT_BYTES[codes.dtype] !== Math.ceil(elements / 2)) {
    throw wrong(
      `${Math.ceil(elements / 2)} bytes of codes in '${fileName}'`,
      `${codes.dtype} ${shapeText(codes.shape)}`,
      where,
    );
  }
  const partNames = doubleQuantized
    ? {
        absmax: ['U8', blocks],
        nested_absmax: ['F32', Math.ceil(blocks / NESTED_BLOCK)],
        quant_map: ['F32', 16],
        nested_quant_map: ['F32', 256],
      }
    : { absmax: ['F32', blocks], quant_map: ['F32', 16] };
  for (const [part, [dtype, length]] of Object.entries(partNames)) {
    const found = info(tensors, `${fileName}.${part}`, where);
    if (found.dtype !== dtype || elementCount(found.shape) !== length) {
      throw wrong(`${dtype} [${length}] as '${fileName}.${part}'`, `${found.dtype} ${shapeText(found.shape)}`, where);
    }
  }
  checkMap(tensors, `${fileName}.quant_map`, nf4Values(), where);
  if (doubleQuantized) checkMap(tensors, `${fileName}.nested_quant_map`, dynamicMap(), where);
  return {
    doubleQuantized,
    absmaxOffset,
    parts: [fileName, ...Object.keys(partNames).map((part) => `${fileName}.${part}`), name],
  };
}

function readState(file: TensorFile, name: string): Fields {
  const where = `${file.path}, tensor '${name}'`;
  const { dtype, shape } = file.tensors.get(name)!;
  const bytes = elementCount(shape)!;
  if (dtype !== 'U8' || bytes > MAX_STATE_BYTES) {
    throw wrong(`at most ${MAX_STATE_BYTES} U8`, `${dtype} ${shapeText(shape)}`, where);
  }
  const what = 'the state of a quantised weight';
  const text = decodeUtf8(new Uint8Array(file.read(name) as Uint8Array), what, where);
  file.release(name);
  return new Fields(parseJsonObject(text, what, where), where);
}

/** The values of a packed weight in place, valid as long as their file is open. */
export function readPacked(
  tensors: Tensors,
  fileName: string,
  shape: readonly [number, number],
  { doubleQuantized, absmaxOffset }: PackedWeight,
): Nf4Values {
  const read = (part: string) => tensors.get(fileName + part)!.read(fileName + part);
  const codes = read('');
  return {
    shape,
    doubleQuantized,
    codes: new Uint8Array(codes.buffer, codes.byteOffset, codes.byteLength),
    absmaxCodes: doubleQuantized ? (read('.absmax') as Uint8Array) : new Uint8Array(0),
    absmax: read(doubleQuantized ? '.nested_absmax' : '.absmax') as Float32Array,
    absmaxOffset,
  };
}

/** (n) f32 values that an NF4 weight stands for. */
export function dequantized({ shape, codes, absmaxCodes, absmax, absmaxOffset }: Nf4Values): Float32Array<ArrayBuffer> {
  const out = new Float32Array(elementCount(shape)!);
  native().nf4Dequantize(out, codes, absmaxCodes, absmax, absmaxOffset, out.length);
  return out;
}

/** The sixteen values that codes stand for. */
function nf4Values(): Float32Array {
  const codes = Uint8Array.from({ length: 8 }, (_, i) => 2 * i * 16 + 2 * i + 1);
  const out = new Float32Array(16);
  native().nf4Dequantize(out, codes, new Uint8Array(0), Float32Array.of(1), 0, 16);
  return out;
}

/** The 256 values that codes of absmax stand for: those of blocks whose elements are all 1 times their absmax. */
function dynamicMap(): Float32Array {
  const codes = new Uint8Array((256 * BLOCK) / 2).fill(0xff);
  const out = new Float32Array(256 * BLOCK);
  native().nf4Dequantize(
    out,
    codes,
    Uint8Array.from({ length: 256 }, (_, i) => i),
    Float32Array.of(1),
    0,
    out.length,
  );
  return Float32Array.from({ length: 256 }, (_, i) => out[i * BLOCK]!);
}

function checkMap(tensors: Tensors, name: string, expected: Float32Array, where: string): void {
  const file = tensors.get(name)!;
  const found = file.read(name) as Float32Array;
  const other = found.findIndex((value, i) => !(Math.abs(value - expected[i]!) <= MAP_TOLERANCE));
  if (other >= 0) throw wrong(`${expected[other]} at ${other} of '${name}'`, `${found[other]}`, where);
  file.release(name);
}

function info(tensors: Tensors, name: string, where: string) {
  const found = tensors.get(name)?.tensors.get(name);
  if (!found) throw wrong(`tensor '${name}' beside it`, 'none', where);
  return found;
}

function wrong(expected: string, found: string, where: string): UserError {
  return new UserError({
    expected,
    found,
    where,
    remedy: 'fetch the model again, or take the original one and quantise it (tacotune quantize)',
  });
}

/** What transformers has to know in config.json. @param dtype what the weights had been */
export function quantizationConfig(dtype: WeightType): object {
  return {
    _load_in_4bit: true,
    _load_in_8bit: false,
    bnb_4bit_compute_dtype: TORCH_TYPES[dtype],
    bnb_4bit_quant_storage: 'uint8',
    bnb_4bit_quant_type: 'nf4',
    bnb_4bit_use_double_quant: true,
    llm_int8_enable_fp32_cpu_offload: false,
    llm_int8_has_fp16_weight: false,
    llm_int8_skip_modules: ['lm_head'],
    llm_int8_threshold: 6,
    load_in_4bit: true,
    load_in_8bit: false,
    quant_method: 'bitsandbytes',
  };
}

export const TORCH_TYPES = { f32: 'float32', bf16: 'bfloat16', f16: 'float16' } as const;

/** The tensors that a weight of this shape becomes. The state's length is known when its values are. */
export function packedDeclarations(fileName: string, shape: readonly number[]): TensorDeclaration[] {
  const elements = elementCount(shape)!;
  const blocks = Math.ceil(elements / BLOCK);
  return [
    { name: fileName, dtype: 'U8', shape: [Math.ceil(elements / 2), 1] },
    { name: `${fileName}.absmax`, dtype: 'U8', shape: [blocks] },
    { name: `${fileName}.nested_absmax`, dtype: 'F32', shape: [Math.ceil(blocks / NESTED_BLOCK)] },
    { name: `${fileName}.nested_quant_map`, dtype: 'F32', shape: [256] },
    { name: `${fileName}.quant_map`, dtype: 'F32', shape: [16] },
    { name: `${fileName}${STATE_SUFFIX_NF4}`, dtype: 'U8', shape: [STATE_BYTES], shorter: true },
  ];
}

/**
 * Quantises a weight and hands its tensors out by name, the codes in pieces.
 * @param blocks its values in order, each but the last a multiple of 64
 * @param dtype what it had been, for the state
 */
export function quantizePacked(
  fileName: string,
  shape: readonly number[],
  dtype: WeightType,
  blocks: Iterable<Float32Array>,
  put: (name: string, data: TensorData) => void,
): void {
  const ops = native();
  const count = Math.ceil(elementCount(shape)! / BLOCK);
  const absmax = new Float32Array(count);
  let done = 0;
  for (const values of blocks) {
    const codes = new Uint8Array(Math.ceil(values.length / 2));
    const scales = absmax.subarray(done, done + Math.ceil(values.length / BLOCK));
    checkFinite(fileName, values);
    ops.nf4Quantize(codes, scales, values, values.length);
    put(fileName, codes);
    done += scales.length;
  }
  if (done !== count) throw new Error(`${fileName}: ${done} of ${count} blocks`);
  const absmaxCodes = new Uint8Array(count);
  const nested = new Float32Array(Math.ceil(count / NESTED_BLOCK));
  const offset = new Float32Array(1);
  ops.nf4DoubleQuantize(absmaxCodes, nested, offset, absmax, count);
  put(`${fileName}.absmax`, absmaxCodes);
  put(`${fileName}.nested_absmax`, nested);
  put(`${fileName}.nested_quant_map`, dynamicMap());
  put(`${fileName}.quant_map`, nf4Values());
  put(`${fileName}${STATE_SUFFIX_NF4}`, Buffer.from(stateText(shape, dtype, offset[0]!)));
}

/** 4 bits have no code for what is no number: it would turn into another weight. */
function checkFinite(fileName: string, values: Float32Array): void {
  const sum = new Float32Array(1);
  native().sumOfSquares(sum, values, values.length);
  if (Number.isFinite(sum[0]!)) return;
  const at = values.findIndex((value) => !Number.isFinite(value));
  if (at < 0) return; // the sum of very large values
  throw new UserError({
    expected: `finite values in ${fileName}`,
    found: `${values[at]}`,
    where: fileName,
    remedy: 'the model is damaged: fetch it again',
  });
}

/** The JSON that Python writes: with a space after each colon and comma, and its way with floating-point numbers. */
function stateText(shape: readonly number[], dtype: WeightType, offset: number): string {
  const fields = [
    ['quant_type', '"nf4"'],
    ['blocksize', BLOCK],
    ['dtype', `"${TORCH_TYPES[dtype]}"`],
    ['shape', shapeText(shape)],
    ['nested_blocksize', NESTED_BLOCK],
    ['nested_dtype', '"float32"'],
    ['nested_offset', pythonNumber(offset)],
  ];
  return `{${fields.map(([key, value]) => `"${key}": ${value}`).join(', ')}}`;
}

/** A finite number as Python's repr has it: scientific below 1e-4 and from 1e16 on, always with a point or an exponent. */
export function pythonNumber(value: number): string {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e16)) {
    return value.toExponential().replace(/e([+-])(\d)$/, 'e$10$2');
  }
  const text = String(value);
  return text.includes('.') ? text : `${Object.is(value, -0) ? '-0' : text}.0`;
}
