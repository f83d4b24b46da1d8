// SPDX-License-Identifier: Apache-2.0
// The typed mirror of ops.h and the only file that loads the addon. Argument names, order and shapes are those of ops.h;
// what the addon checks (types, counts, ranges) is not checked again here. Run its tests: `npm test -- ops`.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UserError } from '../errors.js';

/** Any typed array: raw bytes whose element type travels beside them. */
export type Bytes = Uint8Array | Uint16Array | Float32Array | Int32Array;

/** Storage types of dense weights, as numbered in types.h. */
export const STORAGE_TYPE = { f32: 0, bf16: 1, f16: 2 } as const;
/** Rounding of the inputs of matrix products, as numbered in types.h. */
export const COMPUTE_TYPE = { f32: 0, bf16: 1 } as const;

type F32 = Float32Array;
type I32 = Int32Array;
type U8 = Uint8Array;

/** The native module. Every op throws an Error that names op and argument; none crashes the process. */
export interface Native {
  embeddingForward(out: F32, ids: I32, weight: Bytes, weightType: number, M: number, V: number, C: number): void;
  embeddingBackward(dweight: F32, dout: F32, ids: I32, M: number, V: number, C: number): void;
  rmsnormForward(out: F32, rstd: F32, inp: F32, weight: F32, M: number, C: number, eps: number): void;
  rmsnormBackward(
    dinp: F32,
    dweight: F32,
    dout: F32,
    inp: F32,
    rstd: F32,
    weight: F32,
    M: number,
    C: number,
    accumulate: number,
  ): void;
  ropeForward(x: F32, table: F32, positions: I32, M: number, H: number, D: number, P: number): void;
  ropeBackward(x: F32, table: F32, positions: I32, M: number, H: number, D: number, P: number): void;
  attentionForward(
    out: F32,
    lse: F32,
    q: F32,
    k: F32,
    v: F32,
    starts: I32,
    B: number,
    Tq: number,
    Tk: number,
    Hq: number,
    Hkv: number,
    D: number,
    compute: number,
  ): void;
  attentionBackward(
    dq: F32,
    dk: F32,
    dv: F32,
    dout: F32,
    q: F32,
    k: F32,
    v: F32,
    out: F32,
    lse: F32,
    starts: I32,
    B: number,
    T: number,
    Hq: number,
    Hkv: number,
    D: number,
    compute: number,
  ): void;
  swigluForward(out: F32, gate: F32, up: F32, n: number): void;
  swigluBackward(dgate: F32, dup: F32, dout: F32, gate: F32, up: F32, n: number): void;
  linearForward(
    out: F32,
    inp: F32,
    weight: Bytes,
    weightType: number,
    M: number,
    N: number,
    K: number,
    alpha: number,
    accumulate: number,
    compute: number,
  ): void;
  linearBackward(
    dinp: F32,
    dout: F32,
    weight: Bytes,
    weightType: number,
    M: number,
    N: number,
    K: number,
    alpha: number,
    accumulate: number,
    compute: number,
  ): void;
  linearWeightBackward(
    dweight: F32,
    dout: F32,
    inp: F32,
    M: number,
    N: number,
    K: number,
    alpha: number,
    compute: number,
  ): void;
  linearNf4Forward(
    out: F32,
    inp: F32,
    codes: U8,
    absmaxCodes: U8,
    absmax: F32,
    absmaxOffset: number,
    M: number,
    N: number,
    K: number,
    accumulate: number,
    compute: number,
  ): void;
  linearNf4Backward(
    dinp: F32,
    dout: F32,
    codes: U8,
    absmaxCodes: U8,
    absmax: F32,
    absmaxOffset: number,
    M: number,
    N: number,
    K: number,
    accumulate: number,
    compute: number,
  ): void;
  dropoutForward(out: F32, inp: F32, n: number, p: number, seed: number): void;
  dropoutBackward(dinp: F32, dout: F32, n: number, p: number, seed: number, accumulate: number): void;
  crossEntropyForward(
    loss: F32,
    inp: F32,
    weight: Bytes,
    weightType: number,
    labels: I32,
    M: number,
    V: number,
    C: number,
    compute: number,
  ): void;
  crossEntropyForwardBackward(
    loss: F32,
    dinp: F32,
    dweight: F32,
    inp: F32,
    weight: Bytes,
    weightType: number,
    labels: I32,
    scale: number,
    M: number,
    V: number,
    C: number,
    compute: number,
  ): void;
  add(out: F32, inp: F32, n: number): void;
  copy(out: F32, inp: F32, n: number): void;
  fill(out: F32, value: number, n: number): void;
  sum(out: F32, inp: F32, n: number): void;
  sumOfSquares(out: F32, inp: F32, n: number): void;
  adamw(
    param: F32,
    grad: F32,
    m: F32,
    v: F32,
    n: number,
    learningRate: number,
    beta1: number,
    beta2: number,
    eps: number,
    weightDecay: number,
    step: number,
    gradScale: number,
  ): void;
  adamw8bit(
    param: F32,
    grad: F32,
    m: U8,
    v: U8,
    mAbsmax: F32,
    vAbsmax: F32,
    n: number,
    learningRate: number,
    beta1: number,
    beta2: number,
    eps: number,
    weightDecay: number,
    step: number,
    gradScale: number,
  ): void;
  nf4Quantize(codes: U8, absmax: F32, inp: F32, n: number): void;
  nf4DoubleQuantize(absmaxCodes: U8, nested: F32, offset: F32, absmax: F32, blocks: number): void;
  nf4Dequantize(out: F32, codes: U8, absmaxCodes: U8, absmax: F32, absmaxOffset: number, n: number): void;
  toF32(out: F32, inp: Bytes, type: number, n: number): void;
  fromF32(out: Bytes, inp: F32, type: number, n: number): void;

  /** Implementations this processor can run, best first; the scalar `reference` is last. */
  instructionSets(): string[];
  selectInstructionSet(name: string): void;
  instructionSet(): string;
  /** Threads that ops run on, the caller's included. */
  threads(): number;
  setThreads(count: number): void;
  /** For benchmarks: does multiply-adds in registers on all threads and returns how many floating-point operations. */
  multiplyAddCeiling(compute: number, steps: number): number;
  /** Bytes of scratch memory that ops hold for themselves. */
  scratchBytes(): number;
  releaseScratch(): void;
  /** Zeroed memory outside the JavaScript heap; `release` gives it back at once and detaches the buffer. */
  allocate(bytes: number): ArrayBuffer;
  release(buffer: ArrayBuffer): void;
  /**
   * A part of an open file mapped into memory, copy-on-write: writing to it changes neither the file nor other readers. The
   * descriptor may be closed afterwards. Throws where the part is not within the file.
   */
  mapFile(file: number, offset: number, bytes: number): ArrayBuffer;
  /** Copies within the kernel. Returns the bytes copied, or minus the system's error number. */
  copyRange(from: number, fromOffset: number, to: number, toOffset: number, bytes: number): number;
  /** Gives the memory behind a mapped file back; what was written to it is lost, and it is read from the file when next touched. */
  dropPages(buffer: ArrayBuffer): void;
}

/** Names a lower instruction set to use than the best one, for comparison and for tests. */
export const INSTRUCTION_SET_VARIABLE = 'TACOTUNE_INSTRUCTION_SET';

let loaded: Native | undefined;

/** The native module, loaded at the first call. @throws UserError when it was not built or does not fit this Node. */
export function native(): Native {
  loaded ??= load();
  return loaded;
}

function load(): Native {
  const require = createRequire(import.meta.url);
  // This file runs from dist/kernels/; the addon is built into build/Release/ beside dist/.
  const path = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'build', 'Release', 'tacotune.node');
  if (!existsSync(path)) {
    throw new UserError({
      expected: 'the native addon',
      found: 'no such file',
      where: path,
      remedy: "run 'npm run build' (needs python3, make and g++)",
    });
  }
  let module: Native;
  try {
    module = require(path) as Native;
  } catch (cause) {
    throw new UserError({
      expected: `a native addon for Node ${process.version} on ${process.platform}-${process.arch}`,
      found: (cause as Error).message,
      where: path,
      remedy: "remove the folder 'build' and run 'npm run build'",
      cause,
    });
  }
  const wanted = process.env[INSTRUCTION_SET_VARIABLE];
  if (wanted) {
    if (!module.instructionSets().includes(wanted)) {
      throw new UserError({
        expected: `${INSTRUCTION_SET_VARIABLE} to be one of ${module.instructionSets().join(', ')} (what this processor has)`,
        found: `'${wanted}'`,
      });
    }
    module.selectInstructionSet(wanted);
  }
  return module;
}
